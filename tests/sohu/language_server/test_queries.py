# SPDX-License-Identifier: Apache-2.0
"""What is asked of texts, without a server: broken texts, odd characters, scopes, and the limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsl.diagnostics import did_you_mean, meant
from dsl.source import Source
from dsl.text import syntax as sx
from porting.planning.library import ZOO
from sohu.language_server.completing import complete
from sohu.language_server.cursor import cursor_at
from sohu.language_server.desk import Desk, path_of
from sohu.language_server.hinting import hints
from sohu.language_server.hovering import hover
from sohu.language_server.mending import mended
from sohu.language_server.navigating import NameKept, definition, references, rename
from sohu.language_server.positions import UNITS, Positions, Shift
from sohu.language_server.repairing import formatted, quick_findings, repairs, whole_findings
from sohu.language_server.view import View
from tests.conftest import TESTS

TINY = (TESTS.parent / "docs" / "examples" / "tiny.sohu").read_text(encoding="utf-8")
FAMILY = (ZOO / "families" / "llama.sohu").read_text(encoding="utf-8")
ODD = "sohu 1.0\n# Größe 😀 \u2028 and\x0c more\r\nblock b(x: f32[N]) -> f32[N] {  # é😀\n  return silu(x)\n}\n"


def view(text: str, path: Path | None = None) -> View:
    return View(str(path or "untitled:1"), text, path)


def after(text: str, before: str) -> int:
    return text.index(before) + len(before)


def labels(text: str, before: str) -> list[str]:
    offset = after(text, before)
    return [p.label for p in complete(cursor_at(text, offset), view(text), offset)]


# Places


@pytest.mark.parametrize("encoding", UNITS)
def test_every_offset_of_odd_characters_comes_back(encoding: str) -> None:
    places = Positions(ODD, encoding)
    for offset in range(len(ODD) + 1):
        if ODD[offset - 1 : offset + 1] != "\r\n":
            assert places.offset(*places.position(offset)) == offset


def test_lines_end_where_the_protocol_has_them_end() -> None:
    places = Positions("a\u2028b\x0cc\r\nd\re\nf")
    assert [places.position(i) for i in (0, 5, 7, 9, 11)] == [
        (0, 0),
        (0, 5),
        (1, 0),
        (2, 0),
        (3, 0),
    ]
    assert Positions("😀x").position(1) == (0, 2)
    assert Positions("😀x", "utf-8").position(1) == (0, 4)
    assert places.offset(99, 0) == len(places.text)
    assert places.offset(0, 99) == 5


@pytest.mark.parametrize(
    ("old", "new"), [("abcd", "abXcd"), ("abcd", "ad"), ("", "ab"), ("aaa", "aa"), ("abc", "abc")]
)
def test_places_move_with_an_edit(old: str, new: str) -> None:
    shift = Shift.between(old, new)
    for offset, char in enumerate(old):
        moved = shift.after(offset)
        if offset < shift.start or offset >= shift.old_end:
            assert new[moved] == char
            assert shift.before(moved) == offset
    assert shift.after(len(old)) == len(new)


# Texts that have errors


BREAKS = (
    "  x = matmul(",
    "  x = = 3",
    "  wieght w: bf16[D]",
    "  weight w: bf16[D from",
    '  y = "abc',
    "  y = x ; z",
    "  repeat i < L cary x {\n    z = x\n  }",
    "  y = rms_norm(\n    x,\n    norm1 eps=eps\n  )",
    "  if tied {",
)


@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_left_of_a_broken_text_keeps_its_places(broken: str) -> None:
    text = TINY.replace("  input tokens", f"{broken}\n  input tokens", 1)
    left = mended(Source("t", text))
    assert left.faults
    assert left.file is not None
    assert [f.name.id for f in left.file.families] == [f.name.id for f in view(TINY).file.families]
    place = after(text, "input tok")
    about = hover(view(text), place)
    assert about is not None
    assert text[about.span.start : about.span.end] == "tokens"


def test_the_last_tree_answers_where_nothing_is_left() -> None:
    desk = Desk()
    document = desk.put("untitled:1", TINY, 1)
    text = TINY.replace("family ", "famly ").replace("sohu 1.0", "sohu 1.0\n\n")
    document = desk.put("untitled:1", text, 2)
    assert not document.view.has_tree
    known, place, shift = document.answering(after(text, "input tok"))
    about = hover(known, place)
    assert about is not None
    assert shift is not None
    assert text[shift.after(about.span.start) : shift.after(about.span.end)] == "tokens"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00\ud800",
        "(" * 5000,
        "sohu 1.0\n" + 'family f for "X" {' * 500,
        "sohu 1.0\n" + "x = " * 30_000,
        "a" * 300_000,
        "sohu 1.0\nblock b(x: f32[N]) -> f32[N] {\n" + "y = x + x\n" * 9000 + "return y\n}",
    ],
)
def test_hostile_texts_are_answered(text: str) -> None:
    one = view(text)
    assert quick_findings(one)
    for offset in (0, len(text) // 2, len(text)):
        hover(one, offset)
        definition(one, offset)
        complete(cursor_at(text[:2000], min(offset, 2000)), one, offset)
    assert formatted(one) is None
    hints(one)


def test_only_files_of_this_machine_have_a_path() -> None:
    assert path_of("file:///a/b%20c.sohu") == Path("/a/b c.sohu")
    for uri in ("untitled:1", "file://host/a", "file:///a%00", "http://x/a", "vscode-vfs://x/a"):
        assert path_of(uri) is None


# Names


def test_a_name_means_what_was_bound_last_on_each_way() -> None:
    text = (
        "sohu 1.0\nblock b(x: f32[N], wide: bool) -> f32[N] {\n  y = silu(x)\n  if wide {\n"
        "    y = gelu(y)\n  }\n  return y\n}\n"
    )
    one = view(text)
    spans = definition(one, after(text, "return "))
    assert [text[: s.start].count("\n") for s in spans] == [2, 4]
    assert [text[: s.start].count("\n") for s in definition(one, after(text, "gelu("))] == [2]
    assert len(references(one, after(text, "return "))) == 4


STACKED = """sohu 1.0
block many(x: f32[N], X: dim, wide: bool) -> f32[X, N] {
  weight w: f32[X, N] from stack(e < X, "a.{e}.b")
  y = w + w
  if wide {
    y = silu(y)
  }
  return y
}
"""


@pytest.mark.parametrize("text", [TINY, STACKED, FAMILY])
def test_a_text_whose_names_are_renamed_is_sound_still(text: str) -> None:
    """The checker is the judge: a place that is forgotten means nothing any more."""
    one = view(text)
    own = {
        (declaration.span, mention.id): mention.span.start
        for declaration in one.file.declarations
        if not isinstance(declaration, sx.Use)
        for mention in one.mentions(declaration)
        if mention.span.source is one.file.span.source
    }
    renamed = 0
    for (_, old), place in own.items():
        new = "Renamed" if old[0].isupper() else "renamed"
        try:
            spans = rename(one, place, new)
        except NameKept:
            continue
        changed = text
        for span in sorted(spans, key=lambda s: -s.start):
            changed = changed[: span.start] + new + changed[span.end :]
        other = View(one.name, changed, None, one.shelf)
        assert (*other.mended.faults, *other.linked.faults, *other.glimpsed[1]) == (), old
        renamed += 1
    assert renamed >= 3


def test_shapes_are_seen_on_all_paths() -> None:
    path = ZOO / "blocks" / "attention.sohu"
    text = path.read_text(encoding="utf-8")
    one = view(text, path)
    told = hover(one, after(text, "append(key"))
    assert told is not None
    assert "`bf16[B, K @tp, min(C, window - 1), E] or " in told.markdown


def test_hints_say_what_the_text_does_not() -> None:
    path = ZOO / "ports" / "llama-3.1-70b.sohu"
    text = path.read_text(encoding="utf-8")
    shown = {(text[: h.offset].split()[-1], h.text) for h in hints(view(text, path))}
    assert {("R", " = 128"), ("h", ": bf16[B, S, 8192]"), ("freqs", ": f32[64]")} <= shown
    assert not {name for name, words in shown if words in (" = 1.0", " = C")}


def test_an_operation_says_its_rules() -> None:
    text = (ZOO / "blocks" / "norm.sohu").read_text(encoding="utf-8")
    told = hover(view(text), after(text, "rms_no"))
    assert told is not None
    for words in ("rms_norm(x, w=none, eps, offset=0.0) -> as x", "- `rms_norm_c4`:", "sqrt(mean"):
        assert words in told.markdown


def test_unsaved_blocks_are_those_that_count(tmp_path: Path) -> None:
    (tmp_path / "mine.sohu").write_text("sohu 1.0\n")
    user = 'sohu 1.0\nuse "mine.sohu"\nblock b(x: f32[N]) -> f32[N] {\n  return twice(x)\n}\n'
    twice = "sohu 1.0\nblock twice(x: f32[N]) -> f32[N] {\n  return x + x\n}\n"
    desk = Desk()
    document = desk.put((tmp_path / "user.sohu").as_uri(), user, 1)
    assert [f.diagnostic.code for f in whole_findings(document.view)] == ["S206"]
    desk.put((tmp_path / "mine.sohu").as_uri(), twice, 1)
    assert whole_findings(document.view) == ()
    desk.close((tmp_path / "mine.sohu").as_uri())
    assert [f.diagnostic.code for f in whole_findings(document.view)] == ["S206"]


def test_faults_of_a_used_file_stand_at_its_use(tmp_path: Path) -> None:
    (tmp_path / "mine.sohu").write_text("sohu 1.0\nblock b(x: f32[N) -> f32[N] { return x }\n")
    user = tmp_path / "user.sohu"
    [finding] = whole_findings(view('sohu 1.0\nuse "mine.sohu"\n', user))
    assert finding.diagnostic.code == "S103"
    assert finding.span.text == '"mine.sohu"'
    assert finding.elsewhere[0][0].source.name == str(tmp_path / "mine.sohu")


# Completion and repairs


def test_completion_knows_where_it_is() -> None:
    text = TINY.replace("matmul(h, wq)", "matmul(")
    assert labels(text, "matmul(")[:2] == ["x=", "w="]
    assert {"wq", "keys", "h", "freqs", "D"} <= set(labels(text, "matmul("))
    assert "q" not in labels(text, "    h = ")
    assert labels(TINY, "# ") == []
    assert labels("", "") == ["family", "block", "part", "use"]
    assert labels("sohu 1.0\nblock b(x: ", "(x: ")[:2] == ["dim", "int"]
    assert labels('sohu 1.0\nuse "', 'use "')[:2] == ["blocks/attention.sohu", "blocks/bart.sohu"]
    assert labels('family f for "', 'for "')[:1] == ["AfmoeForCausalLM"]
    assert "causal" in labels('family f for "A" {\n  a = attention(q, mask="', 'mask="')
    assert labels("family f for {\n  dims { B: ", "B: ")[:3] == ["batch", "seq", "context"]


def test_a_help_line_is_read_as_it_is_written() -> None:
    assert meant(did_you_mean("wieght", ["weight", "state"])) == "weight"
    assert meant("statements need no separator") == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("  weight wq", "  wieght wq"),
        ("matmul(h, wq)", "matmal(h, wq)"),
        ("gated_mlp(", "gated_mpl("),
        ("eps=1e-05", "ep=1e-05"),
        ('"causal"', '"casual"'),
        ("wo: dtype", "wo: dtpye"),
        ("{ B: batch", "{ B: bacth"),
        ('use "blocks/head.sohu"', 'use "blocks/haed.sohu"'),
        ("append(keys, k)", "append(kyes, k)"),
        ("require D == 64", "require D = 64"),
        ("tokens: i32[B, S]", "tokens: i32[B, S];"),
    ],
)
def test_a_repair_is_what_was_meant(right: str, wrong: str) -> None:
    sound = TINY.replace("dims {", "require D == 64\n  dims {")
    text = sound.replace(right, wrong, 1)
    findings = whole_findings(view(text))
    [first, *_] = repairs(findings, 0, len(text))
    assert text[: first.span.start] + first.text + text[first.span.end :] == sound


def test_a_schedule_is_proven_and_laid_out():
    head = "sohu 1.0\ntopology r { ring 4; link 90 GB/s, 1 us }\n"
    wrong = view(head + "collective broadcast over r chunks 1 { step { 0 -> 2: c0 } }\n")
    (finding,) = whole_findings(wrong)
    assert (finding.diagnostic.code, finding.span.text) == ("S623", "0 -> 2: c0")
    assert quick_findings(wrong) == (finding,)
    sound = view(head)
    assert whole_findings(sound) == quick_findings(sound) == ()
    change = formatted(sound)
    assert change is not None
    span, text = change
    new = sound.text[: span.start] + text + sound.text[span.end :]
    assert new == "sohu 1.0\n\ntopology r {\n  ring 4\n  link 90 GB/s, 1 us\n}\n"
    assert complete(cursor_at(head, len(head)), sound, len(head)) is not None
