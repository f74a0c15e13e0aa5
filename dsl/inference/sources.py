# SPDX-License-Identifier: Apache-2.0
"""Where a weight's bytes come from: functions of tensors that compose, and the table of all of them.

Those that give packed weights are in `packed_sources`, `integer_sources` and `table_sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from dsl.diagnostics import Diagnostic
from dsl.graph import Attr, Region, Transform, WeightSource
from dsl.inference.integer_sources import INTEGER_SOURCES
from dsl.inference.packed_sources import PACKED_SOURCES
from dsl.inference.resolver import Resolver, SourceRule, SourceSpec, Want
from dsl.inference.table_sources import TABLE_SOURCES
from dsl.linking.static import StaticError
from dsl.symbolic import Dim, equal, quotient, text
from dsl.text import syntax as sx

Axis = TypeVar("Axis", bound=Dim | None)


def _stack(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    loop, inner = expr.arguments
    if not (
        isinstance(loop, sx.Binary) and loop.operator == "<" and isinstance(loop.left, sx.Name)
    ):
        message = "the first argument of stack names a variable and its end, as `e < X`"
        raise StaticError(Diagnostic("S208", message, loop.span))
    count = r.number(loop.right)
    holds = bool(want.shape) and equal(want.shape[0], count)
    r.need(holds, expr, f"{text(count)} tensors", want)
    r.plain(expr, want)
    rest = Want(want.shape[1:], want.stored[1:], dtype=want.dtype)
    part = r.source(inner, rest, {**loops, loop.left.id: count})
    return Transform("stack", (part,), {"variable": loop.left.id, "count": count}, expr.span)


def _transpose(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    r.need(len(want.shape) >= 2, expr, "a matrix", want)
    region = want.region
    rank = len(want.shape)
    if region is not None and region.axis >= rank - 2:
        region = replace(region, axis=2 * rank - 3 - region.axis)
    swapped = Want(_swapped(want.shape), _swapped(want.stored), region, want.dtype)
    return Transform("transpose", (r.source(expr.arguments[0], swapped, loops),), {}, expr.span)


def _swapped(shape: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def _part(
    r: Resolver,
    expr: sx.Call,
    want: Want,
    loops: Mapping[str, Dim],
    region: Region,
    size: Dim | None,
) -> WeightSource:
    r.plain(expr, want)
    stored = tuple(size if i == region.axis else d for i, d in enumerate(want.stored))
    part = r.source(expr.arguments[0], replace(want, stored=stored, region=region), loops)
    attrs: dict[str, Attr] = {
        "axis": region.axis,
        "start": region.start,
        "stop": region.stop,
        "step": region.step,
        "groups": region.groups,
    }
    return Transform("part", (part,), attrs, expr.span)


def _range(axis: int) -> SourceRule:
    def rule(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
        start, stop = r.number(expr.arguments[1]), r.number(expr.arguments[2])
        there = len(want.shape) > (1 if axis == -2 else 0)
        at = axis % len(want.shape) if there else 0
        what = "columns" if axis == -1 else "rows"
        holds = there and equal(want.shape[at], stop - start)
        r.need(holds, expr, f"{text(stop - start)} {what}", want)
        return _part(r, expr, want, loops, Region(at, start, stop), None)

    return rule


def _every(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Every step-th index of the axis before the last, or of the only one."""
    start, step = r.number(expr.arguments[1]), r.number(expr.arguments[2])
    whole = isinstance(start, int) and isinstance(step, int) and 0 <= start < step
    if not (isinstance(start, int) and isinstance(step, int) and whole):
        message = "every needs whole numbers, the start below the step"
        raise StaticError(Diagnostic("S208", message, expr.span))
    axis = max(len(want.shape) - 2, 0)
    r.need(bool(want.shape), expr, "an axis to step over", want)
    total = want.shape[axis] * step
    return _part(r, expr, want, loops, Region(axis, start, total, step), total)


def _each(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """A range of rows of each of equal groups, as where each head has its own rows of keys and values."""
    groups, start, stop = (r.number(a) for a in expr.arguments[1:])
    rows = groups * (stop - start)
    r.need(bool(want.shape) and equal(want.shape[0], rows), expr, f"{text(rows)} rows", want)
    return _part(r, expr, want, loops, Region(0, start, stop, groups=groups), None)


def _fold(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """The leading axis as two: groups, and the rows of each."""
    groups = r.number(expr.arguments[1])
    holds = len(want.shape) >= 2 and equal(want.shape[0], groups)
    r.need(holds, expr, f"{text(groups)} groups of rows", want)
    r.plain(expr, want)
    shape = (want.shape[0] * want.shape[1], *want.shape[2:])
    part = r.source(expr.arguments[0], Want(shape, shape, dtype=want.dtype), loops)
    return Transform("fold", (part,), {"groups": groups}, expr.span)


def _flat(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """The two leading axes as one, of which the second has a size."""
    size = r.count(expr.arguments[1])
    outer = quotient(want.shape[0], size) if want.shape else None
    r.need(outer is not None, expr, f"a multiple of {text(size)} rows", want)
    r.plain(expr, want)
    shape = (0 if outer is None else outer, size, *want.shape[1:])
    part = r.source(expr.arguments[0], Want(shape, shape, dtype=want.dtype), loops)
    return Transform("flat", (part,), {}, expr.span)


def _join(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Sources one after the other along the leading axis, each followed by its rows: join(a, n, b, m)."""
    pairs = list(zip(expr.arguments[::2], expr.arguments[1::2], strict=False))
    if len(expr.arguments) % 2 or not pairs:
        message = f"write {SOURCES['join'].usage}"
        raise StaticError(Diagnostic("S208", message, expr.span))
    r.plain(expr, want)
    total: Dim = 0
    parts = []
    for inner, rows in pairs:
        count = r.number(rows)
        total = total + count
        shape = (count, *want.shape[1:])
        parts.append(r.source(inner, Want(shape, shape, dtype=want.dtype), loops))
    r.need(bool(want.shape) and equal(want.shape[0], total), expr, f"{text(total)} rows", want)
    return Transform("join", tuple(parts), {}, expr.span)


def _in_layers(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """One of two sources, by the layer."""
    listed, first, second = expr.arguments
    layers = r.evaluator.value(listed)
    if not isinstance(layers, tuple) or not all(type(layer) is int for layer in layers):
        message = "in_layers needs a list of layers, such as [0, 1]"
        raise StaticError(Diagnostic("S208", message, listed.span))
    named = frozenset(layer for layer in layers if isinstance(layer, int))
    is_named = r.is_in(named, expr)
    # A layer that is named alone may name its tensor without its number.
    own = replace(r, repeated="") if is_named and len(named) == 1 else r
    chosen = own.source(first if is_named else second, want, loops)
    # Both are one source of the text.
    return replace(chosen, span=expr.span)


def _half_pairs(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Rotary rows of each head from neighbouring pairs to halves apart."""
    heads = r.count(expr.arguments[1])
    holds = bool(want.shape) and quotient(want.shape[0], 2 * heads) is not None
    even = bool(want.shape) and (holds or not isinstance(want.shape[0], int))
    r.need(even, expr, f"{text(heads)} heads of an even width", want)
    part = r.source(expr.arguments[0], want, loops)
    return Transform("half_pairs", (part,), {"heads": heads}, expr.span)


SOURCES: Mapping[str, SourceSpec] = {
    spec.name: spec
    for spec in (
        SourceSpec(
            "stack",
            "stack(e < X, source)",
            "One tensor for each value of a variable, along a new leading axis.",
            2,
            _stack,
        ),
        SourceSpec("transpose", "transpose(source)", "The last two axes swapped.", 1, _transpose),
        SourceSpec(
            "rows",
            "rows(source, start, stop)",
            "A range of the leading axis of a fused tensor.",
            3,
            _range(0),
        ),
        SourceSpec(
            "columns",
            "columns(source, start, stop)",
            "A range of the last axis of a fused tensor.",
            3,
            _range(-1),
        ),
        SourceSpec(
            "matrix_rows",
            "matrix_rows(source, start, stop)",
            "A range of the rows of each matrix of a stack: of the axis before the last.",
            3,
            _range(-2),
        ),
        SourceSpec(
            "every",
            "every(source, start, step)",
            "Every step-th row from start on, of rows that are interleaved.",
            3,
            _every,
        ),
        SourceSpec(
            "each",
            "each(source, groups, start, stop)",
            "A range of rows of each of equal groups of the leading axis.",
            4,
            _each,
        ),
        SourceSpec(
            "fold",
            "fold(source, groups)",
            "The leading axis as two: groups, and the rows of each.",
            2,
            _fold,
        ),
        SourceSpec(
            "flat",
            "flat(source, size)",
            "The two leading axes as one; the second of them has this size.",
            2,
            _flat,
        ),
        SourceSpec(
            "join",
            "join(source, rows, source, rows, …)",
            "Sources one after the other along the leading axis.",
            -1,
            _join,
        ),
        SourceSpec(
            "half_pairs",
            "half_pairs(source, heads)",
            "Rotary rows of each head reordered from neighbouring pairs to pairs that are halves apart.",
            2,
            _half_pairs,
        ),
        SourceSpec(
            "in_layers",
            "in_layers([layer, …], source, source)",
            "In these layers the first source, in all others the second.",
            3,
            _in_layers,
        ),
        *PACKED_SOURCES,
        *INTEGER_SOURCES,
        *TABLE_SOURCES,
    )
}
