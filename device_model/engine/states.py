# SPDX-License-Identifier: Apache-2.0
"""What persists between steps: per sequence and state one array, whose context axis grows by doubling.

Axes before the context come first in memory, so that the keys of one head are contiguous. A ring keeps a window that
is moved to the front of its array when it reaches the end. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_model.numbers.numerics import Array
from device_model.program.builder import FIRST_STATE, LENGTHS
from device_model.program.call import Batch, Context
from device_model.program.places import StateRef

FIRST_ROOM = 64
SLACK = 16
"""A ring of n entries moves once in n / `SLACK` tokens."""
UNBOUNDED = 1 << 40
"""Tokens that no sequence reaches."""


class Cache:
    """The states of some sequences, and the table of their addresses for the machine.

    The table has, per state, the address that position 0 of each sequence would have, and the room of its context axis.
    """

    def __init__(self, states: Sequence[StateRef], sequences: int) -> None:
        self.states = tuple(states)
        self.lengths = np.zeros(sequences, np.int64)
        self.table = np.zeros((FIRST_STATE + 2 * len(self.states), sequences), np.int64)
        self._first = np.zeros((len(self.states), sequences), np.int64)
        rings = [UNBOUNDED if state.ring is None else state.ring for state in self.states]
        self._ring = np.array(rings, np.int64)[:, None]
        self._grows = np.array([state.grows for state in self.states], np.bool_)[:, None]
        self._arrays: list[list[Array]] = [
            [self._initial(state) for _ in range(sequences)] for state in self.states
        ]
        for state in self.states:
            for sequence in range(sequences):
                self._publish(state, sequence)

    def forget(self, sequences: Sequence[int]) -> None:
        """Make sequences as they were before their first token."""
        self.lengths = self.lengths.copy()
        self.lengths[list(sequences)] = 0
        for state in self.states:
            for sequence in sequences:
                self._arrays[state.index][sequence] = self._initial(state)
                self._first[state.index, sequence] = 0
                self._publish(state, sequence)

    def shorten(self, sequence: int, length: int) -> bool:
        """Let a sequence end at a length below its own; False, and nothing changed, where its states cannot go back.

        A state of fixed size has all tokens in it, and a ring may no longer have the entries before that length.
        """
        needed = np.maximum(length - self._ring[:, 0], 0)
        if not np.all(self._grows[:, 0] & (self._first[:, sequence] <= needed)):
            return False
        self.lengths = self.lengths.copy()
        self.lengths[sequence] = length
        return True

    def _initial(self, state: StateRef) -> Array:
        if not state.grows:
            return np.zeros(state.outer, state.dtype)
        room = FIRST_ROOM if state.ring is None else min(FIRST_ROOM, state.ring + 1)
        return np.zeros((*state.outer, room, *state.inner), state.dtype)

    def extend(self, counts: Array) -> None:
        """Make room for new tokens and count them."""
        for index, sequence in np.argwhere(self._crowded(counts)):
            self._reserve(self.states[index], int(sequence), int(counts[sequence]))
        self.lengths = self.lengths + counts
        self.table[LENGTHS] = self.lengths

    def _crowded(self, counts: Array) -> Array:
        """Tell, per state and sequence, whether its array is too small for the new tokens, or too large for a ring."""
        room = self.table[FIRST_STATE + 1 :: 2]
        needed = self.lengths + counts - self._first
        largest = self._ring + np.maximum(counts, np.maximum(self._ring // SLACK, 1))
        wrong: Array = (needed > room) | (room > largest)
        return wrong & self._grows & (counts > 0)

    def _reserve(self, state: StateRef, sequence: int, count: int) -> None:
        """Make room in one state; what a ring will not look at again is given up."""
        old = self._arrays[state.index][sequence]
        axis = len(state.outer)
        first, length = int(self._first[state.index, sequence]), int(self.lengths[sequence])
        room = old.shape[axis]
        kept = first
        if state.ring is None:
            largest = 2 * max(room, length + count)
        else:
            largest = state.ring + max(count, state.ring // SLACK, 1)
        if state.ring is not None:
            kept = max(first, length - state.ring)
        array = old
        if not length + count - kept <= room <= largest:
            room = min(largest, max(2 * room, length + count - kept))
            array = np.zeros((*state.outer, room, *state.inner), state.dtype)
        ahead = (slice(None),) * axis
        still = old[(*ahead, slice(kept - first, length - first))]
        array[(*ahead, slice(0, length - kept))] = still
        self._arrays[state.index][sequence] = array
        self._first[state.index, sequence] = kept
        self._publish(state, sequence)

    def _publish(self, state: StateRef, sequence: int) -> None:
        array, row = self._arrays[state.index][sequence], FIRST_STATE + 2 * state.index
        entry = int(np.prod(state.inner, dtype=np.int64)) * state.dtype.itemsize
        first = int(self._first[state.index, sequence])
        self.table[row, sequence] = array.ctypes.data - first * entry
        self.table[row + 1, sequence] = array.shape[len(state.outer)] if state.grows else 0

    def append(self, state: StateRef, new: Array, batch: Batch) -> None:
        """Write the new tokens of a packed value to their places."""
        axis = len(state.outer)
        for sequence in range(len(self.lengths)):
            begin, end = int(batch.starts[sequence]), int(batch.starts[sequence + 1])
            if begin == end:
                continue
            first = int(self._first[state.index, sequence])
            place = slice(
                int(batch.positions[begin]) - first, int(batch.positions[end - 1]) + 1 - first
            )
            target = self._arrays[state.index][sequence]
            target[(*[slice(None)] * axis, place)] = np.moveaxis(new[begin:end], 0, axis)

    def context(self, state: StateRef) -> Context:
        """Return, per sequence, the state up to the last token; one of fixed size may be written to."""
        arrays = self._arrays[state.index]
        if not state.grows:
            return tuple(arrays)
        columns = slice(*state.columns) if state.columns else slice(None)
        filled = self.lengths - self._first[state.index]
        ahead = (slice(None),) * len(state.outer)
        return tuple(
            array[(*ahead, slice(0, int(count)))][..., columns]
            for array, count in zip(arrays, filled, strict=True)
        )

    @property
    def kept_bytes(self) -> int:
        """Return the bytes of what the program keeps: what its states' types say."""
        total = 0
        for state in self.states:
            entries = self.lengths if state.ring is None else np.minimum(self.lengths, state.ring)
            count = int(entries.sum()) if state.grows else len(self.lengths)
            total += count * state.entry_bytes
        return total

    @property
    def bytes(self) -> int:
        """Return the memory that is set aside for the states."""
        return sum(array.nbytes for arrays in self._arrays for array in arrays)
