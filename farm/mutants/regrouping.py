# SPDX-License-Identifier: Apache-2.0
"""Bugs that change more than one operation: query heads dealt out the wrong way, one expert more or less.

Each keeps every type of the graph true, so that only its numbers are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dsl.graph import Graph, Node, Value
from dsl.ops import OPS
from dsl.symbolic import Dim
from dsl.types import Axis, TensorType
from farm.mutants.graph_edits import (
    Site,
    sites,
    with_attrs,
    with_inserted,
    with_operand,
    with_types,
)

KEEPING = frozenset(spec.name for spec in OPS.values() if spec.keeps_axes)
PER_CHOICE = KEEPING | {"expert_matmul"}
"""What keeps the axis of a token's choices."""
ALONG = KEEPING | {"heads"}
"""What may stand between the flat queries and attention, a head at a time."""


def heads_interleaved(site: Site) -> Graph | None:
    """Give query head h the key head h % K in place of h // (H // K)."""
    count, kept = (_heads(site.type(name)) for name in ("q", "k"))
    merge = next((user for user in site.users() if user.node.op == "merge"), None)
    split = _maker_of_heads(site)
    if split is None or merge is None or kept < 2 or kept == count:
        return None
    order = [head * kept + k for k in range(kept) for head in range(count // kept)]
    back = [order.index(head) for head in range(count)]
    graph = _reordered(split.graph, split, split.node.inputs[0], order)
    merge = next(s for s in sites(graph) if s.node is merge.node)
    user = merge.users()[0]
    return _reordered(graph, user, merge.node.outputs[0], back)


def other_top(site: Site) -> Graph | None:
    """Choose one expert fewer, or the second where there was one."""
    top, scores = site.node.attrs["top"], site.graph.values[site.node.inputs[0]].type
    if not isinstance(top, int) or site.node.attrs["score"] == "sparsemixer":
        return None
    other = top - 1 if top > 1 else top + 1
    if other == scores.dims[2]:
        return None
    changed = dict.fromkeys(site.node.outputs)
    for step in site.body.steps:
        if not isinstance(step, Node) or not changed.keys() & set(step.inputs):
            continue
        if step.op == "combine":
            continue
        if step.op not in PER_CHOICE:
            return None
        changed |= dict.fromkeys(step.outputs)
    values = site.graph.values
    types = {value: _with_dim(values[value].type, 2, other) for value in changed}
    return with_attrs(replace(site, graph=with_types(site.graph, types)), top=other)


def _heads(type_: TensorType | None) -> int:
    count = type_.dims[1] if type_ is not None and type_.rank == 4 else 0
    return count if isinstance(count, int) else 0


def _maker_of_heads(site: Site) -> Site | None:
    """Return the operation that cuts the queries into heads, where nothing else comes in between."""
    maker = site.maker(site.value("q"))
    while maker is not None and maker.node.op in ALONG:
        if maker.node.op == "heads":
            return maker
        maker = maker.maker(maker.node.inputs[0])
    return None


def _reordered(graph: Graph, user: Site, value: int, order: Sequence[int]) -> Graph:
    """Return the graph in which an operation reads a flat value with its heads in another order."""
    flat = graph.values[value]
    width = flat.type.dims[-1]
    if not isinstance(width, int):
        raise TypeError("a bound graph has heads of a known width")
    part = _with_dim(replace(flat.type, axes=_whole(flat.type)), -1, width // len(order))
    first = len(graph.values)
    parts = [Value(first + n, f"{flat.name}{n}", part, flat.span) for n in range(len(order))]
    joined = Value(first + len(order), flat.name, flat.type, flat.span)
    sizes: tuple[Dim, ...] = (width // len(order),) * len(order)
    cut = Node("split", (value,), tuple(p.id for p in parts), {"sizes": sizes}, user.node.span,
               user.node.path, ("x",))  # fmt: skip
    join = Node("concat", tuple(parts[n].id for n in order), (joined.id,), {}, user.node.span,
                user.node.path, ("parts",) * len(order))  # fmt: skip
    graph = with_inserted(replace(user, graph=graph), (cut, join), (*parts, joined))
    again = next(s for s in sites(graph) if s.node is user.node)
    name = again.node.operands[again.node.inputs.index(value)]
    return with_operand(again, name, joined.id)


def _whole(type_: TensorType) -> tuple[Axis, ...]:
    return (*type_.axes[:-1], Axis(type_.axes[-1].dim))


def _with_dim(type_: TensorType, at: int, dim: int) -> TensorType:
    axes = list(type_.axes)
    axes[at] = replace(axes[at], dim=dim)
    return replace(type_, axes=tuple(axes))
