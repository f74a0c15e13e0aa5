"""A chip's memory during one step: weights, state, and the activations alive while each task runs.

State and activations are as the program says. Buffers of libraries and fragmentation are not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from device_model.timeline.tasks import AFTER, BEFORE, BETWEEN, Stage, pipeline_depth
from device_model.timeline.weights import Weights
from dsl.counting.footprint import footprint
from dsl.counting.liveness import Candidate, alive
from dsl.graph import Graph
from dsl.symbolic import evaluate


@dataclass(frozen=True)
class MemoryUse:
    """Bytes on one chip: what lasts through the step, and by stage what is alive during each task of one layer."""

    weights: float
    stored: float
    state: float
    activations: Mapping[str, tuple[float, ...]]

    @property
    def lasting(self) -> float:
        """Return the bytes that stay from step to step."""
        return self.weights + self.state

    @cached_property
    def most(self) -> float:
        """Return the most bytes of activations."""
        return max((b for stage in self.activations.values() for b in stage), default=0.0)

    @property
    def peak(self) -> float:
        """Return the most bytes in all."""
        return self.lasting + self.most


class Memory:
    """The formulas of one graph, evaluated for steps."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.footprint = footprint(graph)
        self.weights = Weights(graph, self.footprint.parts)
        self.alive = alive(graph)

    def use(
        self,
        point: Mapping[str, int],
        found: Sequence[Stage],
        dtype: str,
        *,
        last_logits: bool = True,
    ) -> MemoryUse:
        """Return the memory of a step whose new tokens are part of the state when it ends."""
        graph = self.graph
        full = {**point, graph.context: point[graph.context] + point[graph.seq]}
        head = {**point, graph.seq: 1} if last_logits else dict(point)
        stored = float(evaluate(self.footprint.weights, point))
        held = float(self.weights.held(point, dtype))
        # A pipeline that is kept full holds the state of as many batches as it has stages.
        state = float(evaluate(self.footprint.state, full)) * pipeline_depth(graph, point)
        return MemoryUse(held, stored, state, dict(_activations(self.alive, point, head, found)))


def _activations(
    candidates: Sequence[Candidate],
    point: Mapping[str, int],
    head: Mapping[str, int],
    found: Sequence[Stage],
) -> Iterator[tuple[str, tuple[float, ...]]]:
    layers: dict[str, list[Candidate]] = {}
    outside: dict[str, list[Candidate]] = {BEFORE: [], BETWEEN: [], AFTER: []}
    for candidate in candidates:
        if candidate.place:
            layers.setdefault(candidate.place, []).append(candidate)
        else:
            outside[AFTER if layers else BEFORE].append(candidate)
    rest = iter(layers.values())
    for stage in found:
        if stage.name in outside:
            at = head if stage.name == AFTER else point
            yield stage.name, _by_task(stage, outside[stage.name], at)
        else:
            yield stage.name, _by_task(stage, next(rest, []), point)


def _by_task(
    stage: Stage, candidates: Sequence[Candidate], point: Mapping[str, int]
) -> tuple[float, ...]:
    """Return the most bytes alive during each task; operations between tasks take no time."""
    found: list[float] = []
    at = 0
    for task in stage.tasks:
        start = _find(task.ops, candidates, at)
        at = start + len(task.ops)
        sizes = [float(evaluate(c.bytes, point)) for c in candidates[start:at]]
        found.append(max(sizes, default=found[-1] if found else 0.0))
    return tuple(found)


def _find(ops: Sequence[str], candidates: Sequence[Candidate], at: int) -> int:
    for start in range(at, len(candidates) - len(ops) + 1):
        if all(c.op == op for c, op in zip(candidates[start:], ops, strict=False)):
            return start
    return at
