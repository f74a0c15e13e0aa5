# SPDX-License-Identifier: Apache-2.0
"""Lower bounds of a collective's time on a topology: what must cross a cut at its capacity, and the longest way.

A cut is a set of chips; the bytes that an operation must move into it or out of it take at least their time at the
capacity of its links, and the last of them at least the latency of the shortest way across. For sums of all on all, all
parts of a partition together: each element is sent 2 (parts - 1) times (Patarasu and Yuan 2009), unless switches add.
Cuts are single chips, nodes, blocks of a dimension and halves; the bound is that of the best of them, no more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.program import OPERATIONS
from device_model.collectives.topology import Topology

Mask = NDArray[np.bool_]
ALL_SOURCES = 64
"""Up to so many chips the longest way is looked for from each of them where links were given one by one."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A time that no schedule is below, and the cut that it comes from."""

    seconds: float
    cut: str
    bytes: float
    """Bytes that cross it."""
    capacity: float
    """Bytes/s of its links."""
    latency: float
    """Seconds of the shortest way across it, or of the longest way where that binds."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A set of chips with its name."""

    name: str
    chips: Mask


def bound(operation: str, topology: Topology, size: float) -> Bound:
    """Return the largest lower bound; `size` are the bytes of the buffer as in `program.chunk_bytes`.

    The buffer is the whole result of a gather, and one chip's input otherwise.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"{operation}: no collective; known are {', '.join(OPERATIONS)}")
    if topology.chips == 1:
        return Bound(0.0, "one chip", 0.0, 0.0, 0.0)
    ways = _Ways(topology)
    return max(_bounds(operation, topology, ways, size), key=lambda b: b.seconds)


def _bounds(operation: str, topology: Topology, ways: _Ways, size: float) -> Iterator[Bound]:
    yield _farthest(operation, topology, ways, size)
    for cut in cuts(topology):
        inside = int(cut.chips.sum())
        into, out = crossing(operation, inside, topology.chips, size, root=bool(cut.chips[0]))
        sides = ways.with_switches(cut.chips)
        for moved, way, flip in ((into, "into", True), (out, "out of", False)):
            if moved:
                capacity = ways.capacity(~sides if flip else sides)
                latency = ways.across(~cut.chips if flip else cut.chips)
                yield _at(f"{way} {cut.name}", moved, capacity, latency)
    if operation == "all_reduce" and not topology.shape.reduces:
        yield from _partitions(topology, ways, size)


def _at(name: str, moved: float, capacity: float, latency: float) -> Bound:
    seconds = moved / capacity + latency if capacity > 0 else np.inf
    return Bound(seconds, name, moved, capacity, latency)


def crossing(
    operation: str, inside: int, chips: int, size: float, *, root: bool
) -> tuple[float, float]:
    """Return the bytes that must move into a set of chips, and out of it; `root` says whether chip 0 is in it."""
    outside = chips - inside
    share = size / chips
    match operation:
        case "all_gather":
            return outside * share, inside * share
        case "reduce_scatter":
            return inside * share, outside * share
        case "all_to_all":
            return inside * outside * share, inside * outside * share
        case "broadcast":
            return (0.0, size) if root else (size, 0.0)
        case _:
            return size, size


def cuts(topology: Topology) -> Iterator[Cut]:
    """Yield the cuts that are tried."""
    chips = topology.chips
    at = np.arange(chips)
    for edge in (topology.target, topology.source):
        total = np.bincount(edge, topology.capacity, topology.nodes)[:chips]
        # Chip 0 begins a broadcast, so that another one is looked for too.
        for chip in dict.fromkeys((int(np.argmin(total)), 1 + int(np.argmin(total[1:])))):
            yield Cut(f"chip {chip}", at == chip)
    for axis, size in enumerate(topology.dims):
        place = topology.coordinates()[:, axis]
        for width in range(1, size):
            if width * 2 <= size or topology.shape.kind == "mesh":
                yield Cut(f"{width} of {size} along dimension {axis}", place < width)
    if topology.domain < chips:
        yield Cut("node 0", at // topology.domain == 0)
        nodes = chips // topology.domain
        yield Cut(f"node {nodes - 1}", at // topology.domain == nodes - 1)
        yield Cut(f"{nodes // 2} of {nodes} nodes", at // topology.domain < nodes // 2)
    if not topology.dims:
        yield Cut(f"{chips // 2} of {chips} chips", at < chips // 2)


def _partitions(topology: Topology, ways: _Ways, size: float) -> Iterator[Bound]:
    """Yield the bounds of sums that everyone gets: of all chips, and of all nodes."""
    at = np.arange(topology.chips)
    parts = [(1, "all chips together")]
    if topology.domain < topology.chips:
        parts.append((topology.domain, "all nodes together"))
    for each, name in parts:
        count = topology.chips // each
        sets = [at // each == part for part in range(count)]
        capacity = sum(ways.capacity(ways.with_switches(s)) for s in sets)
        yield _at(f"out of {name}", 2 * (count - 1) * size, capacity, ways.across(sets[0]))


def _farthest(operation: str, topology: Topology, ways: _Ways, size: float) -> Bound:
    """Return the time of the longest way, on which the last byte of a chip's part sets out when all have left it."""
    known = topology.shape.kind != "links" or topology.chips > ALL_SOURCES
    sources = (0,) if known or operation == "broadcast" else range(topology.chips)
    part = size if operation == "broadcast" else size / topology.chips
    best = Bound(0.0, "one chip", 0.0, 0.0, 0.0)
    for chip in sources:
        out = ways.capacity(ways.with_switches(np.arange(topology.chips) == chip))
        latency = float(max(ways.latencies(chip)[: topology.chips]))
        # Sums leave a chip as parts of any size, so that nothing but the way itself is certain.
        moved = 0.0 if operation in ("all_reduce", "reduce_scatter") else part
        way = _at(f"the longest way from chip {chip}", moved, out, latency)
        best = max(best, way, key=lambda b: b.seconds)
    return best


class _Ways:
    """Latencies and capacities of a topology."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.first = np.searchsorted(topology.source, np.arange(topology.nodes + 1))

    def with_switches(self, chips: Mask) -> Mask:
        """Return a set of chips with the switches that hang together with it more than with the rest."""
        top = self.topology
        nodes = np.concatenate([chips, np.zeros(top.switches, bool)])
        if not top.switches:
            return nodes
        total = np.bincount(top.source, top.capacity, top.nodes)
        for _ in range(3):
            inward = np.bincount(top.source, top.capacity * nodes[top.target], top.nodes)
            nodes[top.chips :] = (2.0 * inward > total)[top.chips :]
        return nodes

    def capacity(self, nodes: Mask) -> float:
        """Return the bytes/s of the links out of a set of nodes."""
        top = self.topology
        return float(top.capacity[nodes[top.source] & ~nodes[top.target]].sum())

    def across(self, chips: Mask) -> float:
        """Return the least latency from a chip of a set to one outside, infinite where no way leads there."""
        outside = np.concatenate([~chips, np.zeros(self.topology.switches, bool)])
        sources = np.flatnonzero(chips).tolist()
        return next((t for t, node in self._reached(sources) if outside[node]), np.inf)

    def latencies(self, chip: int) -> list[float]:
        """Return the latency from a chip to each node."""
        answer = [np.inf] * self.topology.nodes
        for seconds, node in self._reached([chip]):
            answer[node] = seconds
        return answer

    def _reached(self, sources: list[int]) -> Iterator[tuple[float, int]]:
        """Yield nodes with their latencies from the nearest of some, the nearest first (Dijkstra 1959)."""
        top = self.topology
        queue = [(0.0, node) for node in sources]
        seen: set[int] = set()
        while queue:
            seconds, node = heapq.heappop(queue)
            if node in seen:
                continue
            seen.add(node)
            yield seconds, node
            for link in range(int(self.first[node]), int(self.first[node + 1])):
                heapq.heappush(queue, (seconds + float(top.latency[link]), int(top.target[link])))
