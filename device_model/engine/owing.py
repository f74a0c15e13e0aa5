# SPDX-License-Identifier: Apache-2.0
"""What the sums of a program that a mesh may cut look like: their leaves, their format, and where they are complete.

It is the same on one chip and on many, because it follows from the program and its sizes alone. Which chip has which
leaf is not known here.
"""

from __future__ import annotations

from device_model.numbers.precision import Leaves
from dsl.graph import Body, Graph, Node, Repeat
from dsl.mesh.components import Component, Components, components
from dsl.mesh.cuts import leaf_borders
from dsl.mesh.trees import merges
from dsl.ops import OPS
from dsl.ops.spec import Work

COMPLETES = frozenset(spec.name for spec in OPS.values() if spec.completes)
"""Operations that complete an owed sum."""


class Owing:
    """The owed sums of a bound program."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.parts: Components = components(graph)
        self._makers: dict[int, Node] = {}
        self._readers: dict[int, list[Node | None]] = {}
        for body, _ in graph.bodies():
            self._read(body)
        for output in graph.outputs:
            self._readers.setdefault(output.value, []).append(None)

    def _read(self, body: Body) -> None:
        for step in body.steps:
            if isinstance(step, Repeat):
                carried = (*step.initial, *(v for cls in step.classes for v in cls.carry_out))
                for value in carried:
                    self._readers.setdefault(value, []).append(None)
                continue
            for value in step.inputs:
                self._readers.setdefault(value, []).append(step)
            self._makers |= dict.fromkeys(step.outputs, step)

    def owes(self, value: int) -> bool:
        """Tell whether a value is a partial sum."""
        return bool(self._graph.values[value].type.partial)

    def is_completed_at_once(self, value: int) -> bool:
        """Tell whether nothing but what completes an owed sum reads it."""
        readers = self._readers.get(value, [])
        return len(readers) == 1 and readers[0] is not None and readers[0].op in COMPLETES

    def summed(self, node: Node) -> tuple[Component, ...]:
        """Return the components that a node's products are summed over, one for each mesh axis that cuts the sum."""
        if OPS[node.op].work not in (Work.GEMM, Work.EXPERTS):
            return ()
        (value,) = node.outputs
        contracted = self._graph.values[node.inputs[0]].type.axes[-1].shards
        owed = self._graph.values[value].type.partial & set(contracted)
        return tuple(self.parts.at(node.inputs[0], mesh) for mesh in contracted if mesh in owed)

    def leaves(self, node: Node) -> Leaves | None:
        """Return the leaves of the sums of a node over all of K, None where no mesh cuts them."""
        part = next(iter(self.summed(node)), None)
        if part is None:
            return None
        size = self._graph.values[node.inputs[0]].type.axes[-1].dim
        each = size // part.units if isinstance(size, int) else 1
        borders = tuple(border * each for border in leaf_borders(part))
        return Leaves(borders, merges(0, len(borders) - 1))

    def experts(self, node: Node) -> tuple[int, int] | None:
        """Return the value that says which experts made what a node adds up, and how many experts there are.

        None where the node adds nothing that a mesh splits by experts.
        """
        y = node.inputs[0]
        if node.op != "combine" or not self._graph.values[y].type.axes[2].shards:
            return None
        made = self.product(y)
        if made is None:
            return None
        count = self._graph.values[made.inputs[1]].type.axes[0].dim
        return made.inputs[2], count if isinstance(count, int) else 0

    def product(self, value: int) -> Node | None:
        """Return the product of experts that a value comes from, through what treats each of its numbers alone."""
        node = self._makers.get(value)
        while node is not None and OPS[node.op].work is not Work.EXPERTS:
            owned = [v for v in node.inputs if self._is_owned(v)]
            node = self._makers.get(owned[0]) if owned else None
        return node

    def _is_owned(self, value: int) -> bool:
        axes = self._graph.values[value].type.axes
        return len(axes) == 4 and bool(axes[2].shards)
