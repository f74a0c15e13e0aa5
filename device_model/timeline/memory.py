"""A chip's memory during one step: weights, state, and the activations alive while each task runs.

Weights of products take the bits of the products' format where those are fewer than the stored ones, as the prices
assume; all else is as the program says. Buffers of libraries and fragmentation are not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from device_model.cost.rates import operand_bits
from device_model.timeline.tasks import AFTER, BEFORE, Stage
from dsl.footprint import footprint, split_batch, weight_bytes
from dsl.graph import Body, Graph, Node, Repeat, Weight
from dsl.liveness import Candidate, alive
from dsl.stored_tensors import stored_bits
from dsl.symbolic import Dim, evaluate

PRODUCTS = frozenset({"matmul", "head_matmul", "expert_matmul"})


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
        self.state: Dim = footprint(graph).state
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
        stored, held = _weights(graph, point, dtype)
        state = float(evaluate(self.state, full))
        return MemoryUse(held, stored, state, dict(_activations(self.alive, point, head, found)))


def _weights(graph: Graph, point: Mapping[str, int], dtype: str) -> tuple[float, float]:
    """Return the bytes of all weights on one chip as they are stored, and as the products' format holds them."""
    stored = held = 0.0
    for body, count, stages in _bodies(graph):
        times = count / (point.get(stages, 1) if stages else 1)
        packed = _only_in_products(body)
        for weight in body.weights:
            size = float(evaluate(split_batch(graph, weight_bytes(weight)), point))
            stored += times * size
            share = _held(weight, dtype) if weight.value in packed else 1.0
            held += times * size * share
    return stored, held


def _bodies(graph: Graph) -> Iterator[tuple[Body, int, str | None]]:
    yield graph.body, 1, None
    for step in graph.body.steps:
        if isinstance(step, Repeat):
            for cls in step.classes:
                yield cls.body, len(cls.layers), step.stages


def _only_in_products(body: Body) -> frozenset[int]:
    """Return the values that products read as their weights, and nothing else reads."""
    inside: set[int] = set()
    elsewhere: set[int] = set()
    for node in body.steps:
        if not isinstance(node, Node):
            continue
        for name, value in zip(node.operands, node.inputs, strict=True):
            product = node.op in PRODUCTS and name == "w"
            (inside if product else elsewhere).add(value)
    return frozenset(inside - elsewhere)


def _held(weight: Weight, dtype: str) -> float:
    """Return the share of the stored bits that a weight takes in the products' format, at most 1."""
    bits = stored_bits(weight.source, weight.type.dtype)
    elements = weight.type.elements()
    if not isinstance(bits, int) or not isinstance(elements, int) or bits <= 0:
        return 1.0
    return min(1.0, operand_bits(dtype) * elements / bits)


def _activations(
    candidates: Sequence[Candidate],
    point: Mapping[str, int],
    head: Mapping[str, int],
    found: Sequence[Stage],
) -> Iterator[tuple[str, tuple[float, ...]]]:
    layers: dict[str, list[Candidate]] = {}
    outside: dict[str, list[Candidate]] = {BEFORE: [], AFTER: []}
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
