# SPDX-License-Identifier: Apache-2.0
"""Tell whether the parts of a tensor that weights read cover one axis of it, by ranges and never index by index.

Knows regions and sizes alone; which tensors they are of is `accounting`'s affair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from dsl.graph import Region

MAX_RANGES = 65_536
MAX_STEPPING = 512
"""Ranges of one tensor, and those with steps, that are compared: a program with more is not known to read each once."""


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Indices start, start + step, … below stop."""

    start: int
    stop: int
    step: int = 1

    def __len__(self) -> int:
        """Return how many indices there are."""
        return len(range(self.start, self.stop, self.step))

    def meets(self, other: Range) -> bool:
        """Tell whether two ranges share an index: the least that solves both congruences, if it is in both."""
        common = math.gcd(self.step, other.step)
        if (other.start - self.start) % common:
            return False
        modulus = other.step // common
        turns = 0
        if modulus > 1:
            inverse = pow(self.step // common, -1, modulus)
            turns = (other.start - self.start) // common * inverse % modulus
        period = self.step * modulus
        least = self.start + turns * self.step
        from_ = max(self.start, other.start)
        first = least + max(0, -((least - from_) // period)) * period
        return first < min(self.stop, other.stop)


def read_once(shape: Sequence[int], regions: Sequence[Region | None], *, partly: bool) -> bool:
    """Tell whether regions of one axis cover it, unless a part will do, without overlap."""
    if len(regions) == 1 and regions[0] is None:
        return True
    if len({r.axis if r else None for r in regions}) != 1 or regions[0] is None:
        return False
    ranges = _ranges([r for r in regions if r is not None], shape[regions[0].axis])
    if ranges is None:
        return False
    size, parts = ranges
    if any(not 0 <= r.start <= r.stop <= size for r in parts) or not _apart(parts):
        return False
    return partly or sum(map(len, parts)) == size


def _ranges(regions: Sequence[Region], size: int) -> tuple[int, list[Range]] | None:
    """Return the ranges within one period of an axis, and the period; None where there is no telling.

    Where all have the same groups, one group stands for every other.
    """
    bound = [b for b in map(_numbers, regions) if b is not None]
    groups = {groups for _, _, _, groups in bound}
    if len(bound) < len(regions) or any(g <= 0 or size % g for g in groups):
        return None
    common = groups.pop() if len(groups) == 1 else 1
    if sum(g // common for _, _, _, g in bound) > MAX_RANGES:
        return None
    period = size // common
    return period, [
        Range(at + start, at + stop, step)
        for start, stop, step, g in bound
        for at in range(0, period, size // g)
    ]


def _numbers(region: Region) -> tuple[int, int, int, int] | None:
    """Return start, stop, step and groups of a region that is bound."""
    start, stop, groups = region.start, region.stop, region.groups
    if not (isinstance(start, int) and isinstance(stop, int) and isinstance(groups, int)):
        return None
    return start, stop, region.step, groups


def _apart(ranges: Sequence[Range]) -> bool:
    """Tell whether no two ranges share an index."""
    filled = [r for r in ranges if len(r)]
    if all(r.step == 1 for r in filled):
        return all(a.stop <= b.start for a, b in pairwise(sorted(filled)))
    few = len(filled) <= MAX_STEPPING
    return few and not any(a.meets(b) for a, b in combinations(filled, 2))
