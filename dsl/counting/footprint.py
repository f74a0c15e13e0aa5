# SPDX-License-Identifier: Apache-2.0
"""Memory and work of a bound graph as closed forms in batch, sequence, context and mesh sizes.

Formulas are per layer class, times its number of layers in the totals. A prefill is C = 0, a decode step S = 1. Of a
pipeline they are those of one chip in the mean over its stages; what each stage holds, times and overlaps are the
device model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dsl.counting.stages import Pipeline, pipeline
from dsl.graph import Body, Graph, Node, Repeat, Weight
from dsl.ops import OPS
from dsl.ops.spec import Site, local_bytes
from dsl.stored_tensors import stored_bits
from dsl.symbolic import Dim, ratio, substitute, symbol
from dsl.types import TensorType

STEM = "outside of layers"
VIEWS = frozenset(spec.name for spec in OPS.values() if spec.views_state)


@dataclass(frozen=True, slots=True)
class OpWork:
    """The work of all nodes of one operation in a part of the program."""

    op: str
    count: int
    flops: Dim
    traffic: Dim


@dataclass(frozen=True, slots=True)
class LayerFootprint:
    """A layer class, or what is outside of layers: bytes and work of one layer, and how many there are.

    What is outside of the layers of a pipeline counts once for each stage that holds it.
    """

    name: str
    layers: tuple[int, ...]
    weights: Dim
    parameters: Dim
    state: Dim
    state_per_token: Dim
    flops: Dim
    traffic: Dim
    ops: tuple[OpWork, ...]
    stages: str | None = None

    @property
    def count(self) -> int:
        """Return the number of layers of this class."""
        return len(self.layers)

    @property
    def on_chip(self) -> Dim:
        """Return how many layers of this class one chip has, in the mean over the stages of a pipeline."""
        return ratio(self.count, symbol(self.stages)) if self.stages else self.count


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes, FLOPs and bytes moved on one chip, in parts and in total.

    `state_per_token` is what one more token of context adds to one sequence.
    """

    parts: tuple[LayerFootprint, ...]

    @property
    def weights(self) -> Dim:
        """Return the bytes of all weights on one chip, in their stored format."""
        return _sum(p.on_chip * p.weights for p in self.parts)

    @property
    def parameters(self) -> Dim:
        """Return the number of weight elements of the whole model."""
        return _sum(p.count * p.parameters for p in self.parts)

    @property
    def state(self) -> Dim:
        """Return the bytes of all state on one chip."""
        return _sum(p.on_chip * p.state for p in self.parts)

    @property
    def state_per_token(self) -> Dim:
        """Return the bytes of state that one more token of one sequence adds on one chip."""
        return _sum(p.on_chip * p.state_per_token for p in self.parts)

    @property
    def flops(self) -> Dim:
        """Return the FLOPs of one step on one chip."""
        return _sum(p.on_chip * p.flops for p in self.parts)

    @property
    def traffic(self) -> Dim:
        """Return the bytes that the operations of one step move on one chip."""
        return _sum(p.on_chip * p.traffic for p in self.parts)


def footprint(graph: Graph) -> Footprint:
    """Return the footprint of a bound graph."""
    staged = pipeline(graph)
    parts = [_part(graph, STEM, graph.body, (-1,), staged.axis if staged else None, staged)]
    for step in graph.body.steps:
        if isinstance(step, Repeat):
            parts += [
                _part(graph, layer_names(c.layers), c.body, c.layers, step.stages)
                for c in step.classes
            ]
    return Footprint(tuple(parts))


def layer_names(layers: tuple[int, ...]) -> str:
    """Return a short name of some layers: ranges, or the first few."""
    ranges: list[list[int]] = []
    for layer in layers:
        if ranges and layer == ranges[-1][-1] + 1:
            ranges[-1].append(layer)
        else:
            ranges.append([layer])
    shown = [f"{r[0]}–{r[-1]}" if len(r) > 1 else str(r[0]) for r in ranges]
    words = ", ".join(shown[:3]) + (", …" if len(shown) > 3 else "")
    return f"layers {words}" if len(layers) > 1 else f"layer {words}"


def weight_bytes(weight: Weight) -> Dim:
    """Return the bytes of a weight on one chip, in its stored format."""
    part, whole = weight.share
    bits = ratio(stored_bits(weight.source, weight.type.dtype) * part, whole)
    for axis in weight.type.axes:
        for name in axis.shards:
            bits = ratio(bits, symbol(name))
    return ratio(bits, 8)


def _part(
    graph: Graph,
    name: str,
    body: Body,
    layers: tuple[int, ...],
    stages: str | None = None,
    staged: Pipeline | None = None,
) -> LayerFootprint:
    works = tuple(_works(graph, body))
    times: Callable[[int], Dim] = staged.copies if staged else lambda value: 1
    own = [(times(s.value), s.type) for s in body.states if s.item is None]
    state = _sum(n * local_bytes(t) for n, t in own)
    per_token = _sum(n * _per_token(graph, t) for n, t in own)
    if body is graph.body:
        state = state + _sum(a.count * local_bytes(a.type) for a in graph.arrays)
        per_token = per_token + _sum(a.count * _per_token(graph, a.type) for a in graph.arrays)
    return LayerFootprint(
        name,
        layers,
        _sum(times(w.value) * weight_bytes(w) for w in body.weights),
        _sum(w.type.elements() for w in body.weights),
        split_batch(graph, state),
        per_token,
        _sum(w.flops for w in works),
        _sum(w.traffic for w in works),
        works,
        stages,
    )


def split_batch(graph: Graph, value: Dim) -> Dim:
    """Return a formula of one chip where mesh axes split the batch."""
    batch: Dim = symbol(graph.batch)
    for axis in graph.batch_shards:
        batch = ratio(batch, symbol(axis))
    return substitute(value, {graph.batch: batch}) if graph.batch_shards else value


def _per_token(graph: Graph, type_: TensorType) -> Dim:
    """Return what the context's next token adds; a full ring grows no more, so it counts as fixed."""
    context, batch = symbol(graph.context), symbol(graph.batch)
    if not any(axis.dim == context for axis in type_.axes):
        return 0
    return ratio(local_bytes(type_), batch * context)


def _works(graph: Graph, body: Body) -> Iterator[OpWork]:
    stored = {w.value: weight_bytes(w) for w in body.weights}
    if body is not graph.body:
        stored |= {w.value: weight_bytes(w) for w in graph.body.weights}
    by_op: dict[str, list[Node]] = {}
    for node in body.steps:
        if isinstance(node, Node):
            by_op.setdefault(node.op, []).append(node)
    views = state_views(body)
    for op, nodes in by_op.items():
        sites = [(site_of(graph, n, stored), _results(graph, n)) for n in nodes]
        flops = split_batch(graph, _sum(OPS[op].flops(site, results) for site, results in sites))
        moved = _sum(
            OPS[op].traffic(site, results)
            for node, (site, results) in zip(nodes, sites, strict=True)
            if not (op in VIEWS and node.inputs[0] in views)
        )
        traffic = split_batch(graph, moved)
        yield OpWork(op, len(nodes), flops, traffic)


def state_views(body: Body) -> frozenset[int]:
    """Return the values that are states, or parts of them read where they lie."""
    views = {s.value for s in body.states}
    for node in body.steps:
        made_in_place = isinstance(node, Node) and (node.op in VIEWS or OPS[node.op].in_place)
        if made_in_place and isinstance(node, Node) and views & set(node.inputs[:1]):
            views |= set(node.outputs)
    return frozenset(views)


def site_of(graph: Graph, node: Node, stored: dict[int, Dim]) -> Site:
    """Return a node as its cost formulas see it; `stored` has the bytes of weights by value."""
    variadic = {p.name for p in OPS[node.op].params if p.variadic}
    types: dict[str, TensorType | tuple[TensorType, ...]] = {}
    sizes: dict[str, Dim] = {}
    for name, value in zip(node.operands, node.inputs, strict=True):
        type_ = graph.values[value].type
        if name in variadic:
            before = types.get(name, ())
            types[name] = (*(before if isinstance(before, tuple) else ()), type_)
            continue
        types[name] = type_
        if value in stored:
            sizes[name] = stored[value]
    return Site(
        node.op, types, node.attrs, frozenset(), graph.batch, graph.seq, graph.context, [], sizes
    )


def _results(graph: Graph, node: Node) -> tuple[TensorType, ...]:
    return tuple(graph.values[i].type for i in node.outputs)


def prefill(graph: Graph, value: Dim) -> Dim:
    """Return a formula for a prompt without context."""
    return substitute(value, {graph.context: 0})


def decode(graph: Graph, value: Dim) -> Dim:
    """Return a formula for one new token a sequence."""
    return substitute(value, {graph.seq: 1})


def _sum(parts: Iterable[Dim]) -> Dim:
    """Add formulas, those that are alike at once: a symbolic sum takes a fraction of a millisecond a term."""
    total: Dim = 0
    for part, times in Counter(parts).items():
        total = total + times * part
    return total
