# SPDX-License-Identifier: Apache-2.0
"""A program as plain integers for one step.

Addresses depend on where segments lie and on how many tokens they hold. A step with as many tokens as the last one, as
in decoding, only moves the addresses of the segments that lie elsewhere. Nothing here knows what an instruction does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_model.numbers.numerics import Array
from device_model.program.arena import Segment
from device_model.program.builder import Code, Uncompiled
from device_model.program.instruction import Argument, InstructionSet


class Addresses:
    """The integers and reals of a program's instructions, bound to one step at a time."""

    def __init__(self, code: Code, instructions: InstructionSet) -> None:
        shape = (len(code.steps), instructions.ints + 1)
        self._constant, self._slope = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._base, self._count = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.reals: Array = np.zeros((len(code.steps), instructions.reals), np.float64)
        for row, step in enumerate(code.steps):
            if isinstance(step, Uncompiled):
                continue
            self._constant[row, 0] = instructions.opcode(step.instruction)
            self.reals[row, : len(step.reals)] = step.reals
            for column, argument in enumerate(step.ints, start=1):
                self._set(row, column, argument, code)
        self._places: Sequence[Array] = [np.flatnonzero(self._base == r) for r in Segment]
        self._bases, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._code: Array = self._constant

    def _set(self, row: int, column: int, argument: Argument, code: Code) -> None:
        if isinstance(argument, int):
            self._constant[row, column] = argument
            return
        self._count[row, column] = argument.segment
        if argument.segment is Segment.TABLES:
            self._base[row, column] = argument.segment
            self._slope[row, column] = argument.offset
            return
        if argument.count:
            self._slope[row, column] = argument.count
            return
        self._base[row, column] = argument.segment
        self._constant[row, column] = argument.offset
        self._slope[row, column] = code.offsets.get(argument.buffer, 0)

    def bind(self, bases: Array, counts: Array) -> Array:
        """Return opcodes and arguments for given segment addresses and token counts, until the next call."""
        if not np.array_equal(counts, self._counts):
            self._code = self._constant + self._slope * counts[self._count] + bases[self._base]
        else:
            flat = self._code.reshape(-1)
            for segment in np.flatnonzero(bases != self._bases).tolist():
                flat[self._places[segment]] += bases[segment] - self._bases[segment]
        self._bases, self._counts = bases.copy(), counts.copy()
        return self._code
