"""What persists between steps: per sequence and state one array, whose context axis grows by doubling.

Axes before the context come first in memory, so that the keys of one head are contiguous. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_model.kernels.call import Context, Rows
from device_model.numerics import Array
from device_model.places import Kept
from device_model.program import CAPACITY, FIRST_STATE, LENGTHS

FIRST_CAPACITY = 64


class Cache:
    """The states of some sequences, and the table of their addresses for the machine."""

    def __init__(self, states: Sequence[Kept], sequences: int) -> None:
        self.states = tuple(states)
        self.lengths = np.zeros(sequences, np.int64)
        self.table = np.zeros((FIRST_STATE + len(self.states), sequences), np.int64)
        self._arrays: list[list[Array]] = [[] for _ in range(sequences)]
        for sequence in range(sequences):
            self._reserve(sequence, 0)

    def extend(self, counts: Array) -> None:
        """Make room for new tokens and count them."""
        self.lengths = self.lengths + counts
        for sequence, length in enumerate(self.lengths):
            if length > self.table[CAPACITY, sequence]:
                self._reserve(sequence, int(length))
        self.table[LENGTHS] = self.lengths

    def _reserve(self, sequence: int, length: int) -> None:
        room = max(FIRST_CAPACITY, int(self.table[CAPACITY, sequence]))
        while room < length:
            room *= 2
        old, grown = self._arrays[sequence], []
        for number, state in enumerate(self.states):
            array = np.zeros((*state.outer, room, *state.inner), state.dtype)
            if old:
                used = old[number].shape[len(state.outer)]
                array[_upto(state, used)] = old[number]
            self.table[FIRST_STATE + number, sequence] = array.ctypes.data
            grown.append(array)
        self._arrays[sequence] = grown
        self.table[CAPACITY, sequence] = room

    def append(self, state: Kept, new: Array, rows: Rows) -> None:
        """Write the new tokens of a packed value to their places."""
        axis = len(state.outer)
        for sequence in range(len(self.lengths)):
            first, last = int(rows.starts[sequence]), int(rows.starts[sequence + 1])
            if first == last:
                continue
            place = slice(int(rows.position[first]), int(rows.position[last - 1]) + 1)
            target = self._arrays[sequence][state.index]
            target[(*[slice(None)] * axis, place)] = np.moveaxis(new[first:last], 0, axis)

    def context(self, state: Kept) -> Context:
        """Return, per sequence, the state up to the last token."""
        columns = slice(*state.columns) if state.columns else slice(None)
        return tuple(
            arrays[state.index][_upto(state, int(length))][..., columns]
            for arrays, length in zip(self._arrays, self.lengths, strict=True)
        )

    @property
    def bytes(self) -> int:
        """Return the memory that the states take."""
        return sum(array.nbytes for arrays in self._arrays for array in arrays)


def _upto(state: Kept, length: int) -> tuple[slice, ...]:
    return (*[slice(None)] * len(state.outer), slice(0, length))
