# SPDX-License-Identifier: Apache-2.0
"""Topologies that look the same from every chip: moves from chip to chip that add an offset, in lanes that take turns.

What one chip's data do, all others' do too, shifted; so a lane of one chip is taken in turns by the moves of a single
plan, and no wire is ever asked for twice. What is found for one chip is written out for all in `spread_out`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.topology import Ints, Topology


@dataclass(frozen=True, slots=True)
class Lane:
    """Moves that share wires of a chip, one at a time: the offsets that they add, and what a move takes."""

    offsets: Ints
    per_byte: float
    """Seconds a byte."""
    latency: float
    """Seconds from end to end."""
    crosses: bool = False
    """Whether moves leave the node."""


@dataclass(frozen=True, slots=True)
class Symmetry:
    """The group of shifts of a topology, with its sizes, the last one fastest, and its lanes."""

    sizes: tuple[int, ...]
    lanes: tuple[Lane, ...]
    node: int
    """Chips in a node, where some lanes cross from node to node."""
    sharing: int = 1
    """Chips next to each other that share a port of the network."""

    @property
    def chips(self) -> int:
        """Return the number of chips."""
        return int(np.prod(self.sizes))

    @property
    def shifts(self) -> NDArray[np.int64]:
        """Return all shifts, those first that bring a chip to another port: so neighbours do not wait in a row."""
        return np.arange(self.chips).reshape(-1, self.sharing).T.ravel()

    def plus(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return chips shifted by offsets, entry by entry."""
        x, y = (np.unravel_index(value, self.sizes) for value in (a, b))
        summed = tuple((i + j) % k for i, j, k in zip(x, y, self.sizes, strict=True))
        return np.asarray(np.ravel_multi_index(summed, self.sizes))

    def origins(self, lane: Lane) -> NDArray[np.int64]:
        """Return from which chip each move of a lane comes to each chip, [moves, chips]."""
        everyone = np.arange(self.chips)
        back = [
            (-i) % k
            for i, k in zip(np.unravel_index(lane.offsets, self.sizes), self.sizes, strict=True)
        ]
        less = np.ravel_multi_index(tuple(back), self.sizes)
        return self.plus(everyone[None, :], np.asarray(less)[:, None])


def symmetry(topology: Topology) -> Symmetry | None:
    """Return the shifts of a topology, None where it has none that are known."""
    made = SYMMETRIES.get(topology.shape.kind)
    return None if made is None else made(topology)


def _torus(topology: Topology) -> Symmetry:
    """Return a lane for each direction of each dimension; two chips have one link each way."""
    (wire,) = topology.shape.wires
    sizes = topology.dims
    strides = [int(np.prod(sizes[at + 1 :])) for at in range(len(sizes))]
    lanes = []
    for size, stride in zip(sizes, strides, strict=True):
        ways = {1: (), 2: (1,)}.get(size, (1, size - 1))
        for way in ways:
            offsets = np.asarray([way * stride], np.int32)
            lanes.append(Lane(offsets, 1.0 / wire.capacity, wire.latency))
    return Symmetry(sizes, tuple(lanes), topology.chips)


def _full(topology: Topology) -> Symmetry:
    (wire,) = topology.shape.wires
    lanes = tuple(
        Lane(np.asarray([offset], np.int32), 1.0 / wire.capacity, wire.latency)
        for offset in range(1, topology.chips)
    )
    return Symmetry((topology.chips,), lanes, topology.chips)


def _switch(topology: Topology) -> Symmetry:
    """Return one lane, the port of a chip; a path is two links."""
    (wire,) = topology.shape.wires
    offsets = np.arange(1, topology.chips, dtype=np.int32)
    lane = Lane(offsets, 1.0 / wire.capacity, 2.0 * wire.latency)
    return Symmetry((topology.chips,), (lane,) if len(offsets) else (), topology.chips)


def _nodes(topology: Topology) -> Symmetry:
    """Return a lane through the switch of the node, and one through the network, which chips of a port share."""
    count, inside = topology.shape.sizes
    wire, network = topology.shape.wires
    sharing = inside // topology.shape.nics
    within = Lane(np.arange(1, inside, dtype=np.int32), 1.0 / wire.capacity, 2.0 * wire.latency)
    shared = sharing > 1
    across = Lane(
        np.arange(inside, topology.chips, dtype=np.int32),
        max(sharing / network.capacity, 1.0 / wire.capacity if shared else 0.0),
        2.0 * (network.latency + (wire.latency if shared else 0.0)),
        crosses=True,
    )
    lanes = tuple(lane for lane in (within, across) if len(lane.offsets))
    return Symmetry((count, inside), lanes, inside, sharing)


SYMMETRIES: Mapping[str, Callable[[Topology], Symmetry]] = {
    "torus": _torus,
    "full": _full,
    "switch": _switch,
    "nodes": _nodes,
}


@dataclass(frozen=True, slots=True)
class Move:
    """One move of one chip's data: piece, from where to where, its lane, when it starts and is there (seconds)."""

    piece: int
    source: int
    target: int
    lane: int
    start: float
    end: float


def levels(moves: list[Move]) -> list[int]:
    """Return the step of each move: after the one that brought its piece, and after the one before it on its lane."""
    brought: dict[tuple[int, int], int] = {}
    last: dict[int, int] = {}
    steps = []
    for move in moves:
        step = 1 + max(brought.get((move.piece, move.source), -1), last.get(move.lane, -1))
        brought[move.piece, move.target] = last[move.lane] = step
        steps.append(step)
    return steps
