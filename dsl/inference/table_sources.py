# SPDX-License-Identifier: Apache-2.0
"""Sources of numbers that are indices of a table in the file, as bitsandbytes stores four bits.

Blocks of such numbers run through a matrix row by row, so that a part of rows may begin within one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dsl.graph import Transform, WeightSource
from dsl.inference.packed_sources import is_of_rows
from dsl.inference.resolver import Resolver, SourceSpec, Want
from dsl.symbolic import Dim, opaque, quotient, ratio
from dsl.text import syntax as sx
from dsl.types import DTYPES

TABLE, NESTED_TABLE = 16, 256
NESTED_BLOCK = 256


def _bitsandbytes(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Indices of a table, two a byte, with a size for each block; what is said of all rows is read with every part."""
    values, sizes, table, state, scales, second, size = expr.arguments
    r.need(len(want.shape) == 2, expr, "a matrix", want)
    if want.region is not None and (not is_of_rows(want) or want.region.step != 1):
        r.plain(expr, want)
    (n, k), block, region = want.shape, r.count(size), want.region
    is_nested = not (isinstance(scales, sx.String) and scales.value == "")
    blocks = opaque("ceil_div", n * k, block)
    parts = [
        r.source(values, _bytes(r, expr, want), loops),
        r.source(sizes, _shared(blocks, "u8" if is_nested else "f32", region is None), loops),
        r.source(table, _shared(TABLE, "f32"), loops),
        # A JSON object of any length.
        r.source(state, replace(_shared(0, "u8"), stored=(None,)), loops),
    ]
    if is_nested:
        groups = opaque("ceil_div", blocks, NESTED_BLOCK)
        parts.append(r.source(scales, _shared(groups, "f32", region is None), loops))
        parts.append(r.source(second, _shared(NESTED_TABLE, "f32"), loops))
    return Transform("bitsandbytes", tuple(parts), {"columns": k}, expr.span)


def _bytes(r: Resolver, expr: sx.Call, want: Want) -> Want:
    """Return what has a byte for two numbers of a matrix, or of a part of its rows, as one column."""
    (n, k), region = want.shape, want.region
    if region is None:
        count = opaque("ceil_div", n * k, 2)
        return Want((count, 1), (count, 1), dtype=DTYPES["u8"])
    r.need(quotient(k, 2) is not None, expr, "rows of whole bytes", want)
    each = ratio(k, 2)
    part = replace(region, start=region.start * each, stop=region.stop * each)
    stored = None if want.stored[0] is None else want.stored[0] * each
    return Want((n * each, 1), (stored, 1), part, DTYPES["u8"])


def _shared(count: Dim, dtype: str, is_known: bool = True) -> Want:
    return Want((count,), (count if is_known else None,), dtype=DTYPES[dtype], shared=True)


TABLE_SOURCES: tuple[SourceSpec, ...] = (
    SourceSpec(
        "bitsandbytes",
        "bitsandbytes(values, absmax, quant_map, quant_state, nested_absmax, nested_quant_map, block)",
        "Indices of a table of 16 numbers, two a byte, times the largest size of each block; that size itself an index "
        'of a table of 256, where `nested_absmax` is not `""`.',
        7,
        _bitsandbytes,
    ),
)
