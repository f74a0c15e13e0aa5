"""Bytes on one chip at many points at once: weights, state, activations, and whether a mesh divides the sizes.

A product in a low precision stores its weights so, as its price says; all else lies as the program stores it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_model.capacity import Capacity
from device_model.cost.rates import operand_bits
from device_model.timeline.sizes import FUNCTIONS, size_at
from device_model.timeline.tasks import KINDS, Kind
from dsl.footprint import weight_bytes
from dsl.graph import Graph, Node, Weight
from dsl.symbolic import Dim, evaluate_over, names, ratio, symbol, text

PRODUCTS = frozenset({Kind.GEMM, Kind.EXPERTS})


@dataclass(frozen=True, slots=True)
class Split:
    """A size that a mesh must divide, in words, and at which points it does not."""

    text: str
    broken: Any


class Loads:
    """The formulas of one graph, evaluated over points."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.capacity = Capacity(graph)
        self.readers = _readers(graph)

    def weights(self, mesh: Mapping[str, Any], numerics: str) -> Any:
        """Return the bytes of the weights on one chip where products compute in a format."""
        total: Any = 0.0
        parts = self.capacity.footprint.parts
        for part, (body, _) in zip(parts, self.graph.bodies(), strict=True):
            own = sum((self._weight(w, mesh, numerics) for w in body.weights), 0.0)
            total = total + size_at(part.on_chip, mesh) * own
        return np.ceil(total)

    def _weight(self, weight: Weight, mesh: Mapping[str, Any], numerics: str) -> Any:
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

    def state(self, point: Mapping[str, Any]) -> Any:
        """Return the bytes of all state on one chip."""
        return np.ceil(size_at(self.capacity.state, point))

    def activations(self, point: Mapping[str, Any]) -> Any:
        """Return the most bytes of activations alive at once."""
        sizes = (size_at(c.bytes, point) for c in self.capacity.candidates)
        most: Any = 0.0
        for size in sizes:
            most = np.maximum(most, size)
        return np.ceil(most)

    def splits(self, point: Mapping[str, Any]) -> Iterator[Split]:
        """Yield the sizes that some meshes do not divide; those of tokens are not asked."""
        known = set(self.graph.mesh) | {self.graph.batch}
        for obligation in self.graph.obligations:
            a, b = obligation.dividend, obligation.divisor
            if not (names(a) | names(b)) <= known:
                continue
            size, parts = (evaluate_over(d, point, FUNCTIONS) for d in (a, b))
            broken = np.asarray(FUNCTIONS["mod"](np.asarray(size), np.asarray(parts)) != 0)
            if broken.any():
                yield Split(f"{text(a)} is not a multiple of {text(b)}", broken)


def _readers(graph: Graph) -> dict[int, list[Node]]:
    found: dict[int, list[Node]] = {}
    for body, _ in graph.bodies():
        for step in body.steps:
            if isinstance(step, Node):
                for value in set(step.inputs):
                    found.setdefault(value, []).append(step)
    return found
