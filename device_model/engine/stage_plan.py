# SPDX-License-Identifier: Apache-2.0
"""The plan of one chip of a pipeline's stage: its own layers, and what stages hand to each other.

Which stage has what is the language's word (`dsl/counting/stages.py`). The result of a stage that is not the last one
is what its layers carry. When stages work is not planned here: a step goes through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from device_model.engine.plan import Plan, plan
from device_model.engine.rank_plan import RankPlanner
from device_model.numbers.numerics import Numerics
from device_model.program.places import Buffer, Meeting, Meets, Operation, Place
from device_model.weights.reading import TensorReader
from dsl.counting.stages import Load, Pipeline, pipeline, stage_layers
from dsl.graph import Body, Graph, Node, Repeat, Step
from dsl.mesh.rank import Rank

CARRIED = "carried"
"""The name of the result of a stage that is not the last one."""


@dataclass
class StagePlanner(RankPlanner):
    """Makes the plan of one chip of a stage."""

    staged: Pipeline | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.staged = pipeline(self.graph)

    @property
    def _stages(self) -> tuple[int, int]:
        """Return which stage the chip is of, and of how many."""
        if self.staged is None:
            return 0, 1
        axis = self.staged.axis
        return self.rank.at.get(axis, 0), self.rank.sizes.get(axis, 1)

    def _enter(self, body: Body, env: dict[int, Place], layer: int) -> None:
        stage, stages = self._stages
        if self.staged is None or stages == 1 or body is not self.graph.body:
            super()._enter(body, env, layer)
            return
        own = Load((), stage == 0, stage == stages - 1)
        places = self.staged.places

        def is_here(value: int) -> bool:
            return value in places and own.has(places[value])

        super()._enter(
            replace(
                body,
                weights=tuple(w for w in body.weights if is_here(w.value)),
                states=tuple(s for s in body.states if is_here(s.value)),
            ),
            env,
            layer,
        )

    def _run(self, steps: tuple[Step, ...], env: dict[int, Place]) -> None:
        _, stages = self._stages
        if stages == 1:
            super()._run(steps, env)
            return
        for step in steps:
            if isinstance(step, Repeat):
                self._repeat(step, env)
            elif self._is_made_here(step, env):
                self._node(step, env)

    def _is_made_here(self, node: Node, env: dict[int, Place]) -> bool:
        """Tell whether a node outside of the layers is for this stage: what it reads is here, and nobody sends it."""
        sent = set() if self.staged is None else set(self.staged.sent)
        stage, _ = self._stages
        return all(value in env for value in node.inputs) and (
            stage == 0 or sent.isdisjoint(node.outputs)
        )

    def _repeat(self, step: Repeat, env: dict[int, Place]) -> None:
        stage, stages = self._stages
        if self.staged is None or stages == 1 or step.stages is None:
            super()._repeat(step, env)
            return
        if stage:
            for value in (*step.initial, *self.staged.sent):
                env[value] = self._receive(value, stage)
        layers = stage_layers(len(step.class_of()), stages, stage)
        own = tuple(
            replace(cls, layers=tuple(layer for layer in cls.layers if layer in layers))
            for cls in step.classes
        )
        super()._repeat(replace(step, classes=tuple(cls for cls in own if cls.layers)), env)
        if stage == stages - 1:
            return
        for value in (*step.results, *self.staged.sent):
            self._send(env[value], stage)
        # What follows the layers is the last stage's.
        carried = {value: env[value] for value in step.results}
        env.clear()
        env.update(carried)

    def _receive(self, value: int, stage: int) -> Buffer:
        """Append a meeting at which the stage before hands a value over."""
        made = self._buffer(value)
        self._meet(Meets.RECEIVE, stage - 1, stage, (), (made,))
        return made

    def _send(self, place: Place, stage: int) -> None:
        """Append a meeting at which a value goes to the next stage; one that no token changes is made there anew."""
        if isinstance(place, Buffer):
            self._meet(Meets.SEND, stage, stage + 1, (place,), ())

    def _meet(
        self, kind: Meets, source: int, target: int, inputs: tuple[Place, ...],
        outputs: tuple[Place, ...],
    ) -> None:  # fmt: skip
        group = (self._of_stage(source).number, self._of_stage(target).number)
        operands = ("x",) * len(inputs)
        meeting = Meeting(kind, group)
        self.operations.append(
            Operation("send", inputs, outputs, {}, operands, layer=self.layer, meeting=meeting)
        )

    def _of_stage(self, stage: int) -> Rank:
        """Return the chip of another stage that stands where this one does."""
        axis = "" if self.staged is None else self.staged.axis
        return Rank(self.rank.sizes, {**self.rank.at, axis: stage})

    def _outputs(self, env: dict[int, Place]) -> dict[str, Place]:
        stage, stages = self._stages
        if self.staged is None or stage == stages - 1:
            return super()._outputs(env)
        first = self.staged.repeat.results[0]
        return {CARRIED: env[first]}


def rank_plan(graph: Graph, reader: TensorReader, numerics: Numerics, rank: Rank) -> Plan:
    """Return the plan of one chip of a mesh; raises `Refused` where it would have a part that means nothing alone."""
    if all(size == 1 for size in rank.sizes.values()):
        return plan(graph, reader, numerics)
    return StagePlanner(graph, reader, numerics, rank=rank).plan()


def has_result(plan: Plan) -> bool:
    """Tell whether a plan's result is the program's, not what a stage carries on."""
    return CARRIED not in plan.outputs
