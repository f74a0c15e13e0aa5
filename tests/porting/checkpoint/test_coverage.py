# SPDX-License-Identifier: Apache-2.0
"""Whether parts of an axis cover it once: by ranges, as a count of every index would say."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dsl.graph import Region
from porting.checkpoint.coverage import Range, read_once

SMALL = st.integers(0, 12)
RANGES = st.builds(Range, SMALL, st.integers(0, 30), st.integers(1, 6))
GROUPS = st.sampled_from((1, 2, 3, 4, 6))
REGIONS = st.builds(Region, st.just(0), SMALL, SMALL, st.integers(1, 3), GROUPS)


@given(RANGES, RANGES)
def test_ranges_meet_where_they_share_an_index(one, other):
    first, second = (set(range(r.start, r.stop, r.step)) for r in (one, other))
    assert one.meets(other) == bool(first & second)
    assert len(one) == len(first)


def indices(region: Region, size: int) -> list[int]:
    group = size // region.groups
    part = range(region.start, region.stop, region.step)
    return [at + index for at in range(0, size, group) for index in part]


@given(st.lists(REGIONS, min_size=1, max_size=4), st.sampled_from((12, 24)))
def test_regions_cover_an_axis_as_counting_says(regions, size):
    fits = all(r.start <= r.stop <= size // r.groups for r in regions)
    counts = Counter(index for region in regions for index in indices(region, size))
    once = fits and set(counts.values()) <= {1}
    assert read_once((size,), regions, partly=True) == once
    assert read_once((size,), regions, partly=False) == (once and len(counts) == size)


def test_an_axis_of_any_length_costs_nothing():
    half = 2**62
    parts = [Region(0, 0, half), Region(0, half, 2 * half)]
    assert read_once((2 * half,), parts, partly=False)
    steps = [Region(0, 0, 2 * half, 2), Region(0, 1, 2 * half, 2)]
    assert read_once((2 * half,), steps, partly=False)
    assert not read_once((2 * half,), [*parts, Region(0, half - 1, half)], partly=False)
    assert not read_once((2 * half,), [Region(0, 0, 1, groups=half)] * 2, partly=False)


def test_a_tensor_that_is_read_whole_is_read_once():
    assert read_once((4,), [None], partly=False)
    assert not read_once((4,), [None, None], partly=False)
    assert not read_once((4, 4), [Region(0, 0, 4), Region(1, 0, 4)], partly=False)
