# SPDX-License-Identifier: Apache-2.0
"""The sizes, FLOPs and bytes of a task on one chip, at a point or at many: what its operations declare, added up.

Which operations are a task is `fusing`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from device_model.cost.chip import Number
from device_model.cost.collective import EXCHANGES
from device_model.timeline.kinds import (
    AttentionSizes,
    CollectiveSizes,
    ExpertSizes,
    Kind,
    ProductSizes,
    Sizes,
    VectorSizes,
)
from device_model.timeline.places import order, spans
from device_model.timeline.sizes import larger, never, positive, size_at
from dsl.counting.footprint import VIEWS, site_of, split_batch, state_views, weight_bytes
from dsl.graph import Body, Graph, Node, Repeat
from dsl.ops import OPS
from dsl.ops.spec import Site, local_bytes, no_traffic
from dsl.symbolic import Dim
from dsl.types import TensorType


@dataclass(frozen=True, slots=True)
class Use:
    """An operation where it stands: its node, what it reads, and the types that it makes."""

    node: Node
    site: Site
    results: tuple[TensorType, ...]

    @property
    def moves(self) -> bool:
        """Tell whether it reads or writes anything: a view does not."""
        return OPS[self.node.op].traffic is not no_traffic


class Measure:
    """Measures the operations of one body at a point."""

    def __init__(self, graph: Graph, body: Body, point: Mapping[str, Any]) -> None:
        self.graph, self.body, self.point = graph, body, point
        weights = (*body.weights, *(graph.body.weights if body is not graph.body else ()))
        self.stored = {w.value: weight_bytes(w) for w in weights}
        self.views = state_views(body)
        self.axes = order(graph)

    def number(self, value: Dim) -> Number:
        """Return a size of one chip at the point."""
        return size_at(split_batch(self.graph, value), self.point)

    def uses(self, nodes: Sequence[Node]) -> list[Use]:
        """Return some nodes with what they read and make."""
        values, graph = self.graph.values, self.graph
        return [
            Use(n, site_of(graph, n, self.stored), tuple(values[i].type for i in n.outputs))
            for n in nodes
        ]

    def flops(self, uses: Sequence[Use]) -> Number:
        """Return the FLOPs of some operations."""
        return sum(self.number(OPS[u.node.op].flops(u.site, u.results)) for u in uses)

    def bytes(self, uses: Sequence[Use]) -> Number:
        """Return the bytes that some operations move; views of a state move none."""
        return sum(0.0 if self._views_state(u.node) else self._traffic(u) for u in uses)

    def _views_state(self, node: Node) -> bool:
        return node.op in VIEWS and node.inputs[0] in self.views

    def _traffic(self, use: Use) -> Number:
        return self.number(OPS[use.node.op].traffic(use.site, use.results))

    def sizes(self, kind: Kind, uses: Sequence[Use], total: Number) -> Sizes:
        """Return what the price of a task depends on; `total` are the bytes that its operations move."""
        match kind:
            case Kind.GEMM:
                return self._product(uses)
            case Kind.ATTENTION:
                return self._attention(uses[0].site)
            case Kind.EXPERTS:
                return self._experts(uses)
            case Kind.COLLECTIVE:
                return self._collective(uses[0])
            case Kind.VECTOR:
                return self._vector(uses, total)

    def _product(self, uses: Sequence[Use]) -> ProductSizes:
        x = uses[0].site.type("x")
        columns: Number = 0.0
        for use in uses:
            columns = columns + self.number(use.site.type("w").axes[-2].local())
        rows: Number = 1.0
        for axis in x.axes[:-1]:
            rows = rows * self.number(axis.local())
        heads: Number = 1.0
        if uses[0].node.op == "head_matmul":
            heads = self.number(x.axes[1].local())
            rows = rows / heads
        n, k = columns * heads, self.number(x.axes[-1].local())
        weights = sum(self.number(u.site.bytes("w")) for u in uses)
        results = sum(self.number(local_bytes(t)) for u in uses for t in u.results)
        return ProductSizes(
            m=rows,
            n=n,
            k=k,
            x_bits=float(x.dtype.bits),
            w_bits=8.0 * weights / larger(n * k, 1.0),
            y_bits=8.0 * results / larger(n * rows, 1.0),
        )

    def _attention(self, site: Site) -> AttentionSizes:
        q, k, v = site.type("q"), site.type("k"), site.type("v")
        window, chunk = (self.number(site.dim(name)) for name in ("window", "chunk"))
        length, new = self.number(k.axes[2].local()), self.number(q.axes[2].local())
        return AttentionSizes(
            batch=self.number(q.axes[0].local()),
            new=new,
            context=larger(length - new, 0.0),
            heads=self.number(q.axes[1].local()),
            kv_heads=self.number(k.axes[1].local()),
            head_dim=self.number(q.axes[3].local()),
            value_dim=self.number(v.axes[3].local()),
            window=positive(window, chunk),
            causal=site.attrs.get("mask") == "causal",
            bits=float(k.dtype.bits),
        )

    def _experts(self, uses: Sequence[Use]) -> ExpertSizes:
        products = [u.site for u in uses if u.node.op == "expert_matmul"]
        weights = [site.type("w") for site in products]
        experts, _, hidden = weights[0].axes
        choice = products[0].type("choice")
        inter = weights[-1].axes[2]
        stored = sum(self.number(site.bytes("w")) for site in products)
        elements = sum(self.number(w.local_elements()) for w in weights)
        first = sum(self.number(w.axes[1].local()) for w in weights[:-1])
        return ExpertSizes(
            tokens=self.number(choice.axes[0].local()) * self.number(choice.axes[1].local()),
            experts=self.number(experts.dim),
            top_k=self.number(choice.axes[2].dim),
            hidden=self.number(hidden.dim),
            inter=self.number(inter.dim),
            tp=self.number(inter.dim) / larger(self.number(inter.local()), 1.0),
            ep=self.number(experts.dim) / larger(self.number(experts.local()), 1.0),
            gated=never(first <= self.number(inter.local())),
            w_bits=8.0 * stored / larger(elements, 1.0),
        )

    def _collective(self, use: Use) -> CollectiveSizes:
        group = spans(self.axes, use.site.axes("axes"), self.point)
        chips: Number = 1.0
        for span in group:
            chips = chips * span.size
        x = sum(self.number(use.site.bytes(name)) for name in use.node.operands[: len(use.results)])
        made = sum(self.number(local_bytes(t)) for t in use.results)
        return CollectiveSizes(chips, larger(x, made) * self._share(use, chips), group)

    def _share(self, use: Use, chips: Number) -> Number:
        """Return the share of the buffer that is sent: of tokens to experts, those that a chip has an expert for."""
        if use.node.op not in EXCHANGES:
            return 1.0
        top = self.number(use.site.type("choice").axes[2].dim)
        return 1.0 - (1.0 - 1.0 / larger(chips, 1.0)) ** top

    def _vector(self, uses: Sequence[Use], total: Number) -> VectorSizes:
        """Return what a fused run moves: values that live inside of it alone are neither written nor read."""
        root: dict[int, int] = {}
        for use in uses:
            if not use.moves and use.node.inputs:
                source = use.node.inputs[0]
                root |= dict.fromkeys(use.node.outputs, root.get(source, source))
        moving = [use for use in uses if use.moves]
        made = {
            value: local_bytes(type_)
            for use in moving
            for value, type_ in zip(use.node.outputs, use.results, strict=True)
        }
        outside = self._read_outside({id(use.node) for use in uses})
        saved: Number = 0.0
        for use in moving:
            for value in {root.get(i, i) for i in use.node.inputs} & set(made):
                saved = saved + self.number(made[value])
        for value, size in made.items():
            names = {value, *(view for view, of in root.items() if of == value)}
            saved = saved + (0.0 if names & outside else self.number(size))
        return VectorSizes(moved=larger(total - saved, 0.0), unfused=total)

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
