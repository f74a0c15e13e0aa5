"""Where a weight's bytes come from: tensor names with holes, and functions that compose.

Resolves the `from` expression of a weight against its declared type: every tensor gets the shape that the file must
hold, so that headers alone can be checked. Applying the functions to bytes is the device model's work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from dsl import syntax as sx
from dsl.diagnostics import Diagnostic, did_you_mean
from dsl.graph import Attr, Region, TensorRef, Transform, WeightSource
from dsl.scope import LayerIndex, Poison, Scope
from dsl.source import Span
from dsl.static import MAX_TEXT, Evaluator, Static, StaticError, Unknown, show
from dsl.stored_tensors import HOLE, tensors
from dsl.symbolic import Dim, Poly, TooComplex, equal, opaque, quotient, ratio, text
from dsl.types import DTYPES, DType

MX_BLOCK = 32
Axis = TypeVar("Axis", bound=Dim | None)


@dataclass(frozen=True, slots=True)
class Want:
    """What a source must give: a shape, the region of the tensor it is read from, a format."""

    shape: tuple[Dim, ...]
    stored: tuple[Dim | None, ...]
    region: Region | None = None
    dtype: DType | None = None


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves one weight's source in a scope."""

    scope: Scope
    evaluator: Evaluator
    shape: tuple[Dim, ...]
    held: Container[str] | None = None

    def resolve(self, expr: sx.Expr) -> WeightSource:
        """Return the source, of alternatives the one that the checkpoint holds, else the first.

        Every alternative must fit; raises `StaticError` where one is malformed or gives another shape. Beside one that
        the checkpoint holds as a whole the others do not matter.
        """
        want = Want(self.shape, self.shape)
        found: list[WeightSource] = []
        faults: list[StaticError] = []
        for one in sx.alternatives(expr):
            try:
                found.append(self.source(one, want, {}))
            except TooComplex as error:
                message = f"{error} is too complex"
                raise StaticError(Diagnostic("S218", message, expr.span)) from None
            except StaticError as fault:
                faults.append(fault)
        if self.held is None or not found:
            if faults:
                raise faults[0]
            return found[0]
        held, layer = self.held, self.scope.current_layer()
        best = max(found, key=lambda source: _share(source, layer, held))
        if faults and _share(best, layer, held) < 1.0:
            raise faults[0]
        return best

    def source(self, expr: sx.Expr, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
        """Return one source of what is wanted."""
        if isinstance(expr, sx.String):
            name = fill(expr, self.scope, loops)
            return TensorRef(name, expr.span, want.stored, want.shape, want.region, want.dtype)
        if not isinstance(expr, sx.Call):
            message = "a source is a tensor's name in quotes, or a function of sources"
            raise StaticError(Diagnostic("S208", message, expr.span))
        spec = SOURCES.get(expr.function.id)
        if spec is None:
            help_ = did_you_mean(expr.function.id, SOURCES)
            message = f"`{expr.function.id}` is no source function"
            raise StaticError(Diagnostic("S208", message, expr.function.span, help=help_))
        if (len(expr.arguments) != spec.arguments and spec.arguments >= 0) or expr.keywords:
            raise StaticError(Diagnostic("S208", f"write {spec.usage}", expr.span))
        return spec.rule(self, expr, want, loops)

    def number(self, expr: sx.Expr) -> Dim:
        """Return a static size among a source's arguments."""
        size = self.evaluator.dim(expr)
        if isinstance(size, int) and size < 0:
            raise StaticError(
                Diagnostic("S208", f"this is {size}; it cannot be negative", expr.span)
            )
        return size

    def count(self, expr: sx.Expr) -> Dim:
        """Return a static size of at least one among a source's arguments."""
        size = self.number(expr)
        if equal(size, 0):
            raise StaticError(Diagnostic("S208", "this is 0; it must be at least 1", expr.span))
        return size

    def need(self, holds: bool, expr: sx.Expr, gives: str, want: Want) -> None:
        """Refuse a source whose function gives another shape than is wanted."""
        if not holds:
            shown = ", ".join(text(d) for d in want.shape)
            message = f"the source gives {gives}; [{shown}] is needed"
            raise StaticError(Diagnostic("S209", message, expr.span))

    def plain(self, expr: sx.Expr, want: Want) -> None:
        """Refuse to cut a part that is already a part along another axis."""
        if want.region is not None:
            message = "a part of a part: one function must say which part of the tensor is read"
            raise StaticError(Diagnostic("S208", message, expr.span))


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


def _half_pairs(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Rotary rows of each head from neighbouring pairs to halves apart."""
    heads = r.count(expr.arguments[1])
    holds = bool(want.shape) and quotient(want.shape[0], 2 * heads) is not None
    even = bool(want.shape) and (holds or not isinstance(want.shape[0], int))
    r.need(even, expr, f"{text(heads)} heads of an even width", want)
    part = r.source(expr.arguments[0], want, loops)
    return Transform("half_pairs", (part,), {"heads": heads}, expr.span)


def _scaled(r: Resolver, expr: sx.Call, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
    """Low-precision values with one scale a block of rows and columns."""
    dtype, values, scales, rows, columns = expr.arguments
    stored = _dtype(r, dtype)
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


def _dtype(r: Resolver, expr: sx.Expr) -> DType:
    value: Static = r.evaluator.value(expr)
    found = DTYPES.get(value) if isinstance(value, str) else value
    if not isinstance(found, DType):
        message = f"{show(value)} is no dtype"
        help_ = did_you_mean(str(value), DTYPES)
        raise StaticError(Diagnostic("S211", message, expr.span, help=help_))
    return found


def _share(source: WeightSource, layer: int | None, held: Container[str]) -> float:
    """Return which share of a source's tensors there is."""
    found = [name in held for name, _ in tensors(source, -1 if layer is None else layer)]
    return sum(found) / len(found) if found else 0.0


SourceRule = Callable[[Resolver, sx.Call, Want, Mapping[str, Dim]], WeightSource]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source function: how it is written, what it gives, and its rule; -1 arguments means any number."""

    name: str
    usage: str
    summary: str
    arguments: int
    rule: SourceRule


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
    )
}


def _layers(scope: Scope) -> str:
    found = [name for name, meaning in scope.names.items() if isinstance(meaning, LayerIndex)]
    return f"the layer is `{{{found[0]}}}`" if found else ""


def fill(template: sx.String, scope: Scope, loops: Mapping[str, Dim]) -> str:
    """Return a string with its holes filled from static strings; loop variables stay as holes."""

    def replace_hole(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in loops:
            return match.group()
        meaning = scope.names.get(name)
        if isinstance(meaning, LayerIndex):
            return f"{{{meaning.variable}}}"
        if isinstance(meaning, str):
            return meaning
        if isinstance(meaning, (int, Poly, Unknown)) and not isinstance(meaning, bool):
            return show(meaning)
        if isinstance(meaning, Poison):
            raise StaticError(None)
        help_ = did_you_mean(name, [*loops, *scope.names]) or _layers(scope)
        known = "is not bound here" if meaning is None else "is no text, number or loop variable"
        message = f"the hole `{{{name}}}` {known}"
        start = template.span.start + 1 + match.start()
        place = Span(template.span.source, start, start + len(match.group()))
        labels = scope.near(name)
        raise StaticError(Diagnostic("S210", message, place, labels=labels, help=help_))

    filled = HOLE.sub(replace_hole, template.value)
    if len(filled) > MAX_TEXT:
        message = f"a name of {len(filled)} characters is too long"
        raise StaticError(Diagnostic("S218", message, template.span))
    return filled
