# SPDX-License-Identifier: Apache-2.0
"""The activations alive while each task of a step runs; their most is what `memory.use` says of the step.

Operations between tasks take no time, so that what is alive in them alone is not seen here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from device_model.memory.use import MemoryFormulas, Question
from device_model.timeline.tasks import AFTER, BEFORE, BETWEEN, Stage
from dsl.counting.liveness import Candidate
from dsl.symbolic import evaluate


def activations_of(
    memory: MemoryFormulas, question: Question, stages: Sequence[Stage]
) -> dict[str, tuple[float, ...]]:
    """Return by stage the bytes of activations on one chip during each task of one layer."""
    return dict(_activations(memory.alive, memory.point(question), stages))


def _activations(
    candidates: Sequence[Candidate], point: Mapping[str, int], stages: Sequence[Stage]
) -> Iterator[tuple[str, tuple[float, ...]]]:
    layers: dict[str, list[Candidate]] = {}
    outside: dict[str, list[Candidate]] = {BEFORE: [], BETWEEN: [], AFTER: []}
    for candidate in candidates:
        if candidate.place:
            layers.setdefault(candidate.place, []).append(candidate)
        else:
            outside[AFTER if layers else BEFORE].append(candidate)
    rest = iter(layers.values())
    for stage in stages:
        own = outside[stage.name] if stage.name in outside else next(rest, [])
        yield stage.name, _by_task(stage, own, point)


def _by_task(
    stage: Stage, candidates: Sequence[Candidate], point: Mapping[str, int]
) -> tuple[float, ...]:
    """Return the most bytes alive during each task."""
    most: list[float] = []
    at = 0
    for task in stage.tasks:
        start = _find(task.ops, candidates, at)
        at = start + len(task.ops)
        sizes = [float(evaluate(c.bytes, point)) for c in candidates[start:at]]
        most.append(max(sizes, default=most[-1] if most else 0.0))
    return tuple(most)


def _find(ops: Sequence[str], candidates: Sequence[Candidate], at: int) -> int:
    for start in range(at, len(candidates) - len(ops) + 1):
        if all(c.op == op for c, op in zip(candidates[start:], ops, strict=False)):
            return start
    return at
