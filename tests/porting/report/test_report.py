# SPDX-License-Identifier: Apache-2.0
"""The report: its JSON keeps the published schema, its page is safe and complete, its files come together or not."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from porting.files import atomic
from porting.pages.highlight import highlight, tokens
from porting.report import model as report
from porting.report.model import (
    FILES,
    Case,
    ConfigKeys,
    Formula,
    IgnoredKey,
    LayerError,
    Memory,
    ModelInfo,
    Report,
    UsedKey,
    Validation,
    Verdict,
    to_json,
    versions,
)
from porting.report.page import render_html
from porting.report.writing import write
from tests.porting.report.sample_report import SPEC, sample_report

HOSTILE = '</script><img src=x onerror="alert(1)">&{{ 7*7 }}'
VOID = {"meta", "input", "br", "img"}


class Page(HTMLParser):
    """Collects the elements, attributes and text of a page, and fails where elements do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag == "td" else ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text += data


def data(made: Report) -> dict:
    return json.loads(to_json(made))


# The published schema


def test_json_has_every_promised_key():
    found = data(sample_report())
    assert found["schema"] == "sohu.report/1"
    assert found["verdict"] == "pass"
    assert {"source", "revision", "architecture", "model_type"} <= found["model"].keys()
    assert {"used", "ignored", "unread"} <= found["config_keys"].keys()
    assert {"total", "consumed", "unused", "missing"} <= found["tensors"].keys()
    assert {"weights_bytes", "state_bytes_per_token", "formulas"} <= found["memory"].keys()
    case = {"mode", "numerics", "error", "reference", "limit", "top1", "tokens", "pass"}
    assert all(case <= entry.keys() for entry in found["validation"]["cases"])
    assert found["timing"]["read"] == 0.412


def test_diagnostics_carry_code_message_severity_and_span():
    error, warning = data(sample_report(Verdict.REFUSED))["diagnostics"]
    assert (error["code"], error["severity"], error["span"]) == ("S401", "error", None)
    assert warning["span"]["start"]["line"] == 42


def test_tensors_are_counted_and_the_odd_ones_named():
    found = data(sample_report(Verdict.FAIL))["tensors"]
    assert (found["total"], found["consumed"]) == (123, 122)
    assert found["unused"] == ["model.layers.30.mlp.up_proj.weight"]
    assert found["missing"] == ["model.layers.29.mlp.gate_proj.weight"]
    assert {"name": "model.layers.*.mlp.up_proj.weight", "count": 30} in found["patterns"]


def test_numbers_that_json_lacks_become_null():
    made = sample_report(Verdict.FAIL)
    odd = replace(made, memory=Memory(formulas={"x": Formula("1/0", math.inf)}))
    assert data(odd)["memory"]["formulas"]["x"]["value"] is None
    assert data(made)["validation"]["cases"][8]["error"] is None


def test_json_is_reproducible():
    assert to_json(sample_report()) == to_json(sample_report())


def test_versions_name_what_results_depend_on():
    found = versions()
    assert {"python", "numpy", "sympy"} <= found.keys()


# The page


@pytest.mark.parametrize("verdict", Verdict)
def test_page_is_well_formed_and_self_contained(verdict):
    text = render_html(sample_report(verdict), SPEC)
    for tag, attributes in Page(text).elements:
        assert tag not in {"link", "img", "iframe", "object"}
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not re.search(r"https?://|@import|url\(", text)


def test_page_of_an_empty_report_is_well_formed():
    for verdict in Verdict:
        Page(render_html(Report(verdict, ModelInfo("somewhere")), ""))


def test_page_shows_every_number_of_a_case():
    page = Page(render_html(sample_report(Verdict.FAIL), SPEC))
    words = " ".join(page.text.split())
    assert "chunks of 7 bf16 FAIL 48 0.31 0.0121 0.0145 2135 % 84 %" in words
    assert "ragged batch bf16 FAIL 48 not finite 0.0121 0.0145 – –" in words
    assert "2 of 10 cases over the limit: chunks of 7 in bf16, ragged batch in bf16." in words


def test_page_says_what_became_of_every_key():
    text = render_html(sample_report(), SPEC)
    words = " ".join(Page(text).text.split())
    assert "num_key_value_heads 3 used as K" in words
    assert "use_cache true ignored: the device always keeps its state" in words
    assert "used as theta · read from rope_theta" in words


def test_unread_keys_come_first():
    keys = ConfigKeys(used=(UsedKey("a", "A", 1),), unread=("foo_factor",))
    words = Page(render_html(replace(sample_report(), config_keys=keys), SPEC)).text
    assert words.index("foo_factor") < words.index("used as")


def test_page_holds_the_spec_line_by_line():
    text = render_html(sample_report(), SPEC)
    assert text.count('<span class="line"') == len(SPEC.splitlines())
    start = text.index('<pre class="spec"')
    shown = Page(text[start : text.index("</pre>", start) + len("</pre>")]).text
    assert shown == SPEC


def test_a_diagnostic_links_to_its_line():
    text = render_html(sample_report(Verdict.FAIL), SPEC)
    assert 'href="#L43"' in text
    assert 'href="#L43"' not in render_html(sample_report(Verdict.FAIL), SPEC + "\n")


def test_text_from_outside_is_escaped():
    made = _hostile(sample_report(Verdict.FAIL))
    text = render_html(made, HOSTILE + "\n# " + HOSTILE + '\n"' + HOSTILE)
    assert "<img" not in text
    assert text.count("</script>") == 1
    assert "{{ 7*7 }}" in Page(text).text


def test_no_plot_without_usable_errors():
    cases = (Case("prefill", "f32", math.nan, 0.0, False),)
    layers = (LayerError("f32", 0, 0.0), LayerError("f32", 1, math.inf))
    made = replace(sample_report(), validation=Validation(cases, layers))
    assert "<svg" not in render_html(made, SPEC)


def test_one_layer_can_be_plotted():
    made = replace(sample_report(), validation=Validation(layers=(LayerError("f32", 0, 1e-7),)))
    assert "<svg" in render_html(made, SPEC)


def _hostile(value):
    """Return a report with every text in it replaced."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, tuple):
        return tuple(_hostile(item) for item in value)
    if isinstance(value, dict):
        return {HOSTILE + key: _hostile(item) for key, item in value.items()}
    if is_dataclass(value) and type(value).__module__ == report.__name__:
        parts = {f.name: _hostile(getattr(value, f.name)) for f in fields(value)}
        return type(value)(**parts)
    return value


# Colours


def test_tokens_put_together_are_the_text():
    for text in (SPEC, "", "\n", 'weight "open\n\x00@ 1.5e-3 é', HOSTILE):
        assert "".join(token for _, token in tokens(text)) == text


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("weight", "keyword"),
        ("family", "declaration"),
        ("bf16", "dtype"),
        ("@tp", "mesh"),
        ("E", "dim"),
        ("all_reduce", "op"),
        ("norm1", "name"),
        ("1e-05", "number"),
        ("# hidden_size", "comment"),
    ],
)
def test_token_kinds(token, kind):
    assert (kind, token) in [(kind.value, token) for kind, token in tokens(SPEC)]


def test_holes_stand_out_in_strings():
    before, after = "&#34;a.", '<span class="t-string">.b&#34;</span>'
    assert highlight('"a.{i}.b"') == [
        f'<span class="t-string">{before}</span><span class="t-hole">{{i}}</span>{after}'
    ]


# Files


def files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_write_makes_the_three_files(tmp_path):
    out = tmp_path / "ports" / "acme--tiny"
    write(out, SPEC, sample_report())
    assert files(out).keys() == set(FILES)
    assert (out / "model.sohu").read_text() == SPEC
    assert json.loads((out / "report.json").read_text())["verdict"] == "pass"
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_write_replaces_an_older_port(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)
    out = tmp_path / "out"
    write(out, "old\n", sample_report(Verdict.FAIL))
    write(out, SPEC, sample_report())
    assert files(out).keys() == set(FILES)
    assert (out / "model.sohu").read_text() == SPEC
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_write_leaves_foreign_files_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    write(tmp_path / "out", SPEC, sample_report())
    found = files(tmp_path / "out")
    assert found.keys() == {*FILES, "notes.txt"}
    assert found["notes.txt"] == "mine"


def test_write_follows_a_link_to_a_directory(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    write(tmp_path / "out", SPEC, sample_report())
    assert (tmp_path / "out").is_symlink()
    assert files(tmp_path / "real").keys() == set(FILES)


def test_write_refuses_a_file_as_directory(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError):
        write(tmp_path / "out", SPEC, sample_report())
    assert files(tmp_path) == {"out": "mine"}


@pytest.mark.parametrize("with_foreign", [True, False])
@pytest.mark.parametrize("fail_at", range(8))
def test_a_failure_at_any_rename_or_write_changes_nothing(
    tmp_path, monkeypatch, fail_at, with_foreign
):
    out = tmp_path / "out"
    write(out, "old\n", sample_report(Verdict.FAIL))
    if with_foreign:
        (out / "notes.txt").write_text("mine")
    before = files(out)
    failed = _fail_once(monkeypatch, fail_at)
    try:
        write(out, SPEC, sample_report())
    except OSError:
        assert files(out) == before
    else:
        assert not failed
        assert files(out)["model.sohu"] == SPEC
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _fail_once(monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    """Make the disk full at one file system step; return the list that then holds that step."""
    failed: list[int] = []
    steps = iter(range(1000))
    rename, write_file = Path.rename, atomic._write

    def full(name: str) -> None:
        if next(steps) == at:
            failed.append(at)
            raise OSError(28, "no space left on device", name)

    def failing_rename(path: Path, target: Path) -> Path:
        full(path.name)
        return rename(path, target)

    def failing_write(path: Path, content: bytes) -> None:
        full(path.name)
        write_file(path, content)

    monkeypatch.setattr(Path, "rename", failing_rename)
    monkeypatch.setattr(atomic, "_write", failing_write)
    return failed


def test_a_failing_page_writes_nothing(tmp_path):
    class Unwritable:
        """A value that has no text."""

        def __repr__(self) -> str:
            raise RuntimeError

    odd = replace(
        sample_report(), config_keys=ConfigKeys(ignored=(IgnoredKey("a", "b", Unwritable()),))
    )
    with pytest.raises((RuntimeError, TypeError)):
        write(tmp_path / "out", SPEC, odd)
    assert list(tmp_path.iterdir()) == []
