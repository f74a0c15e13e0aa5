# SPDX-License-Identifier: Apache-2.0
"""A mesh that takes a program at its word: every chip adds what it has, and collectives alone exchange anything.

`MeshEngine` completes owed sums where they arise, and so gives the right bits to a program whose collectives are wrong.
Here a sum is what the program's own collective makes of the chips' parts; there is no declared order, so that results
are compared with a tolerance. Meant for programs that the checker accepts: others may have no meaning here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from device_model.engine.engine import Engine
from device_model.engine.plan import Plan
from device_model.engine.rank_plan import RankPlanner, axes_of
from device_model.mesh.engine import CopySession
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Numerics
from device_model.program.places import Buffer, Meeting, Meets, Operation
from device_model.weights.reading import TensorReader
from dsl.graph import Graph, Node, Repeat
from dsl.mesh.rank import Rank, ranks
from dsl.ops import OPS
from dsl.ops.spec import Work
from farm.matrix.meshes import TOKENS, Bits, Steps

TOLERANCE = 1e-3
"""Of the largest result: far above what another order of additions does to float32, far below a wrong sum."""


@dataclass
class LiteralPlanner(RankPlanner):
    """Makes the plan of one chip as the text says it."""

    def _is_view(self, node: Node) -> bool:
        return super()._is_view(node) and not self._adds(node)

    def _adds(self, node: Node) -> bool:
        return node.op in ("all_reduce", "reduce_scatter") and self._cuts(axes_of(node))

    def _share(self, node: Node, operation: Operation) -> bool:
        """Add what all chips of a collective have, then take the chip's own part if that is asked for."""
        if not self._adds(node):
            return super()._share(node, operation)
        group = self._group(axes_of(node))
        count = len(group)
        nodes = tuple(((at, at + 1),) for at in range(count))
        numbers = tuple(share.rank.number for share in group)
        (out,), given = operation.outputs, operation.inputs[0]
        if not isinstance(out, Buffer) or not isinstance(given, Buffer):
            raise TypeError(f"{node.op} does not depend on tokens")
        total = self._fresh(given)
        meeting = Meeting(Meets.ADD, numbers, nodes, count)
        added = replace(operation, outputs=(total,), attrs={}, meeting=meeting)
        if node.op == "reduce_scatter":
            self.operations.append(added)
            return super()._share(node, replace(operation, inputs=(total,)))
        self.operations.append(replace(added, outputs=operation.outputs))
        return True

    def _look_up(self, node: Node, operation: Operation) -> bool:
        """Look up what is in a chip's own part of a table; other rows are zeros."""
        table, *_ = node.inputs
        axis = self.graph.values[table].type.axes[0]
        if node.op != "gather" or not self._cuts(axis.shards):
            return False
        first, _ = self.shares.span(table, axis)
        attrs = {**node.attrs, "first": first, "entries": axis.dim}
        self.operations.append(replace(operation, attrs=attrs))
        return True

    def _experts(self, node: Node, operation: Operation) -> bool:
        """Add what a chip's own experts made."""
        y = self.graph.values[node.inputs[0]].type
        if node.op != "combine" or not self._cuts(y.axes[2].shards):
            return False
        part = self.owing.parts.at(node.inputs[0], y.axes[2].shards[0])
        run = self.shares.run(part)
        attrs = {**operation.attrs, "first": run.start, "stop": run.stop}
        self.operations.append(replace(operation, attrs=attrs))
        return True

    def _products(self, node: Node, operation: Operation) -> bool:
        """Multiply by a chip's own columns."""
        if OPS[node.op].work not in (Work.GEMM, Work.EXPERTS) or not self.owing.summed(node):
            return False
        self.operations.append(self._of_heads(node, replace(operation, leaves=None)))
        return True


class LiteralChip(Engine):
    """One chip of such a mesh, on the twins in numpy."""

    def __init__(self, graph: Graph, reader: TensorReader, numerics: Numerics, rank: Rank) -> None:
        self.graph, self.kernels, self.numerics = graph, "reference", numerics
        self.plan: Plan = LiteralPlanner(graph, reader, numerics, rank=rank).plan()
        self._team = None


def literally_differs(
    graph: Graph, reader: TensorReader, mesh: Mapping[str, int], steps: Steps, wanted: Bits
) -> str:
    """Return where a mesh that takes a program at its word has other results than wanted, empty where it has not.

    Copies along the axes that split the batch differ in nothing but their sequences: one of them is run. Where they
    share experts, nothing is; all layers are on every chip.
    """
    apart = {
        *graph.batch_shards,
        *(step.stages for step in graph.body.steps if isinstance(step, Repeat)),
    }
    sizes = {axis: 1 if axis in apart else mesh.get(axis, 1) for axis in graph.mesh}
    held = {axis for value in graph.values for each in value.type.axes for axis in each.shards}
    if all(size == 1 for size in sizes.values()) or held & set(graph.batch_shards):
        return ""
    numerics = numerics_named("f32")
    chips = [LiteralChip(graph, reader, numerics, rank) for rank in ranks(sizes)]
    session = CopySession(chips, (0,) * len(chips), len(steps[0]))
    draw, results = np.random.default_rng(15), iter(wanted)
    for step in steps:
        rows = [draw.integers(0, TOKENS, size=count) for count in step]
        try:
            made = session.step(rows, "all", None, None)
        except AssertionError as error:
            return str(error)
        for number, got in enumerate(made):
            if problem := _unlike(got, next(results).view(np.float32)):
                return f"taken at its word, sequence {number} is {problem}"
    return ""


def _unlike(got: np.ndarray, wanted: np.ndarray) -> str:
    if got.shape != wanted.shape:
        return f"of shape {got.shape}"
    scale = float(np.abs(wanted).max(initial=0.0)) or 1.0
    error = float(np.abs(got - wanted).max(initial=0.0)) / scale
    return f"off by {error:.1e} of the largest" if not error <= TOLERANCE else ""
