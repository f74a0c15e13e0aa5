# SPDX-License-Identifier: Apache-2.0
"""Where values per token live: buffers whose lives do not meet share bytes.

Sizes are per token, so that one layout serves any number of them. Nothing is allocated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

ALIGNMENT = 4
"""Bytes per token are rounded to whole words, and no further: a tile of tokens is what hardware would align."""


class Segment(IntEnum):
    """What an address is relative to.

    `BODY` and `HEAD` hold values per token of their part of the plan, `SEQUENCES` values per sequence. `STEP` and
    `WANTED` hold what the session fills in before a step: where each token stands, and whose results are asked for.
    """

    NONE = 0
    BODY = 1
    HEAD = 2
    TABLES = 3
    OUTPUT = 4
    SEQUENCES = 5
    STEP = 6
    WANTED = 7


@dataclass(frozen=True, slots=True)
class Space:
    """The memory of one buffer: where, and bytes per token."""

    segment: Segment
    bytes: int


def allocate(
    spaces: Mapping[int, Space], used: Mapping[int, Sequence[int]], pinned: int | None = None
) -> tuple[dict[Segment, int], dict[int, int]]:
    """Give each buffer an offset per token, large ones first: the lowest gap between those alive with it.

    A pinned buffer is the first of its segment.
    """
    sizes: dict[Segment, int] = {}
    offsets: dict[int, int] = {}
    for segment in Segment:
        indices = [index for index in used if spaces[index].segment is segment]
        if not indices:
            continue
        if segment is Segment.OUTPUT:
            offsets |= dict.fromkeys(indices, 0)
            continue
        indices.sort(key=lambda i: (i != pinned, -spaces[i].bytes, min(used[i]), i))
        size = np.array([rounded(spaces[index].bytes) for index in indices])
        first = np.array([min(used[index]) for index in indices])
        last = np.array([max(used[index]) for index in indices])
        start = np.zeros(len(indices), np.int64)
        for at in range(len(indices)):
            together = np.flatnonzero((first[:at] <= last[at]) & (last[:at] >= first[at]))
            order = together[np.argsort(start[together], kind="stable")]
            ends = np.maximum.accumulate(np.concatenate([[0], start[order] + size[order]]))
            fits = np.flatnonzero(start[order] - ends[:-1] >= size[at])
            start[at] = ends[fits[0]] if len(fits) else ends[-1]
        sizes[segment] = int((start + size).max())
        offsets |= dict(zip(indices, start.tolist(), strict=True))
    return sizes, offsets


def rounded(size: int) -> int:
    """Return a size per token in whole words."""
    return -(-size // ALIGNMENT) * ALIGNMENT
