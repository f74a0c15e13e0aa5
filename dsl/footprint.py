"""Memory and work of a bound graph as closed forms in batch, sequence, context and mesh sizes.

Formulas are sums over layer classes times their number of layers. Times and overlaps are the device model's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dsl.graph import Body, Graph, Node, Weight
from dsl.ops import OPS
from dsl.ops.spec import Site
from dsl.sources import stored_bits
from dsl.symbolic import Dim, ratio, symbol
from dsl.types import TensorType


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes and FLOPs on one chip; `state_bytes_per_token` is for one more token of context, whole batch 1."""

    weights_bytes: Dim
    parameters: Dim
    state_bytes: Dim
    state_bytes_per_token: Dim
    flops: Dim


def bytes_of(type_: TensorType) -> Dim:
    """Return the bytes of a tensor on one chip; packed types are counted in whole bits."""
    return ratio(type_.local_elements() * type_.dtype.bits, 8)


def weight_bytes(weight: Weight) -> Dim:
    """Return the bytes of a weight on one chip, in its stored format."""
    bits = stored_bits(weight.source, weight.type.dtype)
    for axis in weight.type.axes:
        for name in axis.shards:
            bits = ratio(bits, symbol(name))
    return ratio(bits, 8)


def footprint(graph: Graph) -> Footprint:
    """Return the footprint of a bound graph."""
    weights: Dim = 0
    parameters: Dim = 0
    state: Dim = 0
    per_token: Dim = 0
    flops: Dim = 0
    for body, layers in graph.bodies():
        count = len(layers)
        weights = weights + count * _sum(weight_bytes(w) for w in body.weights)
        parameters = parameters + count * _sum(w.type.elements() for w in body.weights)
        state = state + count * _sum(bytes_of(s.type) for s in body.states)
        per_token = per_token + count * _sum(_per_token(graph, s.type) for s in body.states)
        flops = flops + count * _flops(graph, body)
    return Footprint(weights, parameters, state, per_token, flops)


def _per_token(graph: Graph, type_: TensorType) -> Dim:
    grows = any(axis.dim == symbol(graph.context) for axis in type_.axes)
    if not grows:
        return 0
    return ratio(bytes_of(type_), symbol(graph.batch) * symbol(graph.context))


def _flops(graph: Graph, body: Body) -> Dim:
    return _sum(node_flops(graph, n) for n in body.steps if isinstance(n, Node))


def node_flops(graph: Graph, node: Node) -> Dim:
    """Return the FLOPs of one node on one chip."""
    spec = OPS[node.op]
    types: dict[str, TensorType | tuple[TensorType, ...]] = {}
    rest = [graph.values[i].type for i in node.inputs]
    for param in (p for p in spec.params if p.role.is_value):
        if param.variadic:
            types[param.name] = tuple(rest)
            rest = []
        elif rest:
            types[param.name] = rest.pop(0)
    site = Site(node.op, types, node.attrs, frozenset(), graph.batch, graph.seq, graph.context, [])
    return spec.flops(site, tuple(graph.values[i].type for i in node.outputs))


def _sum(parts: Iterable[Dim]) -> Dim:
    total: Dim = 0
    for part in parts:
        total = total + part
    return total
