# SPDX-License-Identifier: Apache-2.0
"""Topologies: chips, switches and the directed links among them, in arrays; builders for the usual shapes.

Nodes are numbered chips first, then switches. A link is a wire in one direction with a capacity and a latency; the port
of a switch is the link that ends or begins there. Chips next to each other in number lie next to each other in the last
dimension. Paths through switches are in `routes`; what a schedule does with all this is in `program`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

MAX_CHIPS = 65_536
MAX_LINKS = 2_000_000
MAX_DIMS = 6


@dataclass(frozen=True, slots=True)
class Wire:
    """What a link carries: bytes/s, and the seconds that a byte needs from end to end."""

    capacity: float
    latency: float

    def __post_init__(self) -> None:
        if not (0 < self.capacity < math.inf and 0 <= self.latency < math.inf):
            raise ValueError(f"{self}: a wire has a positive capacity and a latency of 0 or more")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a topology was described: a kind of SHAPES, its sizes, its wires, what its switches do.

    `wires` is one wire, and for `nodes` that of the network beside it; `nics` are the network ports of one node.
    """

    kind: str
    sizes: tuple[int, ...]
    wires: tuple[Wire, ...]
    nics: int = 0
    reduces: str = ""

    def __post_init__(self) -> None:
        if self.kind not in SHAPES:
            raise ValueError(f"{self.kind}: unknown shape; known are {', '.join(SHAPES)}")
        if self.reduces not in REDUCES:
            raise ValueError(f"{self.reduces}: a switch reduces in {', '.join(REDUCES)} order")


REDUCES = ("", "tree", "any")
"""What a switch does with sums: nothing, adds as the declared tree says, or in an order that it does not tell."""


@dataclass(frozen=True, eq=False, slots=True)
class Topology:
    """Chips, switches, and directed links in order of source and target.

    `source`, `target`, `capacity` (bytes/s) and `latency` (s) have an entry for each link. `dims` are the sizes of a
    torus or mesh, whose last dimension runs fastest; `domain` is the number of chips in a node, all where there is one.
    """

    name: str
    shape: Shape
    chips: int
    switches: int
    source: Ints
    target: Ints
    capacity: Floats
    latency: Floats
    dims: tuple[int, ...] = ()
    domain: int = 0
    _keys: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (1 <= self.chips <= MAX_CHIPS and self.switches <= MAX_CHIPS):
            raise ValueError(
                f"{self.name}: {self.chips:,} chips; a topology has 1 to {MAX_CHIPS:,}"
            )
        keys = self.source.astype(np.int64) * self.nodes + self.target
        if np.any(np.diff(keys) <= 0):
            raise ValueError(f"{self.name}: links are in order, each of them once")
        object.__setattr__(self, "_keys", keys)
        object.__setattr__(self, "domain", self.domain or self.chips)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Topology)
            and (self.name, self.shape, self.chips) == (other.name, other.shape, other.chips)
            and np.array_equal(self._keys, other._keys)
            and np.array_equal(self.capacity, other.capacity)
            and np.array_equal(self.latency, other.latency)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays inside

    @property
    def nodes(self) -> int:
        """Return the number of chips and switches."""
        return self.chips + self.switches

    @property
    def holders(self) -> int:
        """Return the number of nodes that chunks may stop at: the chips, and the switches that reduce."""
        if not self.shape.reduces:
            return self.chips
        return self.chips + (self.shape.sizes[0] if self.shape.kind == "nodes" else self.switches)

    def node_name(self, node: int) -> str:
        """Return a node as texts write it: `3` a chip, `s0` the first switch."""
        return str(node) if node < self.chips else f"s{node - self.chips}"

    @property
    def links(self) -> int:
        """Return the number of directed links."""
        return len(self.source)

    def link(self, source: NDArray[np.integer], target: NDArray[np.integer]) -> Ints:
        """Return the index of the direct link of each pair of nodes, -1 where there is none."""
        wanted = source.astype(np.int64) * self.nodes + target
        at = np.minimum(np.searchsorted(self._keys, wanted), max(self.links - 1, 0))
        hit = self._keys[at] == wanted if self.links else np.zeros(wanted.shape, bool)
        return np.where(hit, at, -1).astype(np.int32)

    def coordinates(self) -> Ints:
        """Return the place of each chip in each dimension, [chips, dimensions]."""
        if not self.dims:
            raise ValueError(f"{self.name}: no torus and no mesh")
        return np.stack(np.unravel_index(np.arange(self.chips), self.dims), 1).astype(np.int32)


def _topology(
    name: str,
    shape: Shape,
    chips: int,
    switches: int,
    parts: list[tuple[NDArray[np.integer], NDArray[np.integer], Wire]],
    dims: tuple[int, ...] = (),
    domain: int = 0,
) -> Topology:
    """Return a topology of links in any order; a link that is named twice is one."""
    empty = np.zeros(0, np.int64)
    source = np.concatenate([empty, *(np.asarray(a, np.int64) for a, _, _ in parts)])
    target = np.concatenate([empty, *(np.asarray(b, np.int64) for _, b, _ in parts)])
    capacity = np.concatenate([np.zeros(0), *(np.full(len(a), w.capacity) for a, _, w in parts)])
    latency = np.concatenate([np.zeros(0), *(np.full(len(a), w.latency) for a, _, w in parts)])
    _, first = np.unique(source * (chips + switches) + target, return_index=True)
    first = first[source[first] != target[first]]
    return Topology(
        name,
        shape,
        chips,
        switches,
        source[first].astype(np.int32),
        target[first].astype(np.int32),
        capacity[first],
        latency[first],
        dims,
        domain,
    )


def _limited(name: str, links: int) -> None:
    if links > MAX_LINKS:
        raise ValueError(f"{name}: {links:,} links; at most {MAX_LINKS:,} fit in a topology")


def grid(name: str, sizes: tuple[int, ...], wire: Wire, *, wraps: bool) -> Topology:
    """Return a torus, or a mesh where it does not wrap, of any dimensions; links go both ways."""
    if not 1 <= len(sizes) <= MAX_DIMS or min(sizes) < 1:
        raise ValueError(f"{name}: {sizes}: one to {MAX_DIMS} sizes of at least 1")
    chips = math.prod(sizes)
    _limited(name, 2 * len(sizes) * chips)
    if chips > MAX_CHIPS:
        raise ValueError(f"{name}: {chips:,} chips; a topology has 1 to {MAX_CHIPS:,}")
    at = np.arange(chips).reshape(sizes)
    parts: list[tuple[NDArray[np.integer], NDArray[np.integer], Wire]] = []
    for axis, size in enumerate(sizes):
        here, there = at, np.roll(at, -1, axis)
        if not wraps:
            inner = tuple(slice(0, size - 1) if d == axis else slice(None) for d in range(at.ndim))
            here, there = here[inner], there[inner]
        parts += [(here.ravel(), there.ravel(), wire), (there.ravel(), here.ravel(), wire)]
    kind = "torus" if wraps else "mesh"
    return _topology(name, Shape(kind, sizes, (wire,)), chips, 0, parts, sizes)


def torus(name: str, sizes: tuple[int, ...], wire: Wire) -> Topology:
    """Return a torus of any dimensions; a dimension of two chips has one link each way."""
    return grid(name, sizes, wire, wraps=True)


def mesh(name: str, sizes: tuple[int, ...], wire: Wire) -> Topology:
    """Return a mesh: a torus that is cut open in each dimension."""
    return grid(name, sizes, wire, wraps=False)


def ring(name: str, chips: int, wire: Wire) -> Topology:
    """Return a ring with links both ways: a torus of one dimension."""
    return torus(name, (chips,), wire)


def full(name: str, chips: int, wire: Wire) -> Topology:
    """Return chips with a link from each to each."""
    _limited(name, chips * (chips - 1))
    a, b = (x.ravel() for x in np.indices((chips, chips)))
    return _topology(name, Shape("full", (chips,), (wire,)), chips, 0, [(a, b, wire)])


def switch(name: str, chips: int, wire: Wire, reduces: str = "") -> Topology:
    """Return chips on one switch, a port each; the latency of a path is that of both of its links."""
    _limited(name, 2 * chips)
    at = np.arange(chips)
    middle = np.full(chips, chips)
    shape = Shape("switch", (chips,), (wire,), reduces=reduces)
    return _topology(name, shape, chips, 1, [(at, middle, wire), (middle, at, wire)])


def hierarchy(
    name: str, count: int, inside: int, wire: Wire, network: Wire, nics: int = 0, reduces: str = ""
) -> Topology:
    """Return `count` nodes of `inside` chips, a switch in each, on one network with `nics` ports a node.

    Without `nics` each chip has a port of its own. Switches: one a node, then the ports where chips share them, then
    the network. Only the switches of the nodes reduce.
    """
    nics = nics or inside
    if min(count, inside) < 1 or inside % nics:
        raise ValueError(f"{name}: {inside} chips of a node do not divide over {nics} ports")
    chips = count * inside
    _limited(name, 4 * chips)
    at = np.arange(chips)
    node = chips + at // inside
    ports = 0 if nics == inside else count * nics
    spine = chips + count + ports
    parts: list[tuple[NDArray[np.integer], NDArray[np.integer], Wire]]
    parts = [(at, node, wire), (node, at, wire)]
    port = at
    if ports:
        port = chips + count + at // (inside // nics)
        parts += [(at, port, wire), (port, at, wire)]
    far = np.full(chips, spine)
    parts += [(port, far, network), (far, port, network)]
    shape = Shape("nodes", (count, inside), (wire, network), nics, reduces)
    return _topology(name, shape, chips, count + ports + 1, parts, (), inside)


def linked(
    name: str, chips: int, switches: int, wires: tuple[tuple[int, int, Wire], ...]
) -> Topology:
    """Return a topology of links given one by one: source node, target node, wire."""
    _limited(name, len(wires))
    nodes = chips + switches
    if any(not (0 <= a < nodes and 0 <= b < nodes and a != b) for a, b, _ in wires):
        raise ValueError(f"{name}: a link joins two of the {nodes} nodes")
    source = np.asarray([a for a, _, _ in wires], np.int32)
    target = np.asarray([b for _, b, _ in wires], np.int32)
    order = np.lexsort((target, source))
    return Topology(
        name,
        Shape("links", (chips, switches), ()),
        chips,
        switches,
        source[order],
        target[order],
        np.asarray([w.capacity for _, _, w in wires], np.float64)[order],
        np.asarray([w.latency for _, _, w in wires], np.float64)[order],
    )


SHAPES = ("ring", "torus", "mesh", "full", "switch", "nodes", "links")
"""The kinds of topologies; a ring is read as a torus of one dimension."""
