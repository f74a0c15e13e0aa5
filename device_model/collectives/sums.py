# SPDX-License-Identifier: Apache-2.0
"""Sums as they grow on the way: which ranks' parts a value holds, and whether values may be added.

The declared tree over n ranks halves: tree(lo, hi) is tree(lo, mid) + tree(mid, hi) with mid = lo + (hi - lo) // 2, a
rank is a leaf, and the operands of one addition may be exchanged. A value that is worth anything is a whole subtree,
so two numbers say it; sums that are exact in any order are sets of ranks, as bits. No numbers are added here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.int64]
"""[values, width]: a subtree's first rank and the one behind its last, or a set of ranks in words of 62 bits."""

WORD = 62


@dataclass(frozen=True, slots=True)
class Sums:
    """How values of a sum over `ranks` are written down, and joined."""

    ranks: int
    width: int
    leaves: Values
    complete: Values
    join: Callable[[Values, NDArray[np.int64]], tuple[Values, NDArray[np.bool_]]]
    """Join values, in order within groups that begin at the given rows; returns one a group, and whether it may be."""
    held: Callable[[Values], NDArray[np.int64]]
    """The ranks in one value."""


def subtrees(ranks: int) -> NDArray[np.int64]:
    """Return the subtrees of the declared tree, [2 · ranks - 1, (first, behind last)]."""
    result: list[tuple[int, int]] = []
    todo = [(0, ranks)]
    while todo:
        low, high = todo.pop()
        result.append((low, high))
        middle = low + (high - low) // 2
        if high - low > 1:
            todo += [(low, middle), (middle, high)]
    return np.asarray(result, np.int64)


def tree_sums(ranks: int) -> Sums:
    """Return the sums that have the declared order: values are subtrees, and join where they make up a subtree."""
    nodes = subtrees(ranks)
    keys = np.sort(nodes[:, 0] * (ranks + 1) + nodes[:, 1])

    def join(values: Values, begins: NDArray[np.int64]) -> tuple[Values, NDArray[np.bool_]]:
        low = np.minimum.reduceat(values[:, 0], begins)
        high = np.maximum.reduceat(values[:, 1], begins)
        meets = np.ones(len(values), bool)
        meets[1:] = values[1:, 0] == values[:-1, 1]
        meets[begins] = True
        key = low * (ranks + 1) + high
        at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        whole = np.logical_and.reduceat(meets, begins) & (keys[at] == key)
        return np.stack([low, high], 1), whole

    leaves = np.stack([np.arange(ranks), np.arange(1, ranks + 1)], 1).astype(np.int64)
    complete = np.asarray([0, ranks], np.int64)
    return Sums(ranks, 2, leaves, complete, join, lambda value: np.arange(value[0], value[1]))


def exact_sums(ranks: int) -> Sums:
    """Return the sums that are exact in any order: values are sets of ranks, and join where they share none."""
    words = -(-ranks // WORD)
    at = np.arange(ranks)
    leaves = np.zeros((ranks, words), np.int64)
    leaves[at, at // WORD] = np.int64(1) << (at % WORD)

    def join(values: Values, begins: NDArray[np.int64]) -> tuple[Values, NDArray[np.bool_]]:
        union = np.bitwise_or.reduceat(values, begins, axis=0)
        each = np.add.reduceat(np.bitwise_count(values).sum(1, dtype=np.int64), begins)
        return union, each == np.bitwise_count(union).sum(1, dtype=np.int64)

    def held(value: Values) -> NDArray[np.int64]:
        return np.flatnonzero(value[at // WORD] >> (at % WORD) & 1)

    complete = np.bitwise_or.reduce(leaves, axis=0)
    return Sums(ranks, words, leaves, complete, join, held)


def some(numbers: NDArray[np.integer]) -> str:
    """Return ascending numbers in words: `0-3, 5, 7`, cut after a few runs."""
    at = np.asarray(numbers, np.int64)
    cuts = np.flatnonzero(np.diff(at) != 1) + 1
    runs = [(int(r[0]), int(r[-1])) for r in np.split(at, cuts) if len(r)]
    words = [f"{a}-{b}" if b > a else f"{a}" for a, b in runs[:6]]
    return ", ".join(words) + (f" and {len(runs) - 6} more" if len(runs) > 6 else "")
