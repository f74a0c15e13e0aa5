# SPDX-License-Identifier: Apache-2.0
"""The verdict as users run it: `sohu validate` on a port whose text was changed where people go wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dsl.diagnostics import Refused
from farm.oracles.tiny import tiny
from porting.pipeline import Brought, port, validate_port
from porting.report.model import Report, Verdict
from porting.verdict import validate as judge
from porting.verdict.asked import own_rows
from porting.verdict.rows import BUDGET, Size

pytestmark = pytest.mark.f32


def made(tmp_path: Path, model_type: str, **keys: object) -> tuple[Path, Report]:
    folder = tiny(tmp_path / "model", model_type, **keys)
    report, out = port(str(folder), out=tmp_path / "port")
    return out, report


def edited(out: Path, pattern: str, now: str) -> None:
    path = out / "model.sohu"
    text, count = re.subn(pattern, now, path.read_text(encoding="utf-8"))
    assert count
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("window", "wrong"), [(1024, 512), (1000, 999), (1000, 1001), (512, 0)])
def test_another_window_fails(window: int, wrong: int, tmp_path: Path) -> None:
    out, report = made(tmp_path, "mistral", sliding_window=window)
    assert report.verdict is Verdict.PASS
    assert window in [x.length for x in report.validation.lengths if x.crossed]
    edited(out, rf"= {window}( +# sliding_window)", rf"= {wrong}\1")
    judged = validate_port(out, numerics=("f32",))
    assert judged.verdict is Verdict.FAIL
    over = [row.name for row in judged.validation.rows if row.errors["f32"] > 1e-5]
    assert over
    assert all(name.startswith("crossing") for name in over)


def test_a_thousand_tokens_are_judged_and_named(tmp_path: Path) -> None:
    _, report = made(tmp_path, "llama")
    assert report.validation.tokens >= 1000
    assert {case.tokens for case in report.validation.cases if case.mode == "prefill"} == {
        report.validation.tokens
    }


def test_a_length_that_is_too_dear_is_crossed_on_a_smaller_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, report = made(tmp_path, "mistral", sliding_window=1000)
    real = judge.size_of

    def dear(graph: object, vocabulary: int) -> Size:
        size = real(graph, vocabulary)  # type: ignore[arg-type]  # handed on
        is_twin = vocabulary != 97
        return size if is_twin else Size(int(BUDGET / 2 / 500), size.heads, vocabulary)

    monkeypatch.setattr(judge, "size_of", dear)
    judged = validate_port(out, numerics=("f32",))
    assert judged.verdict is Verdict.PASS
    assert {x.length: x.crossed for x in judged.validation.lengths}[1000] == "smaller twin"
    assert any(case.mode.endswith("smaller twin") for case in judged.validation.cases)
    edited(out, r"= 1000( +# sliding_window)", r"= 999\1")
    wrong = validate_port(out, numerics=("f32",))
    assert wrong.verdict is Verdict.FAIL
    failed = [case.mode for case in wrong.validation.cases if not case.passed]
    assert failed
    assert all(mode.endswith("smaller twin") for mode in failed)
    assert report.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("pattern", "now"),
    [
        (r"score=score", 'score="sigmoid"'),
        (r"normalize=normalize", "normalize=false"),
        (r"top=T\b", "top=2"),
    ],
)
def test_pinned_choices_hide_no_router_mistake(pattern: str, now: str, tmp_path: Path) -> None:
    out, report = made(tmp_path, "mixtral")
    assert report.verdict is Verdict.PASS
    edited(out, pattern, now)
    assert validate_port(out).verdict is Verdict.FAIL


def test_close_choices_are_counted_and_few_in_f32(tmp_path: Path) -> None:
    _, report = made(tmp_path, "mixtral")
    pins = {p.numerics: p for p in report.validation.pins}
    assert pins["bf16"].close > pins["bf16"].differed > 0
    assert len(pins["bf16"].listed) == min(12, pins["bf16"].differed)
    assert pins["f32"].close < pins["f32"].decisions / 100


def test_rows_of_the_users_own_are_judged(tmp_path: Path) -> None:
    out, _ = made(tmp_path, "llama")
    own = own_rows((), [np.arange(3, 40), [[5, 6, 7], [8, 9, 10]]])
    judged = validate_port(out, numerics=("f32",), own=Brought(own))
    names = {row.name: row.tokens for row in judged.validation.rows}
    assert {n: k for n, k in names.items() if n.startswith("own")} == {
        "own tokens 1": 37, "own tokens 2": 3, "own tokens 3": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "code"), [([96, 97], "S532"), ([-1], "S532"), ([5] * 400_000, "S605")]
)
def test_rows_that_the_model_cannot_be_judged_on_are_refused(
    row: list[int], code: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused) as caught:
        port(
            str(tiny(tmp_path / "model", "llama")),
            out=tmp_path / "port",
            own=Brought(own_rows((), [row])),
        )
    assert [d.code for d in caught.value.diagnostics] == [code]
