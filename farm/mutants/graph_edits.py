# SPDX-License-Identifier: Apache-2.0
"""Change one operation, weight or state of a graph: what the seeded bugs are made of.

A changed graph keeps its numbering. Nothing here knows whether a change is a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dsl.graph import Attr, Body, Graph, Node, Repeat, State, Step, Value, Weight, WeightSource
from dsl.symbolic import definition, opaque, symbol
from dsl.types import Axis, TensorType


@dataclass(frozen=True, slots=True)
class Site:
    """One operation of a graph: its body and which step of it."""

    graph: Graph
    body: Body
    at: int

    @property
    def node(self) -> Node:
        """Return the operation."""
        step = self.body.steps[self.at]
        if not isinstance(step, Node):
            raise TypeError("a repeat is no site")
        return step

    def type(self, name: str) -> TensorType | None:
        """Return the type of an operand, None where it is left out."""
        value = self.value(name)
        return None if value is None else self.graph.values[value].type

    def value(self, name: str) -> int | None:
        """Return the value of an operand, None where it is left out."""
        pairs = dict(zip(self.node.operands, self.node.inputs, strict=True))
        return pairs.get(name)

    def result(self) -> TensorType:
        """Return the type of the first result."""
        return self.graph.values[self.node.outputs[0]].type

    def is_weight(self, value: int | None) -> bool:
        """Tell whether a value is a weight of this body or of the whole program."""
        held = (*self.body.weights, *self.graph.body.weights)
        return any(weight.value == value for weight in held)

    def weight(self, name: str) -> Weight | None:
        """Return the weight that an operand is."""
        value = self.value(name)
        held = (*self.body.weights, *self.graph.body.weights)
        return next((weight for weight in held if weight.value == value), None)

    def maker(self, value: int | None) -> Site | None:
        """Return the operation of this body, or of the whole program, that makes a value."""
        for body in (self.body, self.graph.body):
            for at, step in enumerate(body.steps):
                if isinstance(step, Node) and value in step.outputs:
                    return Site(self.graph, body, at)
        return None

    def users(self) -> tuple[Site, ...]:
        """Return the operations of this body that read a result of this one."""
        made = set(self.node.outputs)
        return tuple(
            Site(self.graph, self.body, at)
            for at, step in enumerate(self.body.steps)
            if isinstance(step, Node) and made & set(step.inputs)
        )


def sites(graph: Graph) -> Iterator[Site]:
    """Yield every operation, those outside of layers first."""
    for body, _ in graph.bodies():
        for at, step in enumerate(body.steps):
            if isinstance(step, Node):
                yield Site(graph, body, at)


def with_attrs(site: Site, **attrs: Attr) -> Graph:
    """Return the graph with other attributes of an operation."""
    return with_node(site, replace(site.node, attrs={**site.node.attrs, **attrs}))


def with_node(site: Site, node: Node) -> Graph:
    """Return the graph with another operation in this place."""
    steps = tuple(node if n == site.at else step for n, step in enumerate(site.body.steps))
    return _with_body(site.graph, site.body, replace(site.body, steps=steps))


def without_operand(site: Site, name: str) -> Graph:
    """Return the graph with one operand of an operation left out."""
    kept = [i for i, operand in enumerate(site.node.operands) if operand != name]
    inputs = tuple(site.node.inputs[i] for i in kept)
    operands = tuple(site.node.operands[i] for i in kept)
    return with_node(site, replace(site.node, inputs=inputs, operands=operands))


def with_operand(site: Site, name: str, value: int) -> Graph:
    """Return the graph with another value for an operand."""
    pairs = zip(site.node.operands, site.node.inputs, strict=True)
    inputs = tuple(value if operand == name else old for operand, old in pairs)
    return with_node(site, replace(site.node, inputs=inputs))


def skipped(site: Site, name: str) -> Graph:
    """Return the graph in which one operand of an operation stands for its result."""
    given, (made,) = site.value(name), site.node.outputs
    if given is None:
        raise ValueError(f"the operation has no operand {name}")

    def instead(value: int) -> int:
        return given if value == made else value

    steps = tuple(_renamed(step, instead) for n, step in enumerate(site.body.steps) if n != site.at)
    graph = _with_body(site.graph, site.body, replace(site.body, steps=steps), instead)
    outputs = tuple(replace(o, value=instead(o.value)) for o in graph.outputs)
    return replace(graph, outputs=outputs)


def with_inserted(site: Site, nodes: Sequence[Node], values: Sequence[Value]) -> Graph:
    """Return the graph with more operations before this one, and the values that they make."""
    steps = (*site.body.steps[: site.at], *nodes, *site.body.steps[site.at :])
    graph = _with_body(site.graph, site.body, replace(site.body, steps=steps))
    return replace(graph, values=(*graph.values, *values))


def with_source(graph: Graph, weight: Weight, source: WeightSource) -> Graph:
    """Return the graph with a weight from elsewhere."""
    body = next(b for b, _ in graph.bodies() if weight in b.weights)
    weights = tuple(replace(w, source=source) if w is weight else w for w in body.weights)
    return _with_body(graph, body, replace(body, weights=weights))


def with_rings(site: Site, states: tuple[int, ...], length: int) -> Graph:
    """Return the graph in which the rings among some states of a body keep another number of entries."""
    changed = tuple(
        replace(s, type=_ring(site.graph, s, length)) if s.value in states else s
        for s in site.body.states
    )
    return _with_body(site.graph, site.body, replace(site.body, states=changed))


def with_types(graph: Graph, types: Mapping[int, TensorType]) -> Graph:
    """Return the graph with other types of some values."""

    def changed(value: Value) -> Value:
        return replace(value, type=types[value.id]) if value.id in types else value

    return replace(graph, values=tuple(map(changed, graph.values)))


def _ring(graph: Graph, state: State, length: int) -> TensorType:
    axes = []
    for axis in state.type.axes:
        made = definition(axis.dim)
        is_ring = made is not None and made.function == "min"
        grown = opaque("min", symbol(graph.context), length)
        axes.append(Axis(grown, axis.shards) if is_ring else axis)
    return replace(state.type, axes=tuple(axes))


def _renamed(step: Step, instead: Callable[[int], int]) -> Step:
    if isinstance(step, Node):
        return replace(step, inputs=tuple(map(instead, step.inputs)))
    return replace(step, initial=tuple(map(instead, step.initial)))


def _with_body(
    graph: Graph, old: Body, new: Body, instead: Callable[[int], int] = lambda value: value
) -> Graph:
    """Return the graph with one body exchanged; `instead` renames what the body hands on."""
    if graph.body is old:
        return replace(graph, body=new)
    steps: list[Step] = []
    for step in graph.body.steps:
        if isinstance(step, Repeat):
            classes = tuple(
                replace(c, body=new, carry_out=tuple(map(instead, c.carry_out)))
                if c.body is old
                else c
                for c in step.classes
            )
            steps.append(replace(step, classes=classes))
        else:
            steps.append(step)
    return replace(graph, body=replace(graph.body, steps=tuple(steps)))
