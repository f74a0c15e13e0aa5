# SPDX-License-Identifier: Apache-2.0
"""Values on several chips: `all_reduce`, `all_gather`, `reduce_scatter`, `shard`."""

from __future__ import annotations

from dsl.ops.spec import OpSpec, Param, Role, Site, Work
from dsl.symbolic import Dim
from dsl.types import Axis, TensorType


def _all_reduce(site: Site) -> tuple[TensorType, ...]:
    x, axes = site.type("x"), site.axes("axes")
    site.need_shard(len(set(axes)) == len(axes), 1, f"axes are {', '.join(axes)}", "axes")
    surplus = [a for a in axes if a not in x.partial]
    site.need_shard(not surplus, 2, f"x is {x}; nothing to sum over {', '.join(surplus)}", "axes")
    return (TensorType(x.dtype, x.axes, x.partial - set(axes)),)


def _all_gather(site: Site) -> tuple[TensorType, ...]:
    x, (axis,) = site.type("x"), site.axes("axes")
    at = [i for i, a in enumerate(x.axes) if axis in a.shards]
    site.need_shard(len(at) == 1, 1, f"x is {x}: no axis is sharded on {axis}", "axes")
    *kept, last = x.axes[at[0]].shards
    # Side by side, the shards of an outer axis are not the whole: each is cut by the inner one.
    site.need_shard(last == axis, 2, f"x is {x}: {last} is to be gathered before {axis}", "axes")
    axes = tuple(Axis(a.dim, tuple(kept)) if i == at[0] else a for i, a in enumerate(x.axes))
    return (TensorType(x.dtype, axes, x.partial),)


def _reduce_scatter(site: Site) -> tuple[TensorType, ...]:
    x, (axis,) = site.type("x"), site.axes("axes")
    site.need_shard(axis in x.partial, 1, f"x is {x}; nothing to sum over {axis}", "axes")
    last = x.axes[-1]
    site.oblige(last.dim, axis)
    axes = (*x.axes[:-1], Axis(last.dim, (*last.shards, axis)))
    return (TensorType(x.dtype, axes, x.partial - {axis}),)


def _shard(site: Site) -> tuple[TensorType, ...]:
    x, (axis,) = site.type("x"), site.axes("axes")
    whole = axis not in x.partial and all(axis not in a.shards for a in x.axes)
    site.need_shard(whole, 1, f"x is {x}: it is not whole along {axis}", "x")
    last = x.axes[-1]
    site.oblige(last.dim, axis)
    return (TensorType(x.dtype, (*x.axes[:-1], Axis(last.dim, (*last.shards, axis)))),)


def _sum_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return results[0].local_elements()


ALL_REDUCE = OpSpec(
    name="all_reduce",
    summary="Add the partial sums of all chips along mesh axes; every chip gets the total.",
    params=(Param("x"), Param("axes", Role.MESH, variadic=True)),
    result="x, no longer partial over axes",
    constraints=("no mesh axis is named twice", "x is partial over every named mesh axis"),
    semantics="y[...] = sum over the chips along axes of x[...], as the tree of all leaves, rounded once",
    cost="elements(x)",
    example="x = x + all_reduce(matmul(m, down), tp)",
    infer=_all_reduce,
    completes=True,
    flops=_sum_flops,
    linear=True,
    in_place=True,
    work=Work.COLLECTIVE,
    passes=True,
    keeps_axes=True,
)

ALL_GATHER = OpSpec(
    name="all_gather",
    summary="Give every chip along a mesh axis the whole of an axis sharded on it.",
    params=(Param("x"), Param("axes", Role.MESH)),
    result="x, no longer sharded on the mesh axis",
    constraints=(
        "exactly one axis of x is sharded on the mesh axis",
        "no other mesh axis shards that axis further",
    ),
    semantics="y = the shards of x side by side, in rank order",
    cost="0",
    example="logits = all_gather(matmul(h, head), tp)",
    infer=_all_gather,
    linear=True,
    in_place=True,
    work=Work.COLLECTIVE,
    passes=True,
    keeps_axes=True,
)

REDUCE_SCATTER = OpSpec(
    name="reduce_scatter",
    summary="Add the partial sums along a mesh axis; each chip keeps its shard of the last axis.",
    params=(Param("x"), Param("axes", Role.MESH)),
    result="x with its last axis sharded",
    constraints=("x is partial over the mesh axis",),
    semantics="y = shard r of the sum over chips of x, as the tree of all leaves, on chip r",
    cost="elements(x)",
    example="y = reduce_scatter(matmul(m, down), tp)",
    infer=_reduce_scatter,
    completes=True,
    flops=_sum_flops,
    linear=True,
    in_place=True,
    work=Work.COLLECTIVE,
    passes=True,
    keeps_axes=True,
)

SHARD = OpSpec(
    name="shard",
    summary="Keep a chip's own shard of the last axis of what every chip has; nothing is sent.",
    params=(Param("x"), Param("axes", Role.MESH)),
    result="x with its last axis sharded",
    constraints=("x is whole along the mesh axis: neither sharded on it nor a partial sum",),
    semantics="y = shard r of x, on chip r",
    cost="0",
    example="q = shard(rms_norm(all_gather(q, tp), norm, eps=eps), tp)",
    infer=_shard,
    linear=True,
    in_place=True,
    passes=True,
    keeps_axes=True,
)

SPECS = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, SHARD)
