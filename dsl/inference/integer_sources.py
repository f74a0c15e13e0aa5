# SPDX-License-Identifier: Apache-2.0
"""Sources of whole numbers of a few bits in words: GPTQ's, AWQ's and compressed-tensors' layouts.

Each gives a matrix [N, K] in groups of columns, of tensors whose shapes follow from its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dsl.diagnostics import Diagnostic
from dsl.graph import Attr, Region, Transform, WeightSource
from dsl.inference.packed_sources import of_blocks
from dsl.inference.resolver import Resolver, SourceSpec, Want
from dsl.linking.static import StaticError
from dsl.symbolic import Dim, equal, opaque, quotient, ratio, text
from dsl.text import syntax as sx
from dsl.types import DTYPES, DType

INTEGER = DTYPES["i32"]
WORD_BITS = 32
GPTQ_BITS = (2, 3, 4, 8)
PACKED_BITS = (1, 2, 4, 8)
USUAL_BITS = 4
AWQ_WIDE = {64: 2, 32: 4}
"""To a multiple of how many words the groups of a row are padded for AWQ's `gemv` kernels, by the group's size."""


@dataclass(frozen=True, slots=True)
class _Groups:
    """A matrix [N, K] of numbers of some bits in groups along K, as a file holds it: turned around, in words."""

    n: Dim
    k: Dim
    stored: Dim | None
    size: Dim
    bits: int
    rows: Region | None
    words: Region | None

    def across(self, count: Dim, dtype: DType) -> Want:
        """Return what has `count` rows and a column for each row of the matrix."""
        return Want((count, self.n), (count, self.stored), self.rows, dtype)

    def in_words(self, count: Dim) -> Want:
        """Return what has `count` rows and, along the rows of the matrix, words."""
        stored = None if self.stored is None else _words(self.stored, self.bits)
        return Want((count, _words(self.n, self.bits)), (count, stored), self.words, INTEGER)

    def index(self) -> Want:
        """Return what has a number for each column."""
        return Want((self.k,), (self.k,), dtype=INTEGER, shared=True)


def _words(count: Dim, bits: int) -> Dim:
    """Return how many words so many numbers fill."""
    if quotient(count * bits, WORD_BITS) is None:
        return opaque("ceil_div", count * bits, WORD_BITS)
    return ratio(count * bits, WORD_BITS)


def _each(bits: int) -> int:
    """Return after how many numbers a word ends with a number."""
    return WORD_BITS // bits if WORD_BITS % bits == 0 else WORD_BITS


def _groups(r: Resolver, expr: sx.Call, want: Want, size: sx.Expr, bits: int) -> _Groups:
    """Return how a matrix lies in groups of a size, of which 0 is the whole width."""
    r.need(len(want.shape) == 2, expr, "a matrix", want)
    (n, k), region = want.shape, want.region
    group = r.number(size)
    group = k if equal(group, 0) else group
    r.need(_divides(group, k), expr, f"groups of {text(group)} columns", want)
    if region is None:
        return _Groups(n, k, want.stored[0], group, bits, None, None)
    each = _each(bits)
    words = of_blocks(want, each)
    if words is None:
        message = f"rows of such numbers are read in ranges that begin and end with words of {each}"
        raise StaticError(Diagnostic("S208", message, expr.span))
    # Where numbers cross words, several words end together.
    per = bits * each // WORD_BITS
    words = replace(words, start=words.start * per, stop=words.stop * per)
    return _Groups(n, k, want.stored[0], group, bits, region, words)


def _turned(at: _Groups) -> _Groups:
    """Return the same with rows that the file keeps as columns."""
    rows, words = (None if x is None else replace(x, axis=1) for x in (at.rows, at.words))
    return replace(at, rows=rows, words=words)


def _whole_words(r: Resolver, expr: sx.Call, want: Want, at: _Groups) -> None:
    """Refuse rows that do not fill words."""
    each, n = _each(at.bits), at.n if at.stored is None else at.stored
    r.need(at.words is not None or _divides(each, n), expr, f"words of {each} rows", want)


def _divides(size: Dim, whole: Dim) -> bool:
    """Tell whether a size divides another, as far as it is known."""
    known = isinstance(size, int) and isinstance(whole, int)
    return not known or quotient(whole, size) is not None


def _bits(r: Resolver, expr: sx.Expr, known: tuple[int, ...]) -> int:
    bits = r.number(expr)
    if isinstance(bits, int) and bits in known:
        return bits
    message = f"this is {text(bits)}; it is one of {', '.join(map(str, known))} bits"
    raise StaticError(Diagnostic("S208", message, expr.span))


def _gptq(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Numbers in words along K, each group with a scale and a zero point."""
    if len(expr.arguments) not in (7, 8):
        raise StaticError(Diagnostic("S208", f"write {GPTQ_USAGE}", expr.span))
    dtype, values, zeros, scales, index, size, added, *width = expr.arguments
    bits = _bits(r, width[0], GPTQ_BITS) if width else USUAL_BITS
    at = _turned(_groups(r, expr, want, size, bits))
    _whole_words(r, expr, want, at)
    r.need(_divides(_each(bits), at.k), expr, f"words of {_each(bits)} columns", want)
    count, offset = ratio(at.k, at.size), r.number(added)
    if offset not in (0, 1):
        message = f"this is {text(offset)}; it is 1 or, where files store zero points whole, 0"
        raise StaticError(Diagnostic("S208", message, added.span))
    parts = (
        r.source(values, at.across(_words(at.k, bits), INTEGER), loops),
        r.source(zeros, at.in_words(count), loops),
        r.source(scales, at.across(count, r.dtype(dtype)), loops),
        r.source(index, at.index(), loops),
    )
    attrs: dict[str, Attr] = {"group": at.size, "added": offset, "bits": bits}
    return Transform("gptq", parts, attrs, expr.span)


def _awq(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Four-bit numbers, eight a word along N, each group with a scale and a zero point."""
    dtype, values, zeros, scales, size = expr.arguments
    at = _turned(_groups(r, expr, want, size, USUAL_BITS))
    _whole_words(r, expr, want, at)
    count = ratio(at.k, at.size)
    parts = (
        r.source(values, at.in_words(at.k), loops),
        r.source(zeros, at.in_words(count), loops),
        r.source(scales, at.across(count, r.dtype(dtype)), loops),
    )
    return Transform("awq", parts, {"group": at.size}, expr.span)


def _awq_rows(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Four-bit numbers, eight a word along K, with scales and zero points padded to whole words."""
    dtype, values, zeros, scales, size = expr.arguments
    at = _groups(r, expr, want, size, USUAL_BITS)
    r.need(_divides(_each(at.bits), at.k), expr, f"words of {_each(at.bits)} columns", want)
    several = AWQ_WIDE.get(at.size, 1) if isinstance(at.size, int) else 1
    words = opaque("ceil_div", ratio(at.k, at.size), 8 * several) * several

    def along(count: Dim, dtype: DType) -> Want:
        return Want((at.n, count), (at.stored, count), at.rows, dtype)

    parts = (
        r.source(values, along(_words(at.k, at.bits), INTEGER), loops),
        r.source(zeros, along(words, INTEGER), loops),
        r.source(scales, along(words * 8, r.dtype(dtype)), loops),
    )
    return Transform("awq_rows", parts, {"group": at.size}, expr.span)


def _integers(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Numbers in words along K; zero points and the groups of columns where there are such."""
    dtype, width, values, scales, *others, size = expr.arguments
    bits = _bits(r, width, PACKED_BITS)
    at = _groups(r, expr, want, size, bits)
    count = ratio(at.k, at.size)
    along = Want((at.n, count), (at.stored, count), at.rows, r.dtype(dtype))
    words = _words(at.k, bits)
    optional = {
        "zeros": replace(_swapped(at.in_words(count)), region=at.words),
        "index": at.index(),
    }
    parts = [
        r.source(values, Want((at.n, words), (at.stored, words), at.rows, INTEGER), loops),
        r.source(scales, along, loops),
    ]
    attrs: dict[str, Attr] = {"group": at.size, "bits": bits, "columns": at.k}
    for (name, wanted), other in zip(optional.items(), others, strict=True):
        there = not (isinstance(other, sx.String) and other.value == "")
        attrs[name] = there
        if there:
            parts.append(r.source(other, wanted, loops))
    return Transform("integers", tuple(parts), attrs, expr.span)


def _swapped(want: Want) -> Want:
    return replace(want, shape=want.shape[::-1], stored=want.stored[::-1])


GPTQ_USAGE = "gptq(dtype, qweight, qzeros, scales, g_idx, group, added, bits)"
INTEGER_SOURCES: tuple[SourceSpec, ...] = (
    SourceSpec(
        "gptq",
        GPTQ_USAGE,
        "Whole numbers as GPTQ stores them: each less the zero point of its group of columns, times the group's "
        "scale. The scales' dtype; group 0 is the whole width; `added` is what zero points lack in the file, 1 or 0; "
        "2, 3, 4 or 8 `bits`, 4 where none are said.",
        -1,
        _gptq,
    ),
    SourceSpec(
        "awq",
        "awq(dtype, qweight, qzeros, scales, group)",
        "The same numbers as AWQ stores them for its `gemm` kernels, with zero points that lack nothing.",
        5,
        _awq,
    ),
    SourceSpec(
        "awq_rows",
        "awq_rows(dtype, qweight, qzeros, scales, group)",
        "The same as AWQ stores them for its `gemv` kernels: row by row.",
        5,
        _awq_rows,
    ),
    SourceSpec(
        "integers",
        "integers(dtype, bits, values, scales, zeros, index, group)",
        "Whole numbers as compressed-tensors packs them, row by row. Zero points and the groups of columns are "
        '`""` where the file has none: then the middle is zero, and groups are in order.',
        7,
        _integers,
    ),
)
