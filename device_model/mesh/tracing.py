# SPDX-License-Identifier: Apache-2.0
"""Plans that remember which node of the program each of their operations came from.

Plans of one chip and of a mesh go through the nodes in the same order, so that the n-th visit of one is the n-th of the
other, however many operations each made of it. Stages of a pipeline and copies of the whole are not told apart: their
chips do what one chip does. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from device_model.engine.plan import Plan, Planner
from device_model.engine.rank_plan import RankPlanner
from device_model.numbers.numerics import Numerics
from device_model.program.places import Place
from device_model.weights.reading import TensorReader
from dsl.graph import Graph, Node
from dsl.mesh.rank import Rank, Shares

Env: TypeAlias = dict[int, Place]


@dataclass(frozen=True, slots=True)
class Visit:
    """A node in a plan: the operations from `start` to `stop` are its own; where operands and results are."""

    node: Node
    layer: int
    start: int
    stop: int
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Traced:
    """A plan and its visits, and what the chip has of each value: None for one chip, which has all of it."""

    plan: Plan
    visits: tuple[Visit, ...]
    shares: Shares | None = None


@dataclass
class _TracedPlanner(Planner):
    visits: list[Visit] = field(default_factory=list)

    def _node(self, node: Node, env: Env) -> None:
        _traced(self, self.visits, node, env, super()._node)


@dataclass
class _TracedRankPlanner(RankPlanner):
    visits: list[Visit] = field(default_factory=list)

    def _node(self, node: Node, env: Env) -> None:
        _traced(self, self.visits, node, env, super()._node)


def _traced(
    planner: Planner, visits: list[Visit], node: Node, env: Env,
    make: Callable[[Node, Env], None],
) -> None:  # fmt: skip
    """Let a planner make a node's operations, and remember which they are."""
    start, inputs = len(planner.operations), tuple(env[value] for value in node.inputs)
    make(node, env)
    outputs = tuple(env[value] for value in node.outputs if value in env)
    visits.append(Visit(node, planner.layer, start, len(planner.operations), inputs, outputs))


def traced(
    graph: Graph, reader: TensorReader, numerics: Numerics, rank: Rank | None = None
) -> Traced:
    """Return the plan of one chip, or of one chip of a mesh, with its visits."""
    if rank is None:
        whole = _TracedPlanner(graph, reader, numerics)
        return Traced(whole.plan(), tuple(whole.visits))
    part = _TracedRankPlanner(graph, reader, numerics, rank=rank)
    return Traced(part.plan(), tuple(part.visits), part.shares)
