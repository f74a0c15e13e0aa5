# SPDX-License-Identifier: Apache-2.0
"""Bytes of each stage of a pipeline in a step, and of the stage that needs the most.

Stages differ: in layers where those do not come out even, and by the two ends of the program. What a program holds in
the mean over its stages is a formula, and `counting`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_model.memory.held import held_weight, weight_readers
from device_model.memory.points import bytes_at
from dsl.counting.footprint import split_batch, weight_bytes
from dsl.counting.liveness import Candidate, undominated
from dsl.counting.stages import Holders, Load, Pipeline, loads
from dsl.graph import Body, Graph
from dsl.ops.spec import local_bytes
from dsl.symbolic import Dim, symbol

Point = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Formulas of a layer, or of a stage: weights where products compute in a format, as stored, and state."""

    weights: Dim = 0
    stored: Dim = 0
    state: Dim = 0

    def plus(self, other: _Bytes, times: int = 1) -> _Bytes:
        return _Bytes(
            self.weights + times * other.weights,
            self.stored + times * other.stored,
            self.state + times * other.state,
        )


@dataclass(frozen=True, slots=True)
class StageBytes:
    """Whole bytes of one stage at a point, or at many."""

    weights: Any
    stored: Any
    state: Any
    activations: Any

    @property
    def total(self) -> Any:
        """Return the bytes in all."""
        return self.weights + self.state + self.activations


class Stages:
    """The formulas of the stages of one bound program where products compute in a format."""

    def __init__(
        self, graph: Graph, staged: Pipeline, numerics: str, alive: Sequence[Candidate]
    ) -> None:
        self.graph, self.staged, self.numerics = graph, staged, numerics
        self._readers = weight_readers(graph)
        self._classes = [self._bytes(cls.body) for cls in staged.repeat.classes]
        self._outside = {
            place: self._bytes(graph.body, place) for place in {*staged.places.values()}
        }
        groups = (
            (Holders.FIRST, [c for c in alive if not c.place and not c.after]),
            (Holders.EVERY, [c for c in alive if c.place]),
            (Holders.LAST, [c for c in alive if c.after]),
        )
        self._alive = [(place, undominated(group)) for place, group in groups]
        self._formulas: dict[Load, _Bytes] = {}

    def _bytes(self, body: Body, place: Holders | None = None) -> _Bytes:
        """Return the bytes of a layer, or of what lies in one place outside of layers."""
        places = self.staged.places

        def here(value: int) -> bool:
            return place is None or places.get(value) == place

        weights = [w for w in body.weights if here(w.value)]
        states = [s for s in body.states if s.item is None and here(s.value)]
        held: Dim = 0
        stored: Dim = 0
        state: Dim = 0
        for weight in weights:
            held = held + held_weight(self.graph, weight, self._readers, self.numerics)
            stored = stored + weight_bytes(weight)
        for each in states:
            state = state + split_batch(self.graph, local_bytes(each.type))
        # A pipeline that is kept full holds the state of as many batches as it has stages.
        return _Bytes(held, stored, state * symbol(self.staged.axis))

    def _of(self, load: Load) -> _Bytes:
        if load not in self._formulas:
            total = _Bytes()
            for count, each in zip(load.counts, self._classes, strict=True):
                total = total.plus(each, count)
            for place, each in self._outside.items():
                total = total.plus(each, int(load.has(place)))
            self._formulas[load] = total
        return self._formulas[load]

    def each(self, stages: int, before: Point, after: Point) -> Iterator[StageBytes]:
        """Yield the bytes of every kind of stage, at points before and after the step with so many stages."""
        axis = {self.staged.axis: stages}
        before, after = {**before, **axis}, {**after, **axis}
        peaks = [
            (place, [bytes_at(c.bytes, before) for c in group]) for place, group in self._alive
        ]
        for load in loads(self.staged.classes, stages):
            formulas = self._of(load)
            yield StageBytes(
                bytes_at(formulas.weights, before),
                bytes_at(formulas.stored, before),
                bytes_at(formulas.state, after),
                largest_of([b for place, group in peaks if load.has(place) for b in group]),
            )

    def largest(self, before: Point, after: Point) -> StageBytes:
        """Return the bytes of the stage that needs the most, at each of the points before and after the step."""
        stages = before.get(self.staged.axis, 1)
        if not isinstance(stages, np.ndarray):
            return self._largest(int(stages), before, after)
        result: StageBytes | None = None
        for number in np.unique(stages):
            found = self._largest(int(number), before, after)
            result = found if result is None else _choose(stages == number, found, result)
        if result is None:
            raise ValueError("there is no point")
        return result

    def _largest(self, stages: int, before: Point, after: Point) -> StageBytes:
        first, *others = self.each(stages, before, after)
        for other in others:
            first = _choose(np.asarray(other.total > first.total), other, first)
        return first


def _choose(where: Any, one: StageBytes, other: StageBytes) -> StageBytes:
    """Return one stage's bytes at some points and another's elsewhere; plain numbers stay so."""
    if np.ndim(where) == 0:
        return one if where else other
    names = ("weights", "stored", "state", "activations")
    return StageBytes(*(np.where(where, getattr(one, n), getattr(other, n)) for n in names))


def largest_of(sizes: Sequence[Any]) -> Any:
    """Return the largest of some sizes at each point."""
    most: Any = 0
    for size in sizes:
        arrays = isinstance(most, np.ndarray) or isinstance(size, np.ndarray)
        most = np.maximum(most, size) if arrays else max(most, size)
    return most
