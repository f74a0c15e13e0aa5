# SPDX-License-Identifier: Apache-2.0
"""Run a collective program on the numbers of all chips, addition by addition as the declared tree says.

All chips are arrays in one process; this is what a fabric is held to. A program that was not proven is not run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.program import SUMS, Program, Send, begins_at, ends_at
from device_model.collectives.sums import subtrees
from device_model.collectives.verify import verified

Numbers = NDArray[np.float32]
"""Or of another type, for what is not summed."""


def run(program: Program, buffers: Numbers) -> Numbers:
    """Return each chip's result, [chips, its chunks, elements], from each chip's input in the same form.

    A chip's chunks are those that it begins or ends with, in order: all of them, or its share. Raises `Refused` where
    the program is wrong, and `ValueError` where the input is not what its operation takes.
    """
    verified(program)
    state = _State(program, buffers)
    for step in program:
        state.advance(step)
    ends = ends_at(program.operation, program.topology.chips, program.chunks)
    return np.stack(
        [state.values[chip, (ends == chip) | (ends < 0)] for chip in range(program.topology.chips)]
    )


def declared(parts: Numbers) -> Numbers:
    """Return the sum of [ranks, …] by the declared tree."""
    ranks = len(parts)
    if ranks == 1:
        only: Numbers = parts[0]
        return only
    middle = ranks // 2
    total: Numbers = declared(parts[:middle]) + declared(parts[middle:])
    return total


class _State:
    """The chunks of all chips, and of a sum the ranks whose parts they hold: from `low` to before `high`."""

    def __init__(self, program: Program, buffers: Numbers) -> None:
        chips, chunks, holders = program.topology.chips, program.chunks, program.topology.holders
        summed = program.operation in SUMS
        at = np.arange(chips)[:, None]
        every = np.ones((chips, chunks), bool)
        first = every if summed else begins_at(program.operation, chips, chunks)[None] == at
        rows = chips if program.operation != "broadcast" else 1
        each = int(first.sum()) // rows
        if buffers.ndim != 3 or buffers.shape[:2] != (rows, each):
            raise ValueError(
                f"{program.operation} takes [{rows}, {each}, elements], not {list(buffers.shape)}"
            )
        self.values = np.zeros((holders, chunks, buffers.shape[2]), buffers.dtype)
        self.values[:chips][first] = buffers.reshape(-1, buffers.shape[2])
        self.low = np.zeros((holders, chunks), np.int64)
        self.low[:chips] = at
        self.high = self.low + 1
        self.high[chips:] = self.low[chips:]
        self.trees = {(int(a), int(b)) for a, b in subtrees(chips)}
        self.exact = program.order == "any"

    def advance(self, sends: list[Send]) -> None:
        """Run a step: all sends read, then what arrived is put in place or added."""
        arrived: dict[tuple[int, int], list[tuple[int, int, Numbers]]] = {}
        added = set()
        for source, target, chunk, add in sends:
            part = self._part(source, chunk)
            arrived.setdefault((target, chunk), []).append(part)
            if add:
                added.add((target, chunk))
        for place, parts in arrived.items():
            own = self._part(*place)
            if place in added and own[0] < own[1]:
                parts.append(own)
            low, high, total = self._total(sorted(parts, key=lambda part: part[:2]))
            self.low[place], self.high[place], self.values[place] = low, high, total

    def _part(self, node: int, chunk: int) -> tuple[int, int, Numbers]:
        value = self.values[node, chunk].copy()
        return int(self.low[node, chunk]), int(self.high[node, chunk]), value

    def _total(self, parts: list[tuple[int, int, Numbers]]) -> tuple[int, int, Numbers]:
        """Return the sum of parts in order of their ranks, halved as the declared tree halves them."""
        if len(parts) == 1:
            return parts[0]
        low, high = parts[0][0], parts[-1][1]
        if self.exact or (low, high) not in self.trees:
            # Exact in any order, or a value that nobody asks for in the end.
            return low, high, np.sum([part[2] for part in parts], axis=0, dtype=parts[0][2].dtype)
        middle = low + (high - low) // 2
        left = [part for part in parts if part[0] < middle]
        right = parts[len(left) :]
        if not left or not right:
            return low, high, np.sum([part[2] for part in parts], axis=0, dtype=parts[0][2].dtype)
        return low, high, self._total(left)[2] + self._total(right)[2]
