# SPDX-License-Identifier: Apache-2.0
"""The declared tree of a sum that a mesh may cut: leaves in a row, halved again and again.

The tree over the leaves lo to hi is the tree over the first half plus the tree over the rest, the first half being
rounded down. A run of leaves is made of whole subtrees, its nodes; whoever has all nodes of all runs can finish the
sum, whatever the runs were. Nothing here adds numbers in a format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

Node: TypeAlias = tuple[int, int]
"""A subtree: its first leaf, and the one behind its last."""

T = TypeVar("T")


def middle(lo: int, hi: int) -> int:
    """Return where the tree over the leaves lo to hi is halved."""
    return lo + (hi - lo) // 2


def nodes(leaves: int, lo: int, hi: int) -> tuple[Node, ...]:
    """Return the largest subtrees, in order, that make up the run lo to hi of a tree of so many leaves."""

    def within(first: int, last: int) -> tuple[Node, ...]:
        if last <= lo or hi <= first:
            return ()
        if lo <= first and last <= hi:
            return ((first, last),)
        cut = middle(first, last)
        return (*within(first, cut), *within(cut, last))

    return within(0, leaves) if lo < hi else ()


def merges(lo: int, hi: int) -> tuple[int, ...]:
    """Return after each leaf of the tree over lo to hi how many additions can be made of what waits on a stack."""
    if hi - lo == 1:
        return (0,)
    cut = middle(lo, hi)
    *rest, last = merges(cut, hi)
    return (*merges(lo, cut), *rest, last + 1)


def added(leaves: int, values: Mapping[Node, T], add: Callable[[T, T], T]) -> T:
    """Return the sum over all leaves from the sums of nodes that make it up.

    Raises `KeyError` where a leaf is in none of the nodes.
    """

    def over(lo: int, hi: int) -> T:
        if (lo, hi) in values:
            return values[lo, hi]
        if hi - lo == 1:
            raise KeyError((lo, hi))
        cut = middle(lo, hi)
        return add(over(lo, cut), over(cut, hi))

    return over(0, leaves)
