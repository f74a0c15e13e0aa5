# SPDX-License-Identifier: Apache-2.0
"""The Pareto front of a sweep: the points that nothing else beats in both of two rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto_front(
    x: NDArray[np.float64], y: NDArray[np.float64], among: NDArray[np.bool_]
) -> list[int]:
    """Return the indices of the points of which no other has more of one rate and at least as much of the other.

    They come with rising `x`; of equal points the first stands for all.
    """
    rows = np.flatnonzero(among & np.isfinite(x) & np.isfinite(y))
    order = rows[np.lexsort((rows, -y[rows], -x[rows]))]
    best = np.maximum.accumulate(np.concatenate([[-np.inf], y[order]]))[:-1]
    return [int(i) for i in order[y[order] > best][::-1]]


def thinned(indices: list[int], most: int) -> list[int]:
    """Return at most so many of some indices, evenly, with the first and the last."""
    if len(indices) <= most:
        return indices
    return [indices[round(i * (len(indices) - 1) / (most - 1))] for i in range(most)]
