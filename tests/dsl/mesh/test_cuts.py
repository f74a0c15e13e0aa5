# SPDX-License-Identifier: Apache-2.0
"""Where axes are cut: leaves cover what they are leaves of, chips have all of it once, and keys follow their heads."""

from itertools import pairwise

import pytest

from dsl.mesh.components import Component, Components
from dsl.mesh.cuts import FEW_LEAVES, MANY_LEAVES, leaf_borders, most_parts, runs


def heads(queries: int, keys: int, width: int) -> Components:
    """Queries that are contracted after attention, and the keys that they read."""
    asked = Component("tp", queries, keys, summed=queries * width)
    return Components((asked, Component("tp", keys, keys, reads_from=0)), {})


def columns(size: int) -> Components:
    return Components((Component("tp", size, size, summed=size),), {})


@pytest.mark.parametrize("size", [1, 7, 56, 96, 768, 1536, 2048, 11008, 18944])
def test_leaves_of_columns_cover_them_in_order(size: int) -> None:
    (part,) = columns(size).all
    borders = leaf_borders(part)
    assert (borders[0], borders[-1]) == (0, size)
    assert all(a < b for a, b in pairwise(borders))
    wanted = MANY_LEAVES if size >= 2048 else FEW_LEAVES
    assert len(borders) - 1 == min(size, wanted)


def test_blocks_of_128_are_not_cut_where_sizes_allow() -> None:
    for size in (2048, 18432, 16384):
        assert all(border % 128 == 0 for border in leaf_borders(columns(size).all[0]))


@pytest.mark.parametrize(
    ("queries", "keys"), [(9, 3), (32, 8), (28, 4), (14, 2), (71, 1), (128, 128), (48, 12)]
)
@pytest.mark.parametrize("chips", [1, 2, 3, 4, 6, 8, 16])
def test_every_head_is_on_one_chip_beside_its_keys(queries: int, keys: int, chips: int) -> None:
    parts = heads(queries, keys, 64)
    asked, kept = parts.all
    cut, beside = runs(parts, asked, chips), runs(parts, kept, chips)
    assert [h for run in cut for h in range(run.start, run.stop)] == list(range(queries))
    group, borders = queries // keys, leaf_borders(asked)
    for own, near in zip(cut, beside, strict=True):
        assert (borders[own.first_leaf], borders[own.last_leaf]) == (own.start, own.stop)
        if not own.units:
            assert not near.units
            continue
        assert near.start * group <= own.start
        assert own.stop <= near.stop * group
        # Each key on a chip is read by as many of its heads: attention knows no other case.
        assert own.units % near.units == 0
        assert near.units == 1 or own.start % group == own.stop % group == 0


def test_the_demo_goes_on_two_three_four_and_eight_chips() -> None:
    parts = heads(9, 3, 64)
    sizes = {n: [run.units for run in runs(parts, parts.all[0], n)] for n in (2, 3, 4, 8)}
    # Parts of its groups would be leaves of 64: chips beyond three have no heads, and work on what follows.
    assert sizes == {2: [3, 6], 3: [3, 3, 3], 4: [0, 3, 3, 3], 8: [0, 0, 3, 0, 0, 3, 0, 3]}


def test_what_is_never_contracted_is_cut_as_evenly_as_can_be() -> None:
    parts = Components((Component("tp", 97, 97),), {})
    assert [run.units for run in runs(parts, parts.all[0], 3)] == [32, 32, 33]
    assert most_parts(parts.all[0]) == 97
