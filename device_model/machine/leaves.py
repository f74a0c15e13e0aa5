# SPDX-License-Identifier: Apache-2.0
"""The table of leaves that compiled products follow, and the additions of its tree.

A sum over K that a mesh may cut is the sums of its leaves, each in the order of `lanes`, added as a binary tree. The
table says, for each leaf in order, where it starts, how long it is and how many additions of the tree follow it; the
address 0 stands for a sum that is one leaf. Which leaves there are is not decided here.
"""

from __future__ import annotations

import numpy as np

from device_model.machine import pairs
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, integers, octets
from device_model.machine.vectors import LANES
from device_model.numbers.numerics import Array
from device_model.numbers.precision import Leaves

FIELDS = 5
"""Numbers of a leaf in the table: start and length in elements of K, additions after it, and where it is packed, in
steps of eight elements and of sixteen."""
HEADER = 3
"""Numbers before the leaves: how many there are, and steps of eight and of sixteen in all."""
MAX_LEAVES, DEPTH = 64, 8
"""Leaves of a table at most, and sums that can wait in their tree."""
PADDING = pairs.STEP * (MAX_LEAVES + 1)
"""Elements that packed leaves need at most beyond those of K."""


def table(leaves: Leaves) -> Array:
    """Return the table of leaves."""
    rows: list[int] = []
    eights = sixteens = 0
    for start, stop, additions in zip(
        leaves.borders, leaves.borders[1:], leaves.merges, strict=False
    ):
        length = stop - start
        rows += [start, length, additions, eights, sixteens]
        eights += -(-length // LANES)
        sixteens += -(-length // pairs.STEP)
    return np.array([len(leaves.merges), eights, sixteens, *rows], np.int64)


@compiled
def count(at: int) -> int:
    """Return the number of leaves."""
    return integers(at, 1)[0] if at != 0 else 1


@compiled
def eights(at: int, k: int) -> int:
    """Return how many steps of eight elements a packed row has."""
    return integers(at, HEADER)[1] if at != 0 else (k + LANES - 1) // LANES


@compiled
def sixteens(at: int, k: int) -> int:
    """Return how many steps of sixteen elements a packed row has."""
    step = pairs.STEP
    return integers(at, HEADER)[2] if at != 0 else (k + step - 1) // step


@compiled
def forget(stack: int, size: int) -> None:
    """Clear the sums that wait, so that no addition meets what was there."""
    bytes_ = octets(stack, size * DEPTH)
    for i in range(size * DEPTH):
        bytes_[i] = 0


@compiled
def fold(at: int, leaf: int, stack: int, size: int, number: int, depth: int) -> int:
    """Make the additions of the tree that follow a leaf; returns how many sums wait then.

    The leaf's `number` float32 sums, a multiple of eight, are the uppermost of `depth` that wait on the stack, each in
    `size` bytes.
    """
    for _ in range(integers(at + 8 * (HEADER + FIELDS * leaf), FIELDS)[2]):
        depth -= 1
        for start in range(0, number, LANES):
            left = floats(stack + (depth - 1) * size + 4 * start, LANES)
            right = floats(stack + depth * size + 4 * start, LANES)
            for i in range(LANES):
                left[i] = left[i] + right[i]
    return depth
