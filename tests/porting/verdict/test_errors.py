# SPDX-License-Identifier: Apache-2.0
"""Errors of positions, against numpy's own arithmetic over all logits at once."""

from __future__ import annotations

import numpy as np
import pytest

from porting.verdict.errors import BLOCK, COUNTED, compared, joined

RNG = np.random.default_rng(5)
TRUTH = RNG.normal(size=(2 * BLOCK + 3, 37))
GOT = (TRUTH + RNG.normal(scale=1e-2, size=TRUTH.shape)).astype(np.float32)


def test_root_mean_square_is_numpys() -> None:
    wanted = np.sqrt(np.mean((GOT - TRUTH) ** 2)) / np.sqrt(np.mean(TRUTH**2))
    assert compared(GOT, TRUTH).rmse == pytest.approx(wanted, rel=1e-12)


def test_typical_is_the_geometric_mean_over_positions() -> None:
    each = np.sqrt(np.mean((GOT - TRUTH) ** 2, axis=1))
    wanted = np.exp(np.mean(np.log(each))) / np.sqrt(np.mean(TRUTH**2))
    assert compared(GOT, TRUTH).typical == pytest.approx(wanted, rel=1e-12)


def test_a_long_row_counts_as_so_many_positions() -> None:
    long = np.tile(TRUTH, (8, 1))
    worse = long + RNG.normal(scale=1e-1, size=long.shape)
    together = joined([compared(worse, long), compared(GOT[:50], TRUTH[:50])])
    logs = [np.log(compared(worse, long).squares), np.log(compared(GOT[:50], TRUTH[:50]).squares)]
    wanted = np.exp((logs[0].mean() * COUNTED + logs[1].sum()) / (COUNTED + 50) / 2)
    assert together.typical == pytest.approx(wanted / np.sqrt(np.mean(together.scales)), rel=1e-9)


def test_correlation_and_top1_are_numpys() -> None:
    errors = compared(GOT, TRUTH)
    wanted = np.corrcoef(GOT.ravel(), TRUTH.ravel())[0, 1]
    assert errors.correlation(37) == pytest.approx(wanted, rel=1e-9)
    assert errors.top1 == np.mean(GOT.argmax(1) == TRUTH.argmax(1))


def test_one_bad_position_moves_the_root_mean_square_and_not_the_typical() -> None:
    worse = GOT.copy()
    worse[7] += 1.0
    calm, jumped = compared(GOT, TRUTH), compared(worse, TRUTH)
    assert jumped.rmse > 5 * calm.rmse
    assert jumped.typical < 1.1 * calm.typical


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_wrong(value: float) -> None:
    broken = GOT.copy()
    broken[3, 4] = value
    errors = compared(broken, TRUTH)
    assert errors.rmse == errors.typical == np.inf
    assert errors.correlation(37) is None
    assert not errors.stands[3]


def test_another_shape_is_infinitely_wrong() -> None:
    assert compared(GOT[:, :-1], TRUTH).rmse == np.inf


def test_equal_logits_have_a_finite_logarithm() -> None:
    errors = compared(TRUTH, TRUTH)
    assert errors.rmse == 0.0
    assert 0.0 < errors.typical < 1e-15


def test_parts_join_to_the_whole() -> None:
    whole = compared(GOT, TRUTH)
    parts = joined([whole.part(0, 5), whole.part(5, len(TRUTH))])
    assert parts.rmse == whole.rmse
    assert compared(GOT[:5], TRUTH[:5]).rmse == whole.part(0, 5).rmse


def test_the_preferred_token_counts_where_the_truth_is_sure() -> None:
    truth = np.array([[0.0, 1.0, 5.0], [0.0, 1.0, 1.001]])
    got = np.array([[0.0, 6.0, 5.0], [0.0, 1.01, 1.0]], np.float32)
    # Both are off by more than their two best are apart: what they prefer says nothing.
    assert compared(got, truth).agrees.tolist() == [False, False]
    assert compared(got, truth).stands.tolist() == [True, True]
    sure = np.array([[0.0, 1.0, 5.0], [0.0, 1.0, 5.0]])
    wrong = np.array([[0.0, 3.1, 3.0], [0.0, 1.1, 4.9]], np.float32)
    assert compared(wrong, sure).stands.tolist() == [False, True]
