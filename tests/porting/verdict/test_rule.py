# SPDX-License-Identifier: Apache-2.0
"""The rule's cases from errors alone, and the original's own float32 errors that one of them asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from porting.files.progress import silent
from porting.original.reference import Reference
from porting.verdict.errors import PositionErrors, compared
from porting.verdict.feeding import Feeding
from porting.verdict.originals import DISTURBANCES, Original
from porting.verdict.rows import Row
from porting.verdict.rule import DEVIATIONS, F32_LIMIT, F32_MOST, f32_case
from tests.checkpoints import tiny_llama

RNG = np.random.default_rng(3)
TRUTH = RNG.normal(size=(40, 64))
NOISE = RNG.normal(size=TRUTH.shape)


def away(by: float) -> PositionErrors:
    return compared(TRUTH + by * NOISE, TRUTH)


def heard(*by: float) -> Callable[[], Sequence[PositionErrors]]:
    return lambda: [away(x) for x in by]


def never() -> Sequence[PositionErrors]:
    pytest.fail("the original was asked where its answer decides nothing")


@pytest.mark.parametrize("by", [5e-6, 5e-4])
def test_the_original_is_asked_only_where_it_can_decide(by: float) -> None:
    case = f32_case("prefill", "f32", away(by), 64, never)
    assert case.limit == F32_LIMIT
    assert case.passed == (case.error <= F32_LIMIT)


@pytest.mark.parametrize(
    ("own", "passed"),
    [((), False), ((1e-6,) * 8, False), ((2e-6, 1.2e-5), True), ((np.inf,), False)],
)
def test_a_sensitive_original_moves_the_limit(own: tuple[float, ...], passed: bool) -> None:
    case = f32_case("prefill", "f32", away(2e-5), 64, heard(*own))
    assert case.passed is passed
    if passed:
        squares = np.mean([away(x).rmse ** 2 for x in own])
        assert case.reference_rmse == pytest.approx(np.sqrt(squares))
        assert case.limit == pytest.approx(DEVIATIONS * np.sqrt(squares))


def test_no_original_moves_the_limit_beyond_the_most() -> None:
    case = f32_case("prefill", "f32", away(9e-5), 64, heard(1e-2))
    assert case.limit == F32_MOST
    assert not f32_case("prefill", "f32", away(1.2e-4), 64, heard(1e-2)).passed


def test_a_token_that_does_not_stand_fails_within_the_limit() -> None:
    truth = np.zeros((1, 4))
    truth[0, :2] = 1.0, 1.0 - 1e-6
    errors = compared(truth + np.array([[0.0, 2e-6, 0.0, 0.0]]), truth)
    assert f32_case("prefill", "f32", errors, 4, never).passed
    assert not f32_case("prefill", "f32", swapped(errors), 4, never).passed


def swapped(errors: PositionErrors) -> PositionErrors:
    """Return errors whose preferred token differs by more than the error explains."""
    fields = {name: getattr(errors, name) for name in PositionErrors.__slots__}
    return PositionErrors(**{**fields, "stands": np.zeros(1, np.bool_)})


def test_own_float32_errors_differ_by_roundings_and_leave_the_model_as_it_was(
    tmp_path: Path,
) -> None:
    folder = tiny_llama(tmp_path / "model")
    rows = [Row("random", np.arange(1, 24)), Row("random", np.arange(3, 9))]
    original = Original(folder, None, silent)
    truth, _ = original.truth(rows, 24, [Feeding((0,), ((23,),))])
    runs = original.own_float32(truth)
    errors = [run.at([(0, 0, 23), (1, 2, 6)]).rmse for run in runs]
    assert len(set(errors)) == DISTURBANCES
    assert all(1e-9 < error < F32_LIMIT for error in errors)
    assert original.own_float32(truth) is runs
    model = Reference.load(folder, "float32")
    row = rows[0].tokens.tolist()
    before = model.row(row).logits
    with model.disturbed(7):
        assert not np.array_equal(model.row(row).logits, before)
    assert np.array_equal(model.row(row).logits, before)
