# SPDX-License-Identifier: Apache-2.0
"""The one answer to "how many bytes on one chip": weights, state and activations of a step of a program on a mesh.

Formulas are evaluated at one point or over arrays of points. Buffers of libraries and fragmentation are not known; what
a chip holds, and how far a load could grow there, is `capacity`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from device_model.memory.held import held_weights
from device_model.memory.points import bytes_at
from device_model.memory.stages import Stages, largest_of
from dsl.counting.footprint import Footprint, footprint
from dsl.counting.liveness import Candidate, alive, peak_candidates
from dsl.counting.stages import pipeline
from dsl.diagnostics import refuse
from dsl.graph import Graph
from dsl.mesh.components import Components, components
from dsl.mesh.local import is_even, largest_rank, on_chip
from dsl.symbolic import Dim, names, symbol

DEFAULT_NUMERICS = "bf16"
DEFAULT_CONTEXT = 4096


class Logits(Enum):
    """Of which new tokens logits are computed: of the last one of each sequence, as servers do, or of all."""

    LAST = "last"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Question:
    """A step: sizes of the mesh, sequences, new tokens of each, and tokens cached of each before the step.

    The state holds `context + new` tokens when the step ends. Numbers, or arrays that broadcast.
    """

    mesh: Mapping[str, Any]
    batch: Any
    new: Any
    context: Any


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes on one chip in a step: integers, or arrays of floats. `stored` are the weights as the program has them."""

    weights: Any
    stored: Any
    state: Any
    activations: Any

    @property
    def lasting(self) -> Any:
        """Return the bytes that stay from step to step."""
        return self.weights + self.state

    @property
    def total(self) -> Any:
        """Return the most bytes in all."""
        return self.lasting + self.activations

    def as_dict(self) -> dict[str, int]:
        """Return the bytes of one point as JSON data."""
        return {
            "weights": self.weights,
            "weights_as_stored": self.stored,
            "state": self.state,
            "activations": self.activations,
            "total": self.total,
        }


class MemoryFormulas:
    """The formulas of one bound graph where products compute in a format; `logits` says of which tokens they are.

    Of a pipeline they are those of a chip in the mean over the stages; `use` is exact for the one that needs the most.
    """

    def __init__(
        self, graph: Graph, numerics: str = DEFAULT_NUMERICS, logits: Logits = Logits.LAST
    ) -> None:
        refuse_further_sizes(graph)
        self.graph, self.numerics, self.logits = graph, numerics, logits
        self._uneven: dict[tuple[tuple[str, int], ...], MemoryFormulas] = {}
        self.footprint: Footprint = footprint(graph)
        self.stored: Dim = self.footprint.weights
        self.weights: Dim = held_weights(graph, self.footprint, numerics)
        # A pipeline that is kept full holds the state of as many batches as it has stages.
        staged = pipeline(graph)
        self.state: Dim = self.footprint.state * (symbol(staged.axis) if staged else 1)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Return the formulas whose largest is the peak of activations."""
        return peak_candidates(self.graph, last_logits=self.logits is Logits.LAST)

    @cached_property
    def stages(self) -> Stages | None:
        """Return the formulas of the stages of a pipeline, None where layers stay together."""
        staged = pipeline(self.graph)
        return Stages(self.graph, staged, self.numerics, self.alive) if staged else None

    @cached_property
    def alive(self) -> tuple[Candidate, ...]:
        """Return the bytes of activations alive at every operation in order."""
        return alive(self.graph, last_logits=self.logits is Logits.LAST)

    def point(self, question: Question) -> dict[str, Any]:
        """Return a question as the values of the formulas' names, before the step."""
        graph = self.graph
        sizes = {graph.batch: question.batch, graph.seq: question.new}
        mesh = dict.fromkeys(graph.mesh, 1) | dict(question.mesh)
        return {**mesh, **sizes, graph.context: question.context}

    def held(self, question: Question) -> dict[str, Any]:
        """Return the same after the step, as the state is then."""
        return self.point(question) | {self.graph.context: question.context + question.new}

    def use(self, question: Question) -> MemoryUse:
        """Return the bytes on one chip, on the one that has the most.

        Of arrays of meshes, and in `mean`, it is that of chips that all have as much.
        """
        cut = cut_sizes(self.graph, question.mesh)
        if cut is None or is_even(self.graph, self.parts, cut):
            return self.mean(question)
        key = tuple(sorted(cut.items()))
        if key not in self._uneven:
            most = largest_rank(self.graph, self.parts, cut)
            local = on_chip(self.graph, self.parts, most)
            self._uneven[key] = MemoryFormulas(local, self.numerics, self.logits)
        whole = dict(question.mesh) | dict.fromkeys(cut, 1)
        return self._uneven[key].mean(replace(question, mesh=whole))

    @cached_property
    def parts(self) -> Components:
        """Return what a mesh cuts together."""
        return components(self.graph)

    def mean(self, question: Question) -> MemoryUse:
        """Return the bytes on one chip as formulas say: of a pipeline, on one of the stage that needs the most."""
        before, after = self.point(question), self.held(question)
        if self.stages is not None:
            most = self.stages.largest(before, after)
            return MemoryUse(most.weights, most.stored, most.state, most.activations)
        return MemoryUse(
            bytes_at(self.weights, before),
            bytes_at(self.stored, before),
            bytes_at(self.state, after),
            self._activations(before),
        )

    def _activations(self, point: Mapping[str, Any]) -> Any:
        return largest_of([bytes_at(candidate.bytes, point) for candidate in self.candidates])


def cut_sizes(graph: Graph, mesh: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the sizes of the axes that cut values, None where the question is of many meshes."""
    staged = pipeline(graph)
    apart = {*graph.batch_shards, *((staged.axis,) if staged else ())}
    sizes = {axis: mesh.get(axis, 1) for axis in graph.mesh if axis not in apart}
    return sizes if all(isinstance(size, int) for size in sizes.values()) else None


def refuse_further_sizes(graph: Graph) -> None:
    """Refuse a program with sizes besides those of a load: batch, new tokens, context and mesh."""
    load = {graph.batch, graph.seq, graph.context, *graph.mesh}
    types = (*(value.type for value in graph.values), *(state.type for state in graph.arrays))
    further = {name for t in types for axis in t.axes for name in names(axis.dim)} - load
    if not further:
        return
    listed = ", ".join(f"`{name}`" for name in sorted(further))
    message = f"{graph.family} has sizes that are known only when it runs: {listed}"
    raise refuse("S613", message, help=f"write {listed} as a number in `config`, not in `dims`")


def phases(mesh: Mapping[str, int], batch: int, seq: int, context: int) -> dict[str, Question]:
    """Return the two steps that a load is asked about: a new token behind a context, and the prefill of a prompt.

    The prompt has `seq` tokens where that is more than one, else as many as the context.
    """
    prompt = seq if seq > 1 else max(context, 1)
    return {
        "decode": Question(mesh, batch, 1, context),
        "prefill": Question(mesh, batch, prompt, 0),
    }


def larger(uses: Mapping[str, MemoryUse]) -> str:
    """Return the name of the step that needs the most bytes at one point, the earlier of equal ones."""
    return max(uses, key=lambda name: uses[name].total)


def most_use(memory: MemoryFormulas, question: Question, prompts: Question) -> MemoryUse:
    """Return at each of many points the use of the larger of two steps: a decode step, and a prefill of some prompts.

    Where the prompts are fewer than the sequences that decode, these wait meanwhile, with their contexts in the state.
    """
    decode, prefill = memory.use(question), memory.use(prompts)
    waiting = question.batch - prompts.batch
    if np.any(np.asarray(waiting) > 0):
        others = memory.use(replace(question, batch=waiting))
        prefill = replace(prefill, state=prefill.state + others.state)
    most = np.asarray(prefill.total > decode.total)
    return MemoryUse(
        *(
            np.where(most, getattr(prefill, part.name), getattr(decode, part.name))
            for part in fields(MemoryUse)
        )
    )
