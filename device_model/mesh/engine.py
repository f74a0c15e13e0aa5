# SPDX-License-Identifier: Apache-2.0
"""All chips of a mesh in one process: an engine of each chip's own part, whose sessions meet as threads.

It answers as the engine of one chip does, with the same bits. Chips that hold copies of the result are compared: that
they differ is a fault of this package. Processes and machines are not here.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from device_model.engine.engine import Decide, Decision, Engine, Kernels, Logits, Session
from device_model.engine.executor import Observe
from device_model.engine.meetings import Meet
from device_model.engine.stage_plan import has_result
from device_model.mesh.fabric import Exchange, Fabric
from device_model.mesh.threads import ThreadFabric, run_ranks
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Array, Numerics
from device_model.program.places import Meets, Operation
from device_model.weights.reading import TensorReader
from dsl.counting.stages import pipeline
from dsl.diagnostics import refuse
from dsl.graph import Graph
from dsl.mesh.rank import ranks
from dsl.ops import OPS


class MeshEngine:
    """A graph with its weights in one numerics, on the chips of a mesh."""

    def __init__(
        self,
        graph: Graph,
        reader: TensorReader,
        numerics: str | Numerics,
        mesh: Mapping[str, int],
        kernels: Kernels = "fast",
        threads: int = 1,
    ) -> None:
        self.graph, self.kernels = graph, kernels
        self.numerics = numerics_named(numerics) if isinstance(numerics, str) else numerics
        # Copies of the whole differ in nothing but their sequences, and so share their chips' plans.
        self.copies = int(np.prod([mesh.get(axis, 1) for axis in graph.batch_shards], dtype=int))
        self.sizes = {
            axis: 1 if axis in graph.batch_shards else mesh.get(axis, 1) for axis in graph.mesh
        }
        self.ranks = ranks(self.sizes)
        staged = pipeline(graph)
        axis = "" if staged is None else staged.axis
        self.stages = tuple(rank.at.get(axis, 0) for rank in self.ranks)
        self.chips = tuple(
            Engine(graph, reader, self.numerics, kernels, threads, rank) for rank in self.ranks
        )
        _renew_alike(self.chips)
        self.plan = self.chips[0].plan

    def session(self, sequences: int = 1) -> MeshSession:
        """Start sequences without context; copies of the whole take as many each."""
        if sequences % self.copies:
            axes = ", ".join(self.graph.batch_shards)
            message = (
                f"a batch of {sequences} is not divided by the {self.copies} copies along {axes}"
            )
            raise refuse("S305", message)
        each = sequences // self.copies
        return MeshSession(
            tuple(CopySession(self.chips, self.stages, each) for _ in range(self.copies)), each
        )


def _renew_alike(chips: Sequence[Engine]) -> None:
    """Let all chips compute a sequence anew where one must: stages have the renewals of their own layers alone."""
    renewals = tuple(dict.fromkeys(r for chip in chips for r in chip.plan.renewals))
    for chip in chips:
        chip.plan = replace(chip.plan, renewals=renewals)


def _first_choices(chips: Sequence[Engine], stages: Sequence[int]) -> tuple[int, ...]:
    """Return for each chip the number of its first choice: stages go on where the one before ended."""
    counts = {
        stage: sum(OPS[op.op].chooses for op in chip.plan.operations if op.meeting is None)
        for stage, chip in zip(stages, chips, strict=True)
    }
    return tuple(sum(counts[earlier] for earlier in range(stage)) for stage in stages)


@dataclass(slots=True)
class _Answers:
    """What one chip's decisions were answered with, for the chips that come to the same ones.

    `firsts` has the number of each chip's first choice; of each stage one chip is `speaking` for all.
    """

    decide: Decide
    firsts: tuple[int, ...]
    speaking: Container[int]
    given: dict[int, Array | None] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def of(self, chip: int) -> Decide:
        """Return how a chip is answered: the first asks, the others are told."""
        start = self.firsts[chip]

        def ask(decision: Decision) -> Array | None:
            decision = replace(decision, number=start + decision.number)
            answer = self.decide(decision)
            with self.changed:
                self.given[decision.number] = answer
                self.changed.notify_all()
            return answer

        def hear(decision: Decision) -> Array | None:
            with self.changed:
                self.changed.wait_for(lambda: start + decision.number in self.given)
                return self.given[start + decision.number]

        return ask if chip in self.speaking else hear


class CopySession:
    """Some sequences on the chips that have one copy of the model."""

    def __init__(self, chips: Sequence[Engine], stages: tuple[int, ...], sequences: int) -> None:
        self._numbers = tuple(range(len(chips)))
        self._firsts = _first_choices(chips, stages)
        self._speaking = {stages.index(stage) for stage in stages}
        self._with_result = tuple(n for n in self._numbers if has_result(chips[n].plan))
        self._fabric: Fabric
        self._steps = 0
        self.sessions: tuple[Session, ...] = tuple(
            chip.session(sequences, self._meet(number)) for number, chip in enumerate(chips)
        )

    def _meet(self, rank: int) -> Meet:
        """Return how a chip meets the others on the fabric of a step."""

        def meet(number: int, operation: Operation, part: Array) -> Sequence[Array]:
            meeting = operation.meeting
            group = () if meeting is None else meeting.group
            span = "" if operation.span is None else str(operation.span)
            what = Exchange(number, operation.op, group, span)
            if meeting is not None and meeting.kind is Meets.SEND:
                self._fabric.send(rank, self._steps, what, part)
                return ()
            if meeting is not None and meeting.kind is Meets.RECEIVE:
                return (self._fabric.receive(rank, self._steps, what),)
            return self._fabric.exchange(rank, self._steps, what, part)

        return meet

    def step(
        self, rows: Sequence[Array], logits: Logits, observe: Observe | None, decide: Decide | None
    ) -> list[Array]:
        """Add tokens to the sequences on every chip, and return the results, which all have."""
        fabric = ThreadFabric(self._numbers)
        self._fabric = fabric
        answers = None if decide is None else _Answers(decide, self._firsts, self._speaking)

        def of(chip: int) -> list[Array]:
            told = None if answers is None else answers.of(chip)
            return self.sessions[chip].step(
                rows, logits, observe if chip in self._speaking else None, told
            )

        made = run_ranks(fabric, self._numbers, of)
        self._steps += 1
        first, *others = (made[chip] for chip in self._with_result)
        if any(not _alike(a, b) for other in others for a, b in zip(first, other, strict=True)):
            raise AssertionError("chips with copies of one result have different bits")
        return first


class MeshSession:
    """Some sequences on a mesh, and what is kept of them."""

    def __init__(self, copies: tuple[CopySession, ...], each: int) -> None:
        self._copies, self._each = copies, each

    @property
    def chips(self) -> tuple[Session, ...]:
        """Return the sessions of all chips, one copy of the model after the other."""
        return tuple(session for copy in self._copies for session in copy.sessions)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the context of each sequence."""
        return tuple(length for copy in self._copies for length in copy.sessions[0].lengths)

    @property
    def activation_bytes(self) -> int:
        """Return the most bytes that the values of the last step took at a time on one chip."""
        return max(session.activation_bytes for session in self.chips)

    def step(
        self,
        rows: Sequence[Array],
        logits: Logits = "all",
        observe: Observe | None = None,
        decide: Decide | None = None,
    ) -> list[Array]:
        """Add tokens to the sequences and return each one's results, as `Session.step` does."""
        size, made = self._each, list[Array]()
        for number, copy in enumerate(self._copies):
            own = rows[number * size : (number + 1) * size]
            made += copy.step(own, logits, observe, decide)
        return made

    def rewind(self, sequence: int, length: int) -> int:
        """Let a sequence end at a length, as `Session.rewind` does, on every chip alike."""
        copy, own = self._copies[sequence // self._each], sequence % self._each
        kept = min(session.rewind(own, length) for session in copy.sessions)
        for session in copy.sessions:
            session.rewind(own, kept)
        return kept


def _alike(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a.view(np.uint32), b.view(np.uint32)))
