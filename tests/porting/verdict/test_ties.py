# SPDX-License-Identifier: Apache-2.0
"""What counts as near a tie: the edge between taken and left, against the error of just that difference."""

from __future__ import annotations

import numpy as np

from porting.original.choices import Choice
from porting.verdict.ties import close_choice


def chosen(scores: list[list[float]], top: int = 2) -> Choice:
    array = np.array(scores, np.float64)
    return Choice(array, np.argsort(-array, axis=-1)[:, :top])


def test_a_wide_margin_is_not_close_and_a_narrow_one_is() -> None:
    exact = chosen([[-5.0, 2.0, 1.0, 0.9], [-5.0, 2.0, 1.0, 0.1]])
    own = Choice(exact.scores + np.array([0.0, 0.0, -0.04, 0.04]), exact.picked)
    assert close_choice(exact, own).tolist() == [True, False]


def test_shares_are_compared_in_their_logarithms() -> None:
    # The edge lies between 1e-6 and 1e-7: an error of the largest share says nothing of it.
    exact = chosen([[0.9, 1e-6, 1e-7, 1e-9]])
    own = Choice(exact.scores * np.array([1.05, 1.01, 0.99, 1.0]), exact.picked)
    assert close_choice(exact, own).tolist() == [False]
    near = chosen([[0.9, 1.0e-6, 0.995e-6, 1e-9]])
    assert close_choice(near, Choice(own.scores * [1, 1, 10, 1], near.picked)).tolist() == [True]


def test_what_was_ruled_out_comes_near_nothing() -> None:
    exact = chosen([[1.0, 0.5, -np.inf, -np.inf]])
    own = Choice(exact.scores + 0.4, exact.picked)
    assert close_choice(exact, own).tolist() == [False]


def test_in_f32_only_a_hair_is_close() -> None:
    assert close_choice(chosen([[-1.0, 2.0, 1.0, 0.999]]), None).tolist() == [False]
    assert close_choice(chosen([[-1.0, 2.0, 1.0, 1.0 - 1e-6]]), None).tolist() == [True]
