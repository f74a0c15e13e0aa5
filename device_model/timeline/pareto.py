# SPDX-License-Identifier: Apache-2.0
"""The Pareto front of a sweep: the points that nothing else beats in both of two rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto_front(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    among: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
) -> list[int]:
    """Return the indices of the points of which no other has more of one rate and at least as much of the other.

    They come with rising `x`; of equal points the first stands for all. With `groups`, a number for each point, only
    points of one group are compared, and groups come in their order.
    """
    rows = np.flatnonzero(among & np.isfinite(x) & np.isfinite(y))
    group = np.zeros(len(rows), np.int64) if groups is None else groups[rows]
    sort = np.lexsort((rows, -y[rows], -x[rows], -group))
    order = rows[sort]
    # A rank that is above all of the groups before: what came before in another group beats nothing.
    _, rank = np.unique(y[order], return_inverse=True)
    height = rank - group[sort] * (len(rows) + 1)
    best = np.maximum.accumulate(np.concatenate([[np.iinfo(np.int64).min], height]))[:-1]
    return [int(i) for i in order[height > best][::-1]]


def thinned(indices: list[int], most: int) -> list[int]:
    """Return at most so many of some indices, evenly, with the first and the last."""
    if len(indices) <= most:
        return indices
    return [indices[round(i * (len(indices) - 1) / (most - 1))] for i in range(most)]
