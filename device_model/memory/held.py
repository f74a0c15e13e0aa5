# SPDX-License-Identifier: Apache-2.0
"""Bytes of the weights on one chip where products compute in a format, as a formula in the sizes of the mesh.

A product in a low precision holds its weights so, as its price says; all else lies as the program stores it.
"""

from __future__ import annotations

from collections.abc import Mapping

from device_model.chips.peaks import operand_bits
from dsl.counting.footprint import Footprint, weight_bytes
from dsl.counting.stages import pipeline
from dsl.graph import Graph, Node, Weight
from dsl.symbolic import Dim, at_least, opaque, ratio, symbol

DENSE = frozenset({"matmul", "head_matmul"})
"""Products that read a weight as a whole."""
PRODUCTS = DENSE | {"expert_matmul"}


def held_weights(graph: Graph, prints: Footprint, numerics: str) -> Dim:
    """Return the bytes of all weights on one chip where products compute in a known format."""
    readers = weight_readers(graph)
    total: Dim = 0
    staged = pipeline(graph)
    for part, (body, _) in zip(prints.parts, graph.bodies(), strict=True):
        for weight in body.weights:
            copies = staged.copies(weight.value) if staged and body is graph.body else 1
            total = total + part.on_chip * copies * held_weight(graph, weight, readers, numerics)
    return total


def held_weight(
    graph: Graph, weight: Weight, readers: Mapping[int, list[Node]], numerics: str
) -> Dim:
    """Return the bytes of one weight on a chip that holds it; `readers` are those of `weight_readers`."""
    return _held(graph, weight, readers.get(weight.value, []), numerics)


def _held(graph: Graph, weight: Weight, readers: list[Node], numerics: str) -> Dim:
    stored = weight_bytes(weight)
    if not readers or any(node.op not in PRODUCTS for node in readers):
        return stored
    bits = max(_needed(graph, node, weight, numerics) for node in readers)
    elements: Dim = weight.type.elements()
    for axis in weight.type.axes:
        for name in axis.shards:
            elements = ratio(elements, symbol(name))
    return _least(stored, ratio(elements * bits, 8))


def _needed(graph: Graph, node: Node, weight: Weight, numerics: str) -> int:
    """Return the bits that a product needs of its weight."""
    x = graph.values[node.inputs[node.operands.index("x")]].type
    wide = x.dtype.bits > 16 or weight.type.dtype.bits > 16
    return operand_bits("bf16" if wide and node.op in DENSE else numerics)


def _least(a: Dim, b: Dim) -> Dim:
    """Return the smaller formula where one is smaller everywhere, else what names them both."""
    if at_least(a, b):
        return b
    return a if at_least(b, a) else opaque("min", a, b)


def weight_readers(graph: Graph) -> dict[int, list[Node]]:
    """Return the nodes that read each value."""
    readers: dict[int, list[Node]] = {}
    for body, _ in graph.bodies():
        for step in body.steps:
            if isinstance(step, Node):
                for value in set(step.inputs):
                    readers.setdefault(value, []).append(step)
    return readers
