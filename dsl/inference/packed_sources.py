"""Sources that stay packed: values in a low precision, with the scales that belong to them.

Each gives a matrix [N, K], or a stack of them, of tensors whose shapes follow from its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dsl.diagnostics import Diagnostic
from dsl.graph import Attr, Region, Transform, WeightSource
from dsl.inference.resolver import Resolver, SourceSpec, Want
from dsl.linking.static import StaticError
from dsl.symbolic import Dim, equal, opaque, quotient, ratio, text
from dsl.text import syntax as sx
from dsl.types import DTYPES, DType

INTEGER = DTYPES["i32"]
MX_BLOCK = 32
WORD = 8
"""Four-bit numbers in a word of 32 bits."""


def _scaled(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Low-precision values with one scale a block of rows and columns."""
    dtype, values, scales, rows, columns = expr.arguments
    stored = r.dtype(dtype)
    r.need(len(want.shape) >= 2, expr, "a matrix", want)
    block = (r.count(rows), r.count(columns))
    region = _of_blocks(want, block[0])
    if region is None:
        r.plain(expr, want)

    grid = tuple(_blocks(d, b) for d, b in zip(want.shape[-2:], block, strict=True))
    held = tuple(
        None if d is None else _blocks(d, b) for d, b in zip(want.stored[-2:], block, strict=True)
    )
    factors = Want((*want.shape[:-2], *grid), (*want.stored[:-2], *held), region, DTYPES["f32"])
    parts = (
        r.source(values, replace(want, dtype=stored), loops),
        r.source(scales, factors, loops),
    )
    attrs: dict[str, Attr] = {"dtype": stored, "rows": block[0], "columns": block[1]}
    return Transform("scaled", parts, attrs, expr.span)


def _blocks(size: Dim, block: Dim) -> Dim:
    """Return how many blocks cover an axis."""
    return opaque("ceil_div", size, block) if quotient(size, block) is None else ratio(size, block)


def _of_blocks(want: Want, rows: Dim) -> Region | None:
    """Return a region of rows as one of whole blocks of them, None where it is none.

    How many rows a group has may be known from the file alone: then the device says whether blocks end with groups.
    """
    region = want.region
    if region is None or region.axis != len(want.shape) - 2 or region.step != 1:
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


@dataclass(frozen=True, slots=True)
class _Groups:
    """A matrix [N, K] of four-bit numbers in groups along K, as a file holds it: turned around."""

    n: Dim
    k: Dim
    stored: Dim | None
    size: Dim
    rows: Region | None
    words: Region | None

    def across(self, count: Dim, dtype: DType) -> Want:
        """Return what has `count` rows and a column for each row of the matrix."""
        return Want((count, self.n), (count, self.stored), self.rows, dtype)

    def in_words(self, count: Dim) -> Want:
        """Return what has `count` rows and a word for each eight rows of the matrix."""
        stored = None if self.stored is None else ratio(self.stored, WORD)
        return Want((count, ratio(self.n, WORD)), (count, stored), self.words, INTEGER)


def _groups(r: Resolver, expr: sx.Call, want: Want, size: sx.Expr) -> _Groups:
    """Return how a matrix lies in groups of a size, of which 0 is the whole width."""
    r.need(len(want.shape) == 2, expr, "a matrix", want)
    (n, k), region = want.shape, want.region
    group = r.number(size)
    group = k if equal(group, 0) else group
    r.need(_divides(group, k), expr, f"groups of {text(group)} columns", want)
    if region is None:
        whole = n if want.stored[0] is None else want.stored[0]
        r.need(_divides(WORD, whole), expr, "words of 8 rows", want)
        return _Groups(n, k, want.stored[0], group, None, None)
    words = _of_blocks(want, WORD)
    if words is None:
        message = "rows of four-bit numbers are read in ranges that begin and end with words of 8"
        raise StaticError(Diagnostic("S208", message, expr.span))
    turned = (replace(part, axis=1) for part in (region, words))
    return _Groups(n, k, want.stored[0], group, *turned)


def _divides(size: Dim, whole: Dim) -> bool:
    """Tell whether a size divides another, as far as it is known."""
    known = isinstance(size, int) and isinstance(whole, int)
    return not known or quotient(whole, size) is not None


def _gptq(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Four-bit numbers, eight a word along K, each group with a scale and a zero point."""
    dtype, values, zeros, scales, index, size, added = expr.arguments
    at = _groups(r, expr, want, size)
    r.need(_divides(WORD, at.k), expr, "words of 8 columns", want)
    count, offset = ratio(at.k, at.size), r.number(added)
    if offset not in (0, 1):
        message = f"this is {text(offset)}; it is 1 or, where files store zero points whole, 0"
        raise StaticError(Diagnostic("S208", message, added.span))
    parts = (
        r.source(values, at.across(ratio(at.k, WORD), INTEGER), loops),
        r.source(zeros, at.in_words(count), loops),
        r.source(scales, at.across(count, r.dtype(dtype)), loops),
        r.source(index, Want((at.k,), (at.k,), dtype=INTEGER, shared=True), loops),
    )
    return Transform("gptq", parts, {"group": at.size, "added": offset}, expr.span)


def _awq(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Four-bit numbers, eight a word along N, each group with a scale and a zero point."""
    dtype, values, zeros, scales, size = expr.arguments
    at = _groups(r, expr, want, size)
    count = ratio(at.k, at.size)
    parts = (
        r.source(values, at.in_words(at.k), loops),
        r.source(zeros, at.in_words(count), loops),
        r.source(scales, at.across(count, r.dtype(dtype)), loops),
    )
    return Transform("awq", parts, {"group": at.size}, expr.span)


PACKED_SOURCES: tuple[SourceSpec, ...] = (
    SourceSpec(
        "scaled",
        "scaled(dtype, values, scales, rows, columns)",
        "Values in a low precision, each block of rows and columns times its own f32 scale.",
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
        "gptq",
        "gptq(dtype, qweight, qzeros, scales, g_idx, group, added)",
        "Four-bit numbers as GPTQ stores them: each less the zero point of its group of columns, times the group's "
        "scale. The scales' dtype; group 0 is the whole width; `added` is what zero points lack in the file, 1 or 0.",
        7,
        _gptq,
    ),
    SourceSpec(
        "awq",
        "awq(dtype, qweight, qzeros, scales, group)",
        "The same numbers as AWQ stores them for its `gemm` kernels, with zero points that lack nothing.",
        5,
        _awq,
    ),
)
