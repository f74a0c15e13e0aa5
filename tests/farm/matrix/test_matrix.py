# SPDX-License-Identifier: Apache-2.0
"""The farm's plumbing: what is covered, what is skipped, what is kept, and what a failure does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.__main__ import line, main
from farm.matrix import cells as farm_cells
from farm.matrix.cells import Cell, Result, key_of
from farm.matrix.matrix import QUICK, cells, run, whole
from farm.matrix.registry import family_types, published_of, spec_lines, uncovered_types
from farm.matrix.status import as_html, as_markdown, status_of
from farm.matrix.store import Store, newest
from farm.oracles.shrink import causal_types
from porting.planning.library import families
from porting.planning.missing_family import lacking
from porting.verdict.feeding import MODES

ROOT = Path(__file__).parents[3]
CASE = {
    "mode": "prefill", "numerics": "bf16", "error": 1e-2, "reference": 8e-3, "limit": 1.2e-2, "top1": 1.0,
    "pcc": 0.9999, "pass": True,
}  # fmt: skip


def result(model_type: str, verdict: str = "pass", key: str = "k") -> Result:
    return Result(key, model_type, "llama", verdict, "" if verdict == "pass" else "why", (CASE,))


def test_every_family_covers_a_type_that_transformers_has() -> None:
    assert set(family_types()) | set(uncovered_types()) == set(causal_types())
    assert set(family_types().values()) == set(families().values())


def test_the_reasons_name_exactly_the_uncovered_types() -> None:
    assert sorted(lacking()) == sorted(uncovered_types())


def test_the_quick_tier_is_a_part_of_the_matrix() -> None:
    assert set(QUICK) < {mode.name for mode in MODES}


def test_a_run_keeps_results_and_skips_what_is_known(tmp_path: Path) -> None:
    store, told = Store(tmp_path / "results.jsonl"), []
    wanted = cells(["llama"], ["f32"], QUICK, oracles=["defaults"])
    first = run(wanted, store, 1, lambda found, _done, _total: told.append(found))
    assert [found.verdict for found in first] == ["pass"]
    assert [case["mode"] for case in first[0].cases] == list(QUICK)
    before = store.path.stat().st_mtime_ns
    again = run(wanted, store, 1, lambda found, _done, _total: told.append(found))
    assert [found.to_dict() for found in again] == [found.to_dict() for found in first]
    assert store.path.stat().st_mtime_ns == before
    assert len(told) == 2


def test_a_key_depends_on_family_numerics_modes_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key_of(Cell("llama")), key_of(Cell("qwen2")), key_of(Cell("llama", ("f32",)))}
    monkeypatch.setattr(farm_cells, "texts", lambda _path: ("another text",))
    keys.add(key_of(Cell("llama")))
    monkeypatch.setattr(farm_cells, "code_digest", lambda: "another code")
    keys.add(key_of(Cell("llama")))
    assert len(keys) == 5


def test_a_damaged_line_counts_as_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.jsonl")
    store.save([result("llama", key="a"), result("qwen2", key="b")])
    whole = store.path.read_text()
    older = json.dumps({"key": "c", "of": "another layout"})
    store.path.write_text(f"{older}\n[1]\n{whole}"[:-9])
    assert list(store.load()) == ["a"]
    assert list(newest(store.load(), ["a", "z"])) == ["llama"]


@pytest.mark.parametrize("command", ["run --types", "strength --types", "bugs", "flips"])
def test_a_type_without_a_family_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "no_such_type"]) == 2
    assert "no family covers no_such_type" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["describe no_such_type", "oracle no_such_type nowhere"])
def test_a_type_that_transformers_lacks_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    assert "no_such_type" in capsys.readouterr().err


def test_a_type_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "llama"]) == 0
    assert "num_key_value_heads = 2" in capsys.readouterr().out


def test_what_does_not_make_results_exists() -> None:
    assert [name for name in farm_cells.APART if not (farm_cells.ROOT / name).exists()] == []


def test_a_failure_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("farm.__main__.run", lambda *_: [result("llama", "fail")])
    assert main(["run", "--types", "llama", "--store", str(tmp_path / "s.jsonl")]) == 1
    assert "llama: fail" in capsys.readouterr().out


def test_a_line_shows_the_worst_case() -> None:
    worse = CASE | {"error": 2e-2, "mode": "ragged batch"}
    found = Result("k", "llama", "llama", "fail", cases=(CASE, worse))
    assert "bf16 2.0e-02 of 1.2e-02 (ragged batch)" in line(found)


def test_the_page_shows_passing_failing_and_missing_types() -> None:
    # Of a type that has them the published configs count as well.
    assert "helium" not in published_of(family_types())
    results = [result("helium"), result("llama"), result("qwen2", "fail")]
    status = status_of({found.name: found for found in results})
    assert status.passing == 1
    text, page = as_markdown(status), as_html(status)
    for shown in (text, page):
        assert "1 of 189 causal types pass" in shown
        assert "1.25" in shown
        assert "why" in shown
        assert "reformer" in shown
        assert "microsoft--phi-2" in shown
    assert "prefers-color-scheme: dark" in page
    assert {len(row) for row in status.rows} == {16}


def test_lines_of_a_family_are_those_that_say_something(tmp_path: Path) -> None:
    path = tmp_path / "a.sohu"
    path.write_text("sohu 1.0\n\n# a remark\nfamily a {\n}\n")
    assert spec_lines(path) == 3


def test_tox_names_the_same_modes_as_the_farm() -> None:
    text = (ROOT / "toxfile.py").read_text(encoding="utf-8")
    names = tuple(mode.name.split()[0] for mode in MODES)
    assert f"MODES = {names!r}".replace("'", '"') in text


def test_numerics_that_the_original_lacks_are_not_asked_for() -> None:
    assert whole("xlstm").numerics == ("f32",)
    assert whole("llama").numerics == ("f32", "bf16")
