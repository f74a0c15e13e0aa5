# SPDX-License-Identifier: Apache-2.0
"""Trees of sums: runs of leaves are made of whole subtrees, and whoever has them finishes the same sum."""

from itertools import pairwise

import pytest

from dsl.mesh.trees import added, merges, middle, nodes


def written(lo: int, hi: int) -> str:
    """The tree over leaves as text, which tells one order of additions from another."""
    if hi - lo == 1:
        return str(lo)
    cut = middle(lo, hi)
    return f"({written(lo, cut)}+{written(cut, hi)})"


def on_a_stack(lo: int, hi: int) -> str:
    """The sum of a run as a stack makes it."""
    waiting: list[str] = []
    for leaf, count in zip(range(lo, hi), merges(lo, hi), strict=True):
        waiting.append(str(leaf))
        for _ in range(count):
            right = waiting.pop()
            waiting[-1] = f"({waiting[-1]}+{right})"
    (made,) = waiting
    return made


@pytest.mark.parametrize("leaves", [1, 2, 3, 8, 9, 13, 16, 24])
@pytest.mark.parametrize("chips", [1, 2, 3, 4, 8, 11])
def test_any_runs_of_leaves_finish_the_same_sum(leaves: int, chips: int) -> None:
    borders = [rank * leaves // chips for rank in range(chips + 1)]
    held = {
        node: on_a_stack(*node) for lo, hi in pairwise(borders) for node in nodes(leaves, lo, hi)
    }
    assert added(leaves, held, lambda a, b: f"({a}+{b})") == written(0, leaves)


@pytest.mark.parametrize("leaves", [1, 5, 16])
def test_the_nodes_of_a_run_cover_it_once(leaves: int) -> None:
    for lo in range(leaves):
        for hi in range(lo + 1, leaves + 1):
            made = nodes(leaves, lo, hi)
            assert [leaf for a, b in made for leaf in range(a, b)] == list(range(lo, hi))
            assert len(made) <= 2 * leaves.bit_length()


def test_a_run_of_nothing_has_no_nodes() -> None:
    assert nodes(8, 3, 3) == ()


def test_a_leaf_that_nobody_has_is_told() -> None:
    with pytest.raises(KeyError):
        added(4, {(0, 2): 1, (2, 3): 1}, lambda a, b: a + b)
