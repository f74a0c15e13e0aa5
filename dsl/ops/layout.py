# SPDX-License-Identifier: Apache-2.0
"""Cutting and joining along the last axis: `split`, `slice`, `concat`."""

from __future__ import annotations

from dsl.graph import Attr
from dsl.ops.spec import OpSpec, Param, Role, Site, no_traffic, same_dims
from dsl.symbolic import Dim, Poly, at_least, equal, text
from dsl.types import Axis, TensorType


def _sizes(site: Site) -> tuple[Dim, ...]:
    value: Attr = site.attrs["sizes"]
    parts = value if isinstance(value, tuple) else (value,)
    return tuple(p for p in parts if isinstance(p, (int, Poly)))


def _split(site: Site) -> tuple[TensorType, ...]:
    x, sizes = site.type("x"), _sizes(site)
    total: Dim = 0
    for size in sizes:
        total = total + size
    shown = f"the sizes sum to {text(total)}, x is {x}"
    fits = x.rank >= 1 and equal(total, x.axes[-1].dim) and 0 not in sizes
    site.need(fits, 1, shown, "sizes")
    site.need_shard(not x.axes[-1].shards, 2, f"x is {x}", "x")
    return tuple(TensorType(x.dtype, (*x.axes[:-1], Axis(s)), x.partial) for s in sizes)


def _slice(site: Site) -> tuple[TensorType, ...]:
    x, start, stop = site.type("x"), site.dim("start"), site.dim("stop")
    shown = f"[{text(start)}, {text(stop)}) of {x}"
    site.need(x.rank >= 1, 1, shown, "x")
    last = x.axes[-1]
    outside = at_least(start, stop) or at_least(stop, last.dim + 1)
    site.need(not outside, 1, shown, "stop")
    site.need_shard(not last.shards, 2, f"x is {x}", "x")
    return (TensorType(x.dtype, (*x.axes[:-1], Axis(stop - start)), x.partial),)


def _concat(site: Site) -> tuple[TensorType, ...]:
    parts = site.variadic("parts")
    for part in parts:
        site.need(part.rank >= 1, 1, f"{part} has no last axis", "parts")
    first, total = parts[0], parts[0].axes[-1].dim
    for part in parts[1:]:
        shown = f"{first} and {part}"
        site.need(same_dims(first.dims[:-1], part.dims[:-1]), 1, shown, "parts")
        site.need(first.dtype == part.dtype, 2, shown, "parts")
        site.need_shard(first.axes[:-1] == part.axes[:-1], 3, shown, "parts")
        site.need_shard(first.partial == part.partial, 4, shown, "parts")
        total = total + part.axes[-1].dim
    last_sharded = any(part.axes[-1].shards for part in parts)
    site.need_shard(not last_sharded, 3, "the joined axis is sharded", "parts")
    return (TensorType(first.dtype, (*first.axes[:-1], Axis(total)), first.partial),)


def _column(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    return (TensorType(x.dtype, (*x.axes, Axis(1)), x.partial),)


SPLIT = OpSpec(
    name="split",
    summary="Cut the last axis into parts of the given sizes.",
    params=(Param("x"), Param("sizes", Role.DIM, variadic=True)),
    result="one tensor a size",
    constraints=(
        "the sizes are positive and add up to the last axis",
        "the last axis is not sharded",
    ),
    semantics="y_j[..., d] = x[..., d + sum of the sizes before j]",
    cost="0",
    example="gate, up = split(matmul(h, fused), F, F)",
    infer=_split,
    linear=True,
    passes=True,
    keeps_axes=True,
)

SLICE = OpSpec(
    name="slice",
    summary="Keep a range of the last axis.",
    params=(Param("x"), Param("start", Role.DIM), Param("stop", Role.DIM)),
    result="[..., stop - start]",
    constraints=("0 <= start < stop <= the last axis", "the last axis is not sharded"),
    semantics="y[..., d] = x[..., start + d]",
    cost="0",
    example="r = slice(q, N, N + R)",
    infer=_slice,
    linear=True,
    views_state=True,
    passes=True,
    keeps_axes=True,
)

CONCAT = OpSpec(
    name="concat",
    summary="Join tensors along the last axis.",
    params=(Param("parts", variadic=True),),
    result="[..., sum of the last axes]",
    constraints=(
        "all parts have a last axis and agree on every other",
        "all parts have the same dtype",
        "all parts are sharded alike and not along the last axis",
        "all parts are complete, or partial over the same mesh axes",
    ),
    semantics="y[..., d] = the part that d falls into",
    cost="0",
    example="q = concat(q_nope, q_rope)",
    infer=_concat,
    linear=True,
    passes=True,
    keeps_axes=True,
)


def _expert_heads(site: Site) -> tuple[TensorType, ...]:
    x = site.rank("x", 4, 1)
    batch, seq, chosen, width = x.axes
    count = site.dim("count")
    size = site.divide(width.dim, count, 2, "count")
    site.need_shard(not (chosen.shards or width.shards), 3, f"x is {x}", "x")
    axes = (batch, Axis(count * chosen.dim), seq, Axis(size))
    return (TensorType(x.dtype, axes, x.partial),)


def _expert_merge(site: Site) -> tuple[TensorType, ...]:
    x = site.rank("x", 4, 1)
    batch, heads, seq, size = x.axes
    chosen = site.dim("chosen")
    count = site.divide(heads.dim, chosen, 2, "chosen")
    site.need_shard(not (heads.shards or size.shards), 3, f"x is {x}", "x")
    axes = (batch, seq, Axis(chosen), Axis(count * size.dim))
    return (TensorType(x.dtype, axes, x.partial),)


EXPERT_HEADS = OpSpec(
    name="expert_heads",
    summary="Heads of queries that experts made, those that share a key side by side.",
    params=(Param("x"), Param("count", Role.DIM)),
    result="[B, count * T, S, N // count]",
    constraints=(
        "x has four axes, [B, S, T, N]",
        "count divides N",
        "neither T nor N is sharded",
    ),
    semantics="y[b, k * T + t, s, e] = x[b, s, t, k * E + e], with E = N // count",
    cost="0",
    example="q = expert_heads(expert_matmul(h, wq, choice), K)",
    infer=_expert_heads,
    linear=True,
    passes=True,
)

EXPERT_MERGE = OpSpec(
    name="expert_merge",
    summary="The inverse of expert_heads: what each expert goes on with.",
    params=(Param("x"), Param("chosen", Role.DIM)),
    result="[B, S, T, H // chosen * E]",
    constraints=(
        "x has four axes, [B, H, S, E]",
        "chosen divides H",
        "neither H nor E is sharded",
    ),
    semantics="y[b, s, t, k * E + e] = x[b, k * T + t, s, e], with T = chosen",
    cost="0",
    example="y = combine(expert_matmul(expert_merge(a, T), wo, choice), share)",
    infer=_expert_merge,
    linear=True,
    passes=True,
)

COLUMN = OpSpec(
    name="column",
    summary="Add a last axis of 1, so that numbers repeat over what they are combined with.",
    params=(Param("x"),),
    result="[..., 1]",
    constraints=(),
    semantics="y[..., 0] = x[...]",
    cost="0",
    example="y = y * column(share)",
    infer=_column,
    traffic=no_traffic,
    linear=True,
    passes=True,
)

SPECS = (SPLIT, SLICE, CONCAT, COLUMN, EXPERT_HEADS, EXPERT_MERGE)
