# SPDX-License-Identifier: Apache-2.0
"""Find the weights of a program that a run holds in low precision: those that only such products read.

A product is the router's where its result reaches a choice of experts without another product between. Nothing is
quantised here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_model.numbers.precision import Product
from dsl.graph import Body, Node

WEIGHT = 1
"""The operand of a product that is its weight."""
CHOICE = "route"


@dataclass(frozen=True, slots=True)
class _Uses:
    """The operations of a body by the values that they read."""

    readers: Mapping[int, tuple[tuple[Node, int], ...]]
    operations: frozenset[str]

    def is_product(self, node: Node) -> bool:
        return node.op in self.operations

    def chooses(self, value: int) -> bool:
        """Tell whether a value reaches a choice of experts without a product between."""
        waiting, seen = [value], {value}
        while waiting:
            for node, _ in self.readers.get(waiting.pop(), ()):
                if node.op == CHOICE:
                    return True
                if not self.is_product(node):
                    waiting += [v for v in node.outputs if v not in seen]
                    seen.update(node.outputs)
        return False


def low_weights(body: Body, product: Product, *, in_layer: bool) -> frozenset[int]:
    """Return the values of a body's own weights that its products in low precision alone read."""
    if not in_layer and not product.head:
        return frozenset()
    nodes = [step for step in body.steps if isinstance(step, Node)]
    readers: dict[int, tuple[tuple[Node, int], ...]] = {}
    for node in nodes:
        for place, value in enumerate(node.inputs):
            readers[value] = (*readers.get(value, ()), (node, place))
    uses = _Uses(readers, product.operations)
    own = {weight.value for weight in body.weights}

    def is_low(node: Node, place: int) -> bool:
        if not uses.is_product(node) or place != WEIGHT or node.inputs[0] in own:
            return False
        return product.router or not uses.chooses(node.outputs[0])

    return frozenset(
        value
        for value in own
        if value in readers and all(is_low(node, place) for node, place in readers[value])
    )
