# SPDX-License-Identifier: Apache-2.0
"""Sources that stay packed: values in a low precision, with the scales that belong to them.

Each gives a matrix [N, K], or a stack of them, of tensors whose shapes follow from its own. Whole numbers in words are
in `integer_sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dsl.graph import Attr, Region, Transform, WeightSource
from dsl.inference.resolver import Resolver, SourceSpec, Want
from dsl.symbolic import Dim, equal, opaque, quotient, ratio
from dsl.text import syntax as sx
from dsl.types import DTYPES

MX_BLOCK = 32


def _scaled(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Low-precision values with one scale a block of rows and columns; 0 is the whole axis."""
    dtype, values, scales, rows, columns = expr.arguments
    stored = r.dtype(dtype)
    r.need(len(want.shape) >= 2, expr, "a matrix", want)
    block = (r.number(rows), r.number(columns))
    sides = tuple(zip(want.shape[-2:], want.stored[-2:], block, strict=True))
    grid = (*want.shape[:-2], *(_blocks(size, by) for size, _, by in sides))
    held = (*want.stored[:-2], *(None if d is None else _blocks(d, by) for _, d, by in sides))
    region, shared = of_blocks(want, block[0]), want.shared
    if want.region is not None and equal(block[0], 0) and is_of_rows(want):
        # One scale for all rows belongs to each part of them.
        region, shared = None, True
    elif region is None:
        r.plain(expr, want)
    factors = Want(grid, held, region, DTYPES["f32"], shared)
    parts = (
        r.source(values, replace(want, dtype=stored), loops),
        r.source(scales, factors, loops),
    )
    attrs: dict[str, Attr] = {"dtype": stored, "rows": block[0], "columns": block[1]}
    return Transform("scaled", parts, attrs, expr.span)


def is_of_rows(want: Want) -> bool:
    """Tell whether a part of the rows of a matrix is wanted."""
    region = want.region
    return region is not None and region.axis == len(want.shape) - 2


def _column(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """A tensor without the last axis, whose size is 1; of a number, the vector of that one."""
    holds = bool(want.shape) and equal(want.shape[-1], 1)
    r.need(holds, expr, "one column", want)
    if want.region is not None and want.region.axis == len(want.shape) - 1:
        r.plain(expr, want)
    inner = replace(want, shape=want.shape[:-1], stored=want.stored[:-1])
    return Transform("column", (r.source(expr.arguments[0], inner, loops),), {}, expr.span)


def _stored(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """The same numbers, which the file holds in another format than is usual."""
    dtype, inner = expr.arguments
    return r.source(inner, replace(want, dtype=r.dtype(dtype)), loops)


def _divided(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Numbers divided by one whole number."""
    inner, by = expr.arguments
    attrs: dict[str, Attr] = {"by": r.count(by)}
    return Transform("divided", (r.source(inner, want, loops),), attrs, expr.span)


def _inverse(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """One over each number."""
    return Transform("inverse", (r.source(expr.arguments[0], want, loops),), {}, expr.span)


def _blocks(size: Dim, block: Dim) -> Dim:
    """Return how many blocks cover an axis, of which the block 0 is all."""
    if equal(block, 0):
        return 1
    return opaque("ceil_div", size, block) if quotient(size, block) is None else ratio(size, block)


def of_blocks(want: Want, rows: Dim) -> Region | None:
    """Return a region of rows as one of whole blocks of them, None where it is none.

    How many rows a group has may be known from the file alone: then the device says whether blocks end with groups.
    """
    region = want.region
    if region is None or not is_of_rows(want) or region.step != 1 or equal(rows, 0):
        return None
    start, stop = quotient(region.start, rows), quotient(region.stop, rows)
    if start is None or stop is None:
        return None
    return replace(region, start=start, stop=stop)


def _mxfp4(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Four-bit values, two a byte, with one power-of-two scale a block of 32 along the last axis."""
    r.need(len(want.shape) >= 1, expr, "blocks of 32", want)
    if want.region is not None and want.region.axis == len(want.shape) - 1:
        r.plain(expr, want)
    blocks = ratio(want.shape[-1], MX_BLOCK)
    byte = DTYPES["u8"]

    def packed(*tail: Dim) -> Want:
        return Want((*want.shape[:-1], *tail), (*want.stored[:-1], *tail), want.region, byte)

    parts = (
        r.source(expr.arguments[0], packed(blocks, MX_BLOCK // 2), loops),
        r.source(expr.arguments[1], packed(blocks), loops),
    )
    return Transform("mxfp4", parts, {"block": MX_BLOCK}, expr.span)


def _fp4(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Four-bit values, two a byte along K, the lower half first, with one scale for some columns of a row."""
    values, scales, size = expr.arguments
    columns = r.count(size)
    r.need(len(want.shape) >= 2, expr, "a matrix", want)
    if want.region is not None and not is_of_rows(want):
        r.plain(expr, want)
    k = want.shape[-1]
    whole = isinstance(k, int) and isinstance(columns, int)
    r.need(
        not whole or None not in (quotient(k, 2), quotient(k, columns)),
        expr,
        "pairs of columns in groups",
        want,
    )

    def along(count: Dim, dtype: str) -> Want:
        stored = (*want.stored[:-1], count)
        return Want((*want.shape[:-1], count), stored, want.region, DTYPES[dtype], want.shared)

    parts = (
        r.source(values, along(ratio(k, 2), "u8"), loops),
        r.source(scales, along(ratio(k, columns), "f32"), loops),
    )
    return Transform("fp4", parts, {"columns": columns}, expr.span)


PACKED_SOURCES: tuple[SourceSpec, ...] = (
    SourceSpec(
        "scaled",
        "scaled(dtype, values, scales, rows, columns)",
        "Values in a low precision, each block of rows and columns times its own f32 scale; 0 is the whole axis.",
        5,
        _scaled,
    ),
    SourceSpec(
        "mxfp4",
        "mxfp4(blocks, scales)",
        "Packed four-bit values with a power-of-two scale for each 32 along the last axis.",
        2,
        _mxfp4,
    ),
    SourceSpec(
        "fp4",
        "fp4(values, scales, columns)",
        "Four-bit floats, two a byte, with a scale for each so many columns of a row.",
        3,
        _fp4,
    ),
    SourceSpec(
        "column",
        "column(source)",
        "A vector as a matrix of one column, or a number as a vector.",
        1,
        _column,
    ),
    SourceSpec(
        "stored",
        "stored(dtype, source)",
        "The same numbers, which the file holds in this dtype.",
        2,
        _stored,
    ),
    SourceSpec(
        "divided", "divided(source, number)", "Scales divided by a whole number.", 2, _divided
    ),
    SourceSpec("inverse", "inverse(source)", "One over each scale.", 1, _inverse),
)
