# SPDX-License-Identifier: Apache-2.0
"""Tokens of a split batch on their way to the experts of other chips and back: `dispatch`, `collect`.

An axis that splits the batch may shard experts where tokens are handed over. Behind `dispatch` the batch is B times the
chips of the axis: wherever B is split, that is the rows of all of them. So what was not handed over fits nothing there.
"""

from __future__ import annotations

from dsl.ops.spec import OpSpec, Param, Role, Site, Work, is_float, local_bytes, same_dims
from dsl.symbolic import Dim, names, quotient, ratio, symbol
from dsl.types import Axis, Kind, TensorType

MAX_TOP = 64
"""Experts a token for which the share of rows is a formula; beyond, every chip is taken to need every row."""


def _dispatch(site: Site) -> tuple[TensorType, ...]:
    x, choice, share = site.type("x"), site.type("choice"), site.type("share")
    shown = f"x is {x}, choice is {choice}, share is {share}"
    site.need(x.rank == choice.rank == share.rank == 3, 1, shown, "x")
    site.need(choice.dtype.kind is Kind.INTEGER and is_float(share), 1, shown, "choice")
    alike = same_dims(x.dims[:2], choice.dims[:2]) and same_dims(choice.dims, share.dims)
    site.need(alike, 2, shown, "choice")
    (axis,) = site.axes("axes")
    rows = x.axes[0].dim
    site.need(site.batch in names(rows), 3, shown, "x")
    own = quotient(rows, symbol(axis)) is None
    site.need_shard(own, 4, f"x is {x}: its rows are those of all chips along {axis}", "x")
    given = (x, choice, share)
    split = any(axis in a.shards for t in given for a in t.axes)
    split = split or any(a.shards for t in given for a in t.axes[:2])
    site.need_shard(not split, 5, shown, "x")
    first = Axis(rows * symbol(axis))
    return tuple(TensorType(t.dtype, (first, *t.axes[1:])) for t in given)


def _collect(site: Site) -> tuple[TensorType, ...]:
    y, choice = site.type("y"), site.type("choice")
    shown = f"y is {y}, choice is {choice}"
    site.need(y.rank == choice.rank == 3 and choice.dtype.kind is Kind.INTEGER, 1, shown, "y")
    site.need(same_dims(y.dims[:2], choice.dims[:2]), 2, shown, "choice")
    (axis,) = site.axes("axes")
    own = quotient(y.axes[0].dim, symbol(axis))
    site.need_shard(own is not None, 3, f"y is {y}: its rows are not those of all chips", "y")
    site.need_shard(axis in y.partial, 4, f"y is {y}; nothing to sum over {axis}", "axes")
    split = any(axis in a.shards for a in (*y.axes, *choice.axes)) or bool(choice.partial)
    site.need_shard(not split, 5, shown, "y")
    first = Axis(y.axes[0].dim if own is None else own)
    return (TensorType(y.dtype, (first, *y.axes[1:]), y.partial - {axis}),)


def needed(top: Dim, axis: str) -> Dim:
    """Return the share of tokens that a chip needs where each goes to `top` experts, drawn evenly over the chips."""
    if not isinstance(top, int) or top > MAX_TOP:
        return 1
    spared: Dim = 1
    for _ in range(top):
        spared = spared * (1 - ratio(1, symbol(axis)))
    return 1 - spared


def _share(site: Site) -> Dim:
    (axis,) = site.axes("axes")
    return needed(site.type("choice").axes[2].dim, axis)


def _dispatch_traffic(site: Site, results: tuple[TensorType, ...]) -> Dim:
    total: Dim = 0
    for name, made in zip(("x", "choice", "share"), results, strict=True):
        total = total + site.bytes(name) + _share(site) * local_bytes(made)
    return total


def _collect_traffic(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return _share(site) * site.bytes("y") + local_bytes(results[0])


def _collect_flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return _share(site) * site.type("y").local_elements()


DISPATCH = OpSpec(
    name="dispatch",
    summary="Hand the tokens of a split batch, with their choice and shares, to the chips that hold their experts.",
    params=(Param("x"), Param("choice"), Param("share"), Param("axes", Role.BATCH_MESH)),
    result="x, choice, share, with the rows of all chips along the mesh axis",
    constraints=(
        "x is [B, S, D], choice integer and share float, [B, S, T]",
        "x, choice and share agree on B and S, and choice and share on T",
        "the first axis is the batch",
        "the rows are not yet those of all chips along the mesh axis",
        "B and S are sharded in no other way, and nothing on the mesh axis",
    ),
    semantics=(
        "of each, the rows of all chips along the axis, in rank order; a row that chose no expert of a chip need not "
        "reach it"
    ),
    cost="0",
    example="x, choice, share = dispatch(x, choice, share, ep)",
    infer=_dispatch,
    traffic=_dispatch_traffic,
    work=Work.COLLECTIVE,
    passes=True,
)

COLLECT = OpSpec(
    name="collect",
    summary="Bring the results of tokens that were handed over back to their chip, and add them.",
    params=(Param("y"), Param("choice"), Param("axes", Role.BATCH_MESH)),
    result="y, with a chip's own rows, no longer partial over the mesh axis",
    constraints=(
        "y is [B, S, D] and choice integer, [B, S, T]",
        "y and choice agree on B and S",
        "the rows are those of all chips along the mesh axis",
        "y is partial over the mesh axis",
        "nothing is sharded on the mesh axis, and choice is complete",
    ),
    semantics=(
        "z = the rows of chip r of the sum of y over the chips along the axis, on chip r; a chip without an expert "
        "that a row chose adds nothing to it"
    ),
    cost="the elements of the rows that a chip computed",
    example="y = all_reduce(collect(combine(y, share), choice, ep), tp)",
    infer=_collect,
    completes=True,
    flops=_collect_flops,
    traffic=_collect_traffic,
    work=Work.COLLECTIVE,
    linear=True,
    passes=True,
)

SPECS = (DISPATCH, COLLECT)
