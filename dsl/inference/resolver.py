# SPDX-License-Identifier: Apache-2.0
"""Resolve the `from` expression of a weight against its declared type: names with holes, and functions that compose.

Every tensor gets the shape that the file must hold, so that headers alone can be checked. What each function does is in
`sources` and `packed_sources`; applying them to bytes is the device model's work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from itertools import islice

from dsl.diagnostics import Diagnostic, did_you_mean
from dsl.graph import Region, TensorRef, WeightSource
from dsl.inference.scope import LayerIndex, Poison, Query, Scope
from dsl.linking.static import MAX_TEXT, Evaluator, Static, StaticError, Unknown, show
from dsl.source import Span
from dsl.stored_tensors import HOLE, tensors
from dsl.symbolic import Dim, Poly, TooComplex, equal, text
from dsl.text import syntax as sx
from dsl.types import DTYPES, DType

MAX_NAMES = 4096
"""Tensors of a source that are looked for to choose it; a config may ask for as many experts as it likes."""

WHOLE_BITS = 16


@dataclass(frozen=True, slots=True)
class Want:
    """What a source must give: a shape, the region of the tensor it is read from, a format, and whether once alone."""

    shape: tuple[Dim, ...]
    stored: tuple[Dim | None, ...]
    region: Region | None = None
    dtype: DType | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves one weight's source in a scope; `functions` are those that it may use.

    What is asked of the layer is added to `trace`.
    """

    functions: Mapping[str, SourceSpec]
    scope: Scope
    evaluator: Evaluator
    shape: tuple[Dim, ...]
    held: Container[str] | None = None
    trace: list[Query] = field(default_factory=list)
    repeated: str = ""
    """The variable of the `repeat` in which the weight stands: each layer has a tensor of its own."""

    def resolve(self, expr: sx.Expr) -> WeightSource:
        """Return the source, of alternatives the one that the checkpoint holds, else the first.

        Every alternative must fit; raises `StaticError` where one is malformed or gives another shape. Beside one that
        the checkpoint holds as a whole the others do not matter.
        """
        want = Want(self.shape, self.shape)
        sources: list[tuple[WeightSource, sx.Expr]] = []
        faults: list[StaticError] = []
        asked = len(self.trace)
        for one in sx.alternatives(expr):
            try:
                sources.append((self.source(one, want, {}), one))
            except TooComplex as error:
                message = f"{error} is too complex"
                raise StaticError(Diagnostic("S218", message, expr.span)) from None
            except StaticError as fault:
                faults.append(fault)
        if self.held is None or not sources:
            if faults:
                raise faults[0]
            return sources[0][0]
        shares = [self._share(one, want, source, self.held) for source, one in sources]
        best = max(shares)
        if faults and best < 1.0:
            raise faults[0]
        # What the others asked of the layer does not matter.
        del self.trace[asked:]
        return self.source(sources[shares.index(best)][1], want, {})

    def _share(
        self, expr: sx.Expr, want: Want, source: WeightSource, held: Container[str]
    ) -> float:
        """Return which share of a source's tensors there is: where layers differ, in those named and one other."""
        named: dict[int, sx.Expr] = {}
        rest = expr
        while isinstance(rest, sx.Call) and rest.function.id == "in_layers":
            if len(rest.arguments) != 3:
                return 0.0
            listed, one, rest = rest.arguments
            layers = self.evaluator.value(listed)
            numbers = layers if isinstance(layers, tuple) else ()
            named = {n: one for n in numbers if isinstance(n, int)} | named
        if rest is expr:
            return _share(source, self.scope.current_layer(), held)
        other = next(n for n in range(len(named) + 1) if n not in named)
        each = {**named, other: rest}
        try:
            made = [(self.source(one, want, {}), layer) for layer, one in each.items()]
        except StaticError:
            return 0.0
        return sum(_share(one, layer, held) for one, layer in made) / len(made)

    def source(self, expr: sx.Expr, want: Want, loops: Mapping[str, Dim]) -> WeightSource:
        """Return one source of what is wanted."""
        if isinstance(expr, sx.String):
            name = fill(expr, self.scope, loops)
            if self.repeated and f"{{{self.repeated}}}" not in name:
                raise StaticError(_one_for_all(name, expr, self.repeated))
            return TensorRef(
                name, expr.span, want.stored, want.shape, want.region, want.dtype, want.shared
            )
        if not isinstance(expr, sx.Call):
            message = "a source is a tensor's name in quotes, or a function of sources"
            raise StaticError(Diagnostic("S208", message, expr.span))
        spec = self.functions.get(expr.function.id)
        if spec is None:
            help_ = did_you_mean(expr.function.id, self.functions)
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

    def is_in(self, layers: frozenset[int], expr: sx.Expr) -> bool:
        """Tell whether the layer that is being inferred is one of some."""
        answer = self.scope.current_layer() in layers
        self.trace.append(Query(expr, {}, answer, True, layers))
        return answer

    def count(self, expr: sx.Expr) -> Dim:
        """Return a static size of at least one among a source's arguments."""
        size = self.number(expr)
        if equal(size, 0):
            raise StaticError(Diagnostic("S208", "this is 0; it must be at least 1", expr.span))
        return size

    def dtype(self, expr: sx.Expr) -> DType:
        """Return a data type among a source's arguments."""
        value: Static = self.evaluator.value(expr)
        dtype = DTYPES.get(value) if isinstance(value, str) else value
        if not isinstance(dtype, DType):
            message = f"{show(value)} is no dtype"
            help_ = did_you_mean(str(value), DTYPES)
            raise StaticError(Diagnostic("S211", message, expr.span, help=help_))
        return dtype

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


SourceRule = Callable[[Resolver, sx.Call, Want, Mapping[str, Dim]], WeightSource]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source function: how it is written, what it gives, and its rule; -1 arguments means any number."""

    name: str
    usage: str
    summary: str
    arguments: int
    rule: SourceRule


def _share(source: WeightSource, layer: int | None, held: Container[str]) -> float:
    """Return which share of a source's tensors there is; one that is packed is not there as a weight of its own."""
    names = islice(tensors(source, -1 if layer is None else layer), MAX_NAMES)
    present = [name in held and not _is_packed(ref, held, name) for name, ref in names]
    return sum(present) / len(present) if present else 0.0


def _is_packed(ref: TensorRef, held: Container[str], name: str) -> bool:
    """Tell whether a tensor that is read as it is has elements that are nothing without scales."""
    dtype = getattr(held[name], "dtype", None) if isinstance(held, Mapping) else None
    return ref.dtype is None and isinstance(dtype, DType) and dtype.bits < WHOLE_BITS


def _one_for_all(name: str, expr: sx.String, variable: str) -> Diagnostic:
    message = f"every layer would read `{name}`: the name has no `{{{variable}}}`"
    help_ = f"write the layer as `{{{variable}}}`; a weight that layers share is declared before `repeat`"
    return Diagnostic("S230", message, expr.span, help=help_)


def _layers(scope: Scope) -> str:
    variables = [name for name, meaning in scope.names.items() if isinstance(meaning, LayerIndex)]
    return f"the layer is `{{{variables[0]}}}`" if variables else ""


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
