# SPDX-License-Identifier: Apache-2.0
"""Where the values of one step lie: how many there are, how large the segments are, and views of them.

The layout follows from the code and the numbers of tokens alone; memory is given by the executor, which also runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from device_model.numbers.numerics import Array
from device_model.program.arena import Segment
from device_model.program.builder import Code
from device_model.program.call import Batch
from device_model.program.places import Buffer, Place

LINE = 64
"""Arenas start at a cache line, as processors with vectors have it."""


def aligned(address: int) -> int:
    """Return the first cache line at or after an address."""
    return -(-address // LINE) * LINE


@dataclass(frozen=True, slots=True, eq=False)
class StepLayout:
    """How much memory a step needs.

    `counts` has the number of values of each segment and `sizes` the bytes of those that the executor keeps. The head's
    values lie `beneath` bytes into the body's. `activation_bytes` is the peak of the values alive, without tables.
    """

    counts: Array
    sizes: Mapping[Segment, int]
    beneath: int
    output_bytes: int
    activation_bytes: int


def step_layout(code: Code, result: Place, batch: Batch, wanted: int) -> StepLayout:
    """Return the layout of a step with the results of so many tokens."""
    tokens, sequences = len(batch.positions), len(batch.lengths)
    counts = np.zeros(len(Segment), np.int64)
    counts[Segment.BODY] = counts[Segment.STEP] = tokens
    counts[Segment.HEAD] = counts[Segment.OUTPUT] = counts[Segment.WANTED] = wanted
    counts[Segment.SEQUENCES], counts[Segment.TABLES] = sequences, 8 * sequences
    needed = dict.fromkeys(Segment, 0) | {
        segment: each * int(counts[segment]) for segment, each in code.bytes_per_token.items()
    }
    output = 0
    if isinstance(result, Buffer):
        output = wanted * result.elements * result.dtype.itemsize
    beneath = aligned(code.beneath_head * tokens)
    head = beneath + needed[Segment.HEAD]
    body, per_sequence = needed[Segment.BODY], needed[Segment.SEQUENCES]
    sizes = {segment: needed[segment] for segment in (Segment.STEP, Segment.WANTED)}
    return StepLayout(
        counts,
        {Segment.BODY: max(body, head), Segment.SEQUENCES: per_sequence, **sizes},
        beneath,
        output,
        max(body, head + output) + per_sequence,
    )


@dataclass(frozen=True, slots=True, eq=False)
class StepMemory:
    """The memory of one step: `bases` are addresses of segments, `arenas` the bytes that they lie in."""

    code: Code
    bases: Array
    counts: Array
    arenas: Mapping[Segment, Array]

    def at(self, index: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return a view of a buffer, [count, *shape]."""
        segment = self.code.spaces[index].segment
        count, arena = int(self.counts[segment]), self.arenas[segment]
        first = self.code.address(index, self.bases, self.counts) - int(arena.ctypes.data)
        size = count * prod(shape) * dtype.itemsize
        return arena[first : first + size].view(dtype).reshape(count, *shape)

    def read(self, place: Buffer) -> Array:
        """Return a view of what is at a place."""
        return self.at(place.index, place.shape, place.dtype)

    def write(self, place: Buffer, array: Array) -> None:
        """Copy values to a place."""
        self.at(place.index, place.shape, place.dtype)[...] = array
