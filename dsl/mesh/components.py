# SPDX-License-Identifier: Apache-2.0
"""Axes that a mesh cuts at the same places, because operations read them together.

All axes of an operation's operands and results that are split over one mesh axis are cut alike; axes that values share
join what their operations say. A component is such a set, in units that no member can cut: the heads of a projection,
its cache and what is multiplied behind it, or the columns of a feed-forward layer. Keys and values of attention are a
component of their own, whose units are copied where the heads that read them are split further. Sizes must be numbers:
the program is bound. How many parts there are is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import gcd
from typing import TypeAlias

from dsl.graph import Body, Graph, Node, Repeat
from dsl.ops import OPS
from dsl.ops.spec import Work
from dsl.types import Axis

Place: TypeAlias = tuple[int, str]
"""An axis of a value that a mesh axis splits: the value and the mesh axis. No value has two axes split over one."""


@dataclass(frozen=True, slots=True)
class Component:
    """Axes that are cut alike over one mesh axis.

    `units` is how many parts it has at most, `groups` how many of them must not be parted while there are chips for no
    more than these: whole groups of heads that share keys. `summed` is the size of the axis where it is contracted, 0
    where it never is. `readers` is the number, in the same list, of the component of the queries, for keys and values.
    `owned` says that it numbers experts, whose results are for each choice of a token and are not cut.
    """

    mesh: str
    units: int
    groups: int
    summed: int = 0
    reads_from: int | None = None
    owned: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a program, and to which each split axis belongs."""

    all: tuple[Component, ...]
    of: dict[Place, int]

    def at(self, value: int, mesh: str) -> Component:
        """Return the component of a value's axis that a mesh axis splits."""
        return self.all[self.of[value, mesh]]


@dataclass(slots=True)
class _Union:
    """Sets of places that are known to be cut alike."""

    above: dict[Place, Place] = field(default_factory=dict)

    def top(self, place: Place) -> Place:
        self.above.setdefault(place, place)
        while self.above[place] != place:
            self.above[place] = place = self.above[self.above[place]]
        return place

    def join(self, places: list[Place]) -> None:
        for place in places[1:]:
            self.above[self.top(place)] = self.top(places[0])


def components(graph: Graph) -> Components:
    """Return the components of a bound program; raises `ValueError` for a split axis whose size is a formula."""
    union, weak = _Union(), list[tuple[Place, Place]]()
    summed: set[Place] = set()
    owned: set[Place] = set()
    bodies = tuple(graph.bodies())
    weights = {weight.value for body, _ in bodies for weight in body.weights}
    for body, _ in bodies:
        for value in _values(body):
            for place, _axis in _split(graph, value):
                union.top(place)
        for step in body.steps:
            if isinstance(step, Repeat):
                _join_layers(graph, step, union)
            else:
                _join(graph, step, union, weak)
                summed |= _contracted(graph, step)
                owned |= _owned(graph, step)
    tops = sorted({union.top(place) for place in union.above})
    number = {top: index for index, top in enumerate(tops)}
    of = {place: number[union.top(place)] for place in union.above}
    readers = {of[kept]: of[query] for query, kept in weak if of[kept] != of[query]}
    holds_experts = {of[place] for place in owned}
    made = []
    for index, top in enumerate(tops):
        members = [place for place, i in of.items() if i == index]
        if index in holds_experts:
            members = [place for place in members if place[0] in weights]
        sizes = [_size(graph, place) for place in members]
        contracted = [_size(graph, place) for place in members if place in summed]
        names = tuple(sorted({graph.values[value].name for value, _ in members}))
        units = gcd(*sizes)
        made.append(
            Component(
                top[1], units, units, max(contracted, default=0), readers.get(index),
                index in holds_experts, names,
            )
        )  # fmt: skip
    return Components(tuple(_grouped(made)), of)


def _grouped(made: list[Component]) -> Iterator[Component]:
    """Yield components with the groups of heads that read the same keys."""
    groups = {
        part.reads_from: part.units
        for part in made
        if part.reads_from is not None and made[part.reads_from].units % part.units == 0
    }
    for index, part in enumerate(made):
        units = groups.get(index, part.units)
        yield Component(
            part.mesh, part.units, units, part.summed, part.reads_from, part.owned, part.names
        )


def _split(graph: Graph, value: int) -> Iterator[tuple[Place, Axis]]:
    """Yield the split axes of a value, but for the batch, which no tensor's size depends on."""
    for axis in graph.values[value].type.axes:
        for mesh in axis.shards:
            yield (value, mesh), axis


def _values(body: Body) -> Iterator[int]:
    yield from (weight.value for weight in body.weights)
    yield from (state.value for state in body.states)
    for step in body.steps:
        if isinstance(step, Node):
            yield from (*step.inputs, *step.outputs)


def _join(graph: Graph, node: Node, union: _Union, weak: list[tuple[Place, Place]]) -> None:
    """Join the axes of a node's values that one mesh axis splits."""
    copies = OPS[node.op].copies
    kept: dict[str, list[Place]] = {}
    together: dict[str, list[Place]] = {}
    for place, value in enumerate(node.inputs):
        name = node.operands[place] if place < len(node.operands) else ""
        for at, _ in _split(graph, value):
            (kept if name in copies else together).setdefault(at[1], []).append(at)
    for value in node.outputs:
        for at, _ in _split(graph, value):
            together.setdefault(at[1], []).append(at)
    for places in (*kept.values(), *together.values()):
        union.join(places)
    weak += [(together[m][0], places[0]) for m, places in kept.items() if m in together]


def _join_layers(graph: Graph, repeat: Repeat, union: _Union) -> None:
    """Join what layers hand to each other."""
    rows = [repeat.initial, repeat.results]
    rows += [row for cls in repeat.classes for row in (cls.carry_in, cls.carry_out)]
    for values in zip(*rows, strict=True):
        for mesh in {m for value in values for (_, m), _ in _split(graph, value)}:
            union.join([(v, mesh) for v in values if mesh in _meshes(graph, v)])


def _meshes(graph: Graph, value: int) -> set[str]:
    return {mesh for (_, mesh), _ in _split(graph, value)}


def _contracted(graph: Graph, node: Node) -> set[Place]:
    """Return the axes over which a node leaves a partial sum of products."""
    if OPS[node.op].work not in (Work.GEMM, Work.EXPERTS):
        return set()
    owed = {mesh for value in node.outputs for mesh in graph.values[value].type.partial}
    owed -= {mesh for value in node.inputs for mesh in graph.values[value].type.partial}
    return {
        (value, mesh) for value in node.inputs for mesh in owed & _meshes(graph, value)
        if mesh in graph.values[value].type.axes[-1].shards
    }  # fmt: skip


def _owned(graph: Graph, node: Node) -> set[Place]:
    """Return the axes of a node's weight that number experts."""
    if OPS[node.op].work is not Work.EXPERTS:
        return set()
    weight = node.inputs[1]
    return {(weight, mesh) for mesh in graph.values[weight].type.axes[0].shards}


def _size(graph: Graph, place: Place) -> int:
    for at, axis in _split(graph, place[0]):
        if at == place and isinstance(axis.dim, int):
            return axis.dim
    name = graph.values[place[0]].name
    raise ValueError(f"`{name}` has a split axis without a number: bind the program first")
