# SPDX-License-Identifier: Apache-2.0
"""Contractions and look-ups: `matmul`, `head_matmul`, `gather`."""

from __future__ import annotations

from dsl.ops.spec import OpSpec, Param, Role, Site, Work, is_float, local_bytes
from dsl.symbolic import Dim, equal, text
from dsl.types import DType, Kind, TensorType


def result_dtype(site: Site, default: DType) -> DType:
    """Return the `dtype` attribute where it is given."""
    value = site.attrs.get("dtype")
    return value if isinstance(value, DType) else default


def _matmul(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    site.need(x.rank >= 1 and is_float(x), 1, f"x is {x}", "x")
    w = site.rank("w", 2, 2)
    out, contracted = w.axes
    last = x.axes[-1]
    shown = (
        f"x is {x} and contracts {text(last.dim)}; w is {w} and contracts {text(contracted.dim)}"
    )
    site.need(equal(last.dim, contracted.dim), 3, shown, "w")
    site.need(x.dtype == w.dtype, 4, f"x is {x.dtype}, w is {w.dtype}", "w")
    site.need_shard(
        last.shards == contracted.shards, 5, f"x is {x} and w is {w}: sharded differently", "w"
    )
    taken = {name for axis in x.axes for name in axis.shards}
    site.need_shard(taken.isdisjoint(out.shards), 6, f"x is {x}, w is {w}", "w")
    dtype = result_dtype(site, x.dtype)
    return (TensorType(dtype, (*x.axes[:-1], out), frozenset(last.shards)),)


def _matmul_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 2 * results[0].local_elements() * site.type("w").axes[1].local()


def _gather_traffic(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 2 * local_bytes(results[0]) + site.bytes("ids")


def _gather(site: Site) -> tuple[TensorType, ...]:
    table = site.type("table")
    site.need(table.rank in (1, 2), 1, f"table is {table}", "table")
    ids = site.type("ids")
    is_wide = ids.dtype.kind is Kind.INTEGER and ids.dtype.bits >= 32
    site.need(is_wide, 2, f"ids are {ids}", "ids")
    rows, *width = table.axes
    split = {name for axis in table.axes for name in axis.shards}
    taken = {name for axis in ids.axes for name in axis.shards}
    site.need_shard(taken.isdisjoint(split), 3, f"table is {table}, ids are {ids}", "ids")
    axes = (*ids.axes, *width)
    return (TensorType(table.dtype, axes, frozenset(rows.shards)),)


def _head_matmul(site: Site) -> tuple[TensorType, ...]:
    x, w = site.rank("x", 4, 1), site.rank("w", 3, 2)
    shown = f"x is {x}, w is {w}"
    site.need(is_float(x) and x.dtype == w.dtype, 3, shown, "w")
    site.need(equal(x.axes[1].dim, w.axes[0].dim), 4, shown, "w")
    site.need(equal(x.axes[3].dim, w.axes[2].dim), 5, shown, "w")
    alike = x.axes[1].shards == w.axes[0].shards
    whole = not (x.axes[3].shards or w.axes[1].shards or w.axes[2].shards)
    site.need_shard(alike and whole and not w.partial, 6, shown, "w")
    return (TensorType(x.dtype, (*x.axes[:3], w.axes[1]), x.partial),)


def _head_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return 2 * results[0].local_elements() * site.type("w").axes[2].dim


ACCUMULATE = Param("accumulate", Role.DTYPE, None)

MATMUL = OpSpec(
    name="matmul",
    summary="Contract the last axis of `x` with the last axis of a weight stored `[out, in]`.",
    params=(Param("x"), Param("w"), Param("dtype", Role.DTYPE, None), ACCUMULATE),
    result="[..., N]",
    constraints=(
        "x is a float tensor with at least one axis",
        "w has two axes, [N, K]",
        "the last axes of x and w have the same size",
        "x and w have the same dtype",
        "the contracted axes are sharded alike",
        "no mesh axis shards both N and another axis of x",
    ),
    semantics=(
        "y[..., n] = sum over k of x[..., k] * w[n, k]; dtype keeps the accumulator unrounded; accumulate "
        "names the format of the sums, the device's own where it is absent. Where a mesh axis splits K the sum is a "
        "tree of leaves, runs of K that are the same on every mesh"
    ),
    cost="2 * elements(y) * K",
    example="q = matmul(h, wq)",
    infer=_matmul,
    flops=_matmul_flops,
    work=Work.GEMM,
)

HEAD_MATMUL = OpSpec(
    name="head_matmul",
    summary="Multiply each head by a weight of its own.",
    params=(Param("x"), Param("w")),
    result="[B, H, S, N]",
    constraints=(
        "x has four axes, [B, H, S, K]",
        "w has three axes, [H, N, K]",
        "x and w have the same float dtype",
        "x and w have the same number of heads",
        "the last axes of x and w have the same size",
        "the heads are sharded alike, and no other axis of a head is sharded",
    ),
    semantics="y[b, h, s, n] = sum over k of x[b, h, s, k] * w[h, n, k]",
    cost="2 * elements(y) * K",
    example="q = head_matmul(q, absorbed)",
    infer=_head_matmul,
    flops=_head_flops,
    linear=True,
    work=Work.GEMM,
)

GATHER = OpSpec(
    name="gather",
    summary="Look rows of a table up by integer ids.",
    params=(Param("table"), Param("ids")),
    result="[..., D]",
    constraints=(
        "table has two axes, [V, D], or one, [V]",
        "ids are integers of at least 32 bits",
        "no mesh axis shards both table and ids",
    ),
    semantics="y[..., d] = table[ids[...], d], or y[...] = table[ids[...]]",
    cost="0",
    example="x = gather(embed, tokens)",
    infer=_gather,
    traffic=_gather_traffic,
)

SPECS = (MATMUL, HEAD_MATMUL, GATHER)
