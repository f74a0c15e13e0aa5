"""A program as plain integers for one step.

Addresses depend on where regions lie and on how many tokens they hold. A step with as many tokens as the last one, as
in decoding, only moves the addresses of the regions that lie elsewhere. Nothing here knows what an instruction does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_model.numbers.numerics import Array
from device_model.program.arena import Region
from device_model.program.builder import ARGUMENTS, REALS, Argument, Program, Uncompiled


class Binding:
    """The integers and reals of a program's instructions, bound to one step at a time."""

    def __init__(self, program: Program) -> None:
        shape = (len(program.steps), ARGUMENTS + 1)
        self._constant, self._slope = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._base, self._count = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.reals: Array = np.zeros((len(program.steps), REALS), np.float64)
        for row, step in enumerate(program.steps):
            if isinstance(step, Uncompiled):
                continue
            self._constant[row, 0] = step.opcode
            self.reals[row, : len(step.reals)] = step.reals
            for column, argument in enumerate(step.arguments, start=1):
                self._set(row, column, argument, program)
        self._places: Sequence[Array] = [np.flatnonzero(self._base == r) for r in Region]
        self._bases, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._code: Array = self._constant

    def _set(self, row: int, column: int, argument: Argument, program: Program) -> None:
        if isinstance(argument, int):
            self._constant[row, column] = argument
            return
        self._count[row, column] = argument.region
        if argument.region is Region.TABLES:
            self._base[row, column] = argument.region
            self._slope[row, column] = argument.offset
            return
        if argument.count:
            self._slope[row, column] = argument.count
            return
        self._base[row, column] = argument.region
        self._constant[row, column] = argument.offset
        self._slope[row, column] = program.offsets.get(argument.buffer, 0)

    def bind(self, bases: Array, counts: Array) -> Array:
        """Return opcodes and arguments for given region addresses and token counts, until the next call."""
        if not np.array_equal(counts, self._counts):
            self._code = self._constant + self._slope * counts[self._count] + bases[self._base]
        else:
            flat = self._code.reshape(-1)
            for region in np.flatnonzero(bases != self._bases).tolist():
                flat[self._places[region]] += bases[region] - self._bases[region]
        self._bases, self._counts = bases.copy(), counts.copy()
        return self._code
