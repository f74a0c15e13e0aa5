"""The tasks of a program at one point: what an engine does in one go, with the sizes that its price depends on.

Neighbouring work is fused as serving engines do: products of one value are one product, element-wise runs are one pass,
the products of one choice of experts are one expert layer. FLOPs and bytes stay those of the operations, so that a
timeline adds up to the footprint. Prices are elsewhere.

A point may hold arrays, of which some are long along one axis and some along another: then sizes, FLOPs and bytes are
arrays too, and the tasks those of all points together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np

from device_model.timeline.sizes import everywhere, larger, never, positive, size_at
from dsl.counting.footprint import VIEWS, site_of, split_batch, state_views, weight_bytes
from dsl.graph import Body, Graph, Node, Repeat
from dsl.ops import OPS
from dsl.ops.spec import Site, local_bytes, no_traffic
from dsl.symbolic import Dim
from dsl.types import TensorType


class Kind(Enum):
    """What a task is, which says which formula prices it."""

    GEMM = "gemm"
    ATTENTION = "attention"
    EXPERTS = "moe"
    VECTOR = "vector"
    COLLECTIVE = "collective"


KINDS: Mapping[str, Kind] = {
    "matmul": Kind.GEMM,
    "head_matmul": Kind.GEMM,
    "attention": Kind.ATTENTION,
    "expert_matmul": Kind.EXPERTS,
    "all_reduce": Kind.COLLECTIVE,
    "all_gather": Kind.COLLECTIVE,
    "reduce_scatter": Kind.COLLECTIVE,
}
BEFORE, AFTER = "before the layers", "after the layers"
BETWEEN = "between stages of the pipeline"
OUTSIDE = (BEFORE, BETWEEN, AFTER)


@dataclass(frozen=True, slots=True)
class Task:
    """One task: its name and operations, the sizes on one chip, and the FLOPs and bytes of its operations."""

    name: str
    kind: Kind
    ops: tuple[str, ...]
    sizes: Mapping[str, float]
    flops: float
    bytes: float
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """The tasks of one layer class, or of what is outside of layers, and how often a step passes them."""

    name: str
    layers: int
    tasks: tuple[Task, ...]
    stages: int = 1


def stages(
    graph: Graph, point: Mapping[str, int], *, last_logits: bool = False
) -> tuple[Stage, ...]:
    """Return the tasks of a program at a point: batch, new tokens, context and mesh sizes.

    With `last_logits` what follows the layers is computed for the last new token of each sequence alone, as a server
    does.
    """
    found: list[Stage] = []
    before: list[Node] = []
    after: list[Node] = []
    seen = False
    for step in graph.body.steps:
        if isinstance(step, Node):
            (after if seen else before).append(step)
            continue
        seen = True
        found += _layers(graph, step, point)
        found += _between(graph, step, point)
    head = {**point, graph.seq: 1} if last_logits else dict(point)
    parts = ((BEFORE, before, dict(point)), (AFTER, after, head))
    outside = [
        Stage(name, 1, tuple(_Tasks(graph, graph.body, at).of(nodes)))
        for name, nodes, at in parts
        if nodes
    ]
    return (*outside[:1], *found, *outside[1:]) if seen else tuple(outside)


def _layers(graph: Graph, step: Repeat, point: Mapping[str, int]) -> Iterator[Stage]:
    pipeline = point.get(step.stages, 1) if step.stages else 1
    for cls in step.classes:
        nodes = [n for n in cls.body.steps if isinstance(n, Node)]
        first, last = cls.layers[0], cls.layers[-1]
        name = f"layers {first}–{last}" if len(cls.layers) > 1 else f"layer {first}"
        tasks = tuple(_Tasks(graph, cls.body, point).of(nodes))
        yield Stage(name, len(cls.layers), tasks, pipeline)


def pipeline_depth(graph: Graph, point: Mapping[str, int]) -> int:
    """Return how many stages hold a part of the layers each: so many batches are under way in a full pipeline."""
    axes = {s.stages for s in graph.body.steps if isinstance(s, Repeat) and s.stages}
    return prod(point.get(axis, 1) for axis in axes)


def reach(stages: Sequence[Stage]) -> float:
    """Return the most chips that a collective reaches over, at any point."""
    collectives = (t for s in stages for t in s.tasks if t.kind is Kind.COLLECTIVE)
    over = (np.maximum(t.sizes["chips"], t.sizes.get("reach", 1.0)) for t in collectives)
    return max((float(np.max(chips)) for chips in over), default=1.0)


def _between(graph: Graph, step: Repeat, point: Mapping[str, int]) -> Iterator[Stage]:
    """Yield what stages of a pipeline send to their next ones; a send is half of a gathering of two chips."""
    pipeline = point.get(step.stages, 1) if step.stages else 1
    if everywhere(pipeline, 1):
        return
    carried = [graph.values[i].type for i in step.classes[0].carry_in]
    size = sum(size_at(split_batch(graph, local_bytes(t)), point) for t in carried)
    reach = prod(point.get(axis, 1) for axis in graph.mesh)
    sizes = {"chips": 2.0, "bytes": 2.0 * size, "reach": reach}
    send = Task("send", Kind.COLLECTIVE, ("all_gather",), sizes, 0.0, 0.0)
    yield Stage(BETWEEN, pipeline - 1, (send,), pipeline)


class _Tasks:
    """Turns the nodes of one body into tasks at a point."""

    def __init__(self, graph: Graph, body: Body, point: Mapping[str, int]) -> None:
        self.graph, self.body, self.point = graph, body, point
        weights = (*body.weights, *(graph.body.weights if body is not graph.body else ()))
        self.stored = {w.value: weight_bytes(w) for w in weights}
        self.views = state_views(body)

    def of(self, nodes: Sequence[Node]) -> Iterator[Task]:
        """Yield the tasks of some nodes in order."""
        for group in _groups(nodes):
            task = self._task(group)
            if task is not None:
                yield task

    def number(self, value: Dim) -> float:
        """Return a size of one chip at the point."""
        return size_at(split_batch(self.graph, value), self.point)

    def _task(self, group: list[Node]) -> Task | None:
        kind = _kind(group)
        sites = [(n, site_of(self.graph, n, self.stored), self._results(n)) for n in group]
        flops = sum(self.number(OPS[n.op].flops(site, results)) for n, site, results in sites)
        moved = {
            id(n): 0.0 if n.op in VIEWS and n.inputs[0] in self.views
            else self.number(OPS[n.op].traffic(site, results))
            for n, site, results in sites
        }  # fmt: skip
        total = sum(moved.values())
        sizes = {
            Kind.GEMM: self._gemm,
            Kind.ATTENTION: self._attention,
            Kind.EXPERTS: self._experts,
            Kind.COLLECTIVE: self._collective,
            Kind.VECTOR: self._vector,
        }[kind](sites, total)
        if kind is Kind.VECTOR and never(total) and never(flops):
            return None
        if kind is Kind.COLLECTIVE and everywhere(sizes["chips"], 1):
            return None if never(total) else self._alone(group, flops, total)
        ops = tuple(n.op for n in group)
        return Task(_name(self.graph, group), kind, ops, sizes, flops, total, group[0].path)

    def _alone(self, group: list[Node], flops: float, total: float) -> Task:
        """Return a collective of one chip: it does nothing, and its formulas' bytes are kept."""
        ops = tuple(n.op for n in group)
        sizes = {"chips": 1.0, "bytes": 0.0}
        return Task(
            _name(self.graph, group), Kind.COLLECTIVE, ops, sizes, flops, total, group[0].path
        )

    def _results(self, node: Node) -> tuple[TensorType, ...]:
        return tuple(self.graph.values[i].type for i in node.outputs)

    def _gemm(self, sites: Sequence[tuple[Node, Site, object]], total: float) -> dict[str, float]:
        _, first, _ = sites[0]
        x = first.type("x")
        heads = 1.0
        columns = 0.0
        for _, site, _ in sites:
            w = site.type("w")
            columns = columns + self.number(w.axes[-2].local())
        rows = 1.0
        for axis in x.axes[:-1]:
            rows = rows * self.number(axis.local())
        if sites[0][0].op == "head_matmul":
            heads = self.number(x.axes[1].local())
            rows = rows / heads
        k = self.number(x.axes[-1].local())
        weights = sum(self.number(site.bytes("w")) for _, site, _ in sites)
        results = sum(self.number(local_bytes(t)) for _, _, r in sites for t in _types(r))
        return {
            "m": rows,
            "n": columns * heads,
            "k": k,
            "x_bits": float(x.dtype.bits),
            "w_bits": 8.0 * weights / larger(columns * heads * k, 1.0),
            "y_bits": 8.0 * results / larger(columns * heads * rows, 1.0),
        }

    def _attention(
        self, sites: Sequence[tuple[Node, Site, object]], total: float
    ) -> dict[str, float]:
        _, site, _ = sites[0]
        q, k, v = site.type("q"), site.type("k"), site.type("v")
        window, chunk = (self.number(site.dim(name)) for name in ("window", "chunk"))
        length, new = self.number(k.axes[2].local()), self.number(q.axes[2].local())
        return {
            "batch": self.number(q.axes[0].local()),
            "new": new,
            "context": larger(length - new, 0.0),
            "heads": self.number(q.axes[1].local()),
            "kv_heads": self.number(k.axes[1].local()),
            "head_dim": self.number(q.axes[3].local()),
            "value_dim": self.number(v.axes[3].local()),
            "window": positive(window, chunk),
            "causal": float(site.attrs.get("mask") == "causal"),
            "bits": float(k.dtype.bits),
        }

    def _experts(
        self, sites: Sequence[tuple[Node, Site, object]], total: float
    ) -> dict[str, float]:
        products = [site for node, site, _ in sites if node.op == "expert_matmul"]
        weights = [site.type("w") for site in products]
        experts, _, hidden = weights[0].axes
        choice = products[0].type("choice")
        tokens = self.number(choice.axes[0].local()) * self.number(choice.axes[1].local())
        inter = weights[-1].axes[2]
        stored = sum(self.number(site.bytes("w")) for site in products)
        elements = sum(self.number(w.local_elements()) for w in weights)
        first = sum(self.number(w.axes[1].local()) for w in weights[:-1])
        return {
            "tokens": tokens,
            "experts": self.number(experts.dim),
            "top_k": self.number(choice.axes[2].dim),
            "hidden": self.number(hidden.dim),
            "inter": self.number(inter.dim),
            "tp": self.number(inter.dim) / larger(self.number(inter.local()), 1.0),
            "ep": self.number(experts.dim) / larger(self.number(experts.local()), 1.0),
            "gated": float(never(first <= self.number(inter.local()))),
            "w_bits": 8.0 * stored / larger(elements, 1.0),
        }

    def _collective(
        self, sites: Sequence[tuple[Node, Site, object]], total: float
    ) -> dict[str, float]:
        _, site, results = sites[0]
        chips = 1.0
        for name in site.axes("axes"):
            chips = chips * self.point.get(name, 1)
        x = self.number(local_bytes(site.type("x")))
        made = sum(self.number(local_bytes(t)) for t in _types(results))
        return {"chips": chips, "bytes": larger(x, made)}

    def _vector(self, sites: Sequence[tuple[Node, Site, object]], total: float) -> dict[str, float]:
        """Return what a fused run moves: values that live inside of it alone are neither written nor read."""
        alias: dict[int, int] = {}
        for node, _, _ in sites:
            if OPS[node.op].traffic is no_traffic and node.inputs:
                alias |= dict.fromkeys(node.outputs, alias.get(node.inputs[0], node.inputs[0]))
        group = {id(node) for node, _, _ in sites}
        made = {
            value: local_bytes(type_)
            for node, _, results in sites
            if OPS[node.op].traffic is not no_traffic
            for value, type_ in zip(node.outputs, _types(results), strict=True)
        }
        outside = self._read_outside(group)
        saved = 0.0
        for node, _, _ in sites:
            if OPS[node.op].traffic is no_traffic:
                continue
            for value in {alias.get(i, i) for i in node.inputs} & set(made):
                saved = saved + self.number(made[value])
        for value, size in made.items():
            names = {value, *(a for a, root in alias.items() if root == value)}
            saved = saved + (0.0 if names & outside else self.number(size))
        return {"moved": larger(total - saved, 0.0), "unfused": total}

    def _read_outside(self, group: set[int]) -> set[int]:
        """Return the values that something outside of a group reads."""
        steps = self.body.steps
        read = {i for n in steps if isinstance(n, Node) and id(n) not in group for i in n.inputs}
        read |= {i for n in steps if isinstance(n, Repeat) for i in n.initial}
        for body, _ in self.graph.bodies():
            for step in body.steps:
                if isinstance(step, Repeat):
                    read |= {i for c in step.classes for i in c.carry_out}
        return read | {o.value for o in self.graph.outputs}


def _types(results: object) -> tuple[TensorType, ...]:
    return results if isinstance(results, tuple) else ()


def _kind(group: Sequence[Node]) -> Kind:
    return KINDS.get(group[0].op, Kind.VECTOR)


def _groups(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Yield the nodes of one task at a time, in order."""
    at = 0
    while at < len(nodes):
        end = _end(nodes, at)
        yield list(nodes[at:end])
        at = end


def _end(nodes: Sequence[Node], at: int) -> int:
    """Return where the task that starts here ends."""
    first = nodes[at]
    kind = KINDS.get(first.op, Kind.VECTOR)
    end = at + 1
    if kind is Kind.EXPERTS:
        return _experts_end(nodes, at)
    while end < len(nodes):
        node = nodes[end]
        if kind is Kind.GEMM and not (
            node.op == "matmul" == first.op and node.inputs[0] == first.inputs[0]
        ):
            break
        if kind is Kind.VECTOR and node.op in KINDS:
            break
        if kind in (Kind.ATTENTION, Kind.COLLECTIVE):
            break
        end += 1
    return end


def _experts_end(nodes: Sequence[Node], at: int) -> int:
    """Return the end of an expert layer: its last product of the same choice, and what combines the results."""
    choice = _choice(nodes[at])
    same = [
        i for i in range(at, len(nodes))
        if nodes[i].op == "expert_matmul" and _choice(nodes[i]) == choice
    ]  # fmt: skip
    end = same[-1] + 1
    while end < len(nodes) and nodes[end].op == "combine":
        end += 1
    inside = [n for n in nodes[at:end] if KINDS.get(n.op, Kind.EXPERTS) is not Kind.EXPERTS]
    return at + 1 if inside else end


def _choice(node: Node) -> int:
    return node.inputs[node.operands.index("choice")]


def _name(graph: Graph, group: Sequence[Node]) -> str:
    """Return what a person calls a task: the operation, and its weights or results."""
    kind = _kind(group)
    if kind in (Kind.GEMM, Kind.EXPERTS):
        weights = [
            graph.values[n.inputs[n.operands.index("w")]].name for n in group if "w" in n.operands
        ]
        return f"{'experts' if kind is Kind.EXPERTS else 'matmul'} {'+'.join(weights)}"
    if kind is Kind.VECTOR:
        names = [n.op for n in group if OPS[n.op].traffic is not no_traffic]
        return "+".join(dict.fromkeys(names)) or group[0].op
    return group[0].op
