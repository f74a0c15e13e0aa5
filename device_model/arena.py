"""Where values per token live: buffers whose lives do not meet share bytes.

Sizes are per token, so that one layout serves any number of them. Nothing is allocated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

ALIGNMENT = 64


class Region(IntEnum):
    """What an address is relative to.

    `BODY` and `HEAD` hold values per token of their part of the plan, `SEQUENCES` values per sequence.
    """

    NONE = 0
    BODY = 1
    HEAD = 2
    TABLES = 3
    OUTPUT = 4
    SEQUENCES = 5


@dataclass(frozen=True, slots=True)
class Space:
    """The memory of one buffer: where, and bytes per token."""

    region: Region
    bytes: int


def allocate(
    spaces: dict[int, Space], used: dict[int, list[int]]
) -> tuple[dict[Region, int], dict[int, int]]:
    """Give each buffer an offset per token; freed ranges of an equal size are taken again."""
    sizes: dict[Region, int] = {}
    offsets: dict[int, int] = {}
    lives = sorted((min(at), max(at), index) for index, at in used.items())
    active: list[tuple[int, int]] = []
    free: dict[tuple[Region, int], list[int]] = {}
    for first, last, index in lives:
        ended = [entry for entry in active if entry[0] < first]
        active = [entry for entry in active if entry[0] >= first]
        for _, other in ended:
            space = spaces[other]
            free.setdefault((space.region, _rounded(space.bytes)), []).append(offsets[other])
        space = spaces[index]
        size = _rounded(space.bytes)
        if space.region is Region.OUTPUT:
            offsets[index] = 0
            continue
        available = free.get((space.region, size))
        if available:
            offsets[index] = available.pop()
        else:
            offsets[index] = sizes.get(space.region, 0)
            sizes[space.region] = offsets[index] + size
        active.append((last, index))
    return sizes, offsets


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
