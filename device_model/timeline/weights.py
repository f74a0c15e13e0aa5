"""Bytes of the weights on one chip where products compute in a format, at a point or at many at once.

A product in a low precision stores its weights so, as its price says; all else lies as the program stores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from device_model.chips.peaks import operand_bits
from device_model.timeline.kinds import KINDS, Kind
from device_model.timeline.sizes import size_at
from dsl.counting.footprint import LayerFootprint, weight_bytes
from dsl.graph import Graph, Node, Weight
from dsl.symbolic import Dim, ratio, symbol

PRODUCTS = frozenset({Kind.GEMM, Kind.EXPERTS})


class Weights:
    """The weights of one graph, with what reads them; `parts` are those of its footprint."""

    def __init__(self, graph: Graph, parts: tuple[LayerFootprint, ...]) -> None:
        self.graph, self.parts = graph, parts
        self.readers = _readers(graph)

    def held(self, mesh: Mapping[str, Any], numerics: str) -> Any:
        """Return the bytes of all weights on one chip where products compute in a format."""
        total: Any = 0.0
        for part, (body, _) in zip(self.parts, self.graph.bodies(), strict=True):
            own = sum((self._held(w, mesh, numerics) for w in body.weights), 0.0)
            total = total + size_at(part.on_chip, mesh) * own
        return np.ceil(total)

    def _held(self, weight: Weight, mesh: Mapping[str, Any], numerics: str) -> Any:
        stored = size_at(weight_bytes(weight), mesh)
        bits = self._bits(weight, numerics)
        if bits is None:
            return stored
        elements: Dim = weight.type.elements()
        for axis in weight.type.axes:
            for name in axis.shards:
                elements = ratio(elements, symbol(name))
        return np.minimum(stored, size_at(elements, mesh) * bits / 8.0)

    def _bits(self, weight: Weight, numerics: str) -> int | None:
        """Return the most bits that the products of a weight need, None where something else reads it too."""
        readers = self.readers.get(weight.value, [])
        if not readers or any(KINDS.get(node.op) not in PRODUCTS for node in readers):
            return None
        return max(self._needed(node, weight, numerics) for node in readers)

    def _needed(self, node: Node, weight: Weight, numerics: str) -> int:
        x = self.graph.values[node.inputs[node.operands.index("x")]].type
        wide = x.dtype.bits > 16 or weight.type.dtype.bits > 16
        dense = KINDS[node.op] is Kind.GEMM
        return operand_bits("bf16" if wide and dense else numerics)


def _readers(graph: Graph) -> dict[int, list[Node]]:
    found: dict[int, list[Node]] = {}
    for body, _ in graph.bodies():
        for step in body.steps:
            if isinstance(step, Node):
                for value in set(step.inputs):
                    found.setdefault(value, []).append(step)
    return found
