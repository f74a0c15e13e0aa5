"""Where a weight's bytes come from: tensor names with holes, and functions that compose.

Resolves the `from` expression of a weight into a `WeightSource` and checks it against the declared type. Reading the
bytes and applying the functions is the device model's work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dsl import syntax as sx
from dsl.diagnostics import Diagnostic, did_you_mean
from dsl.graph import TensorRef, Transform, WeightSource
from dsl.scope import LayerIndex, Scope
from dsl.static import Evaluator, StaticError, show
from dsl.symbolic import Dim, equal, text

_HOLE = re.compile(r"\{([^{}]*)\}")
Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves one weight's source in a scope."""

    scope: Scope
    evaluator: Evaluator
    shape: Shape

    def resolve(self, expr: sx.Expr) -> WeightSource:
        """Return the source; raises `StaticError` where it is malformed or does not fit the shape."""
        return self._source(expr, self.shape, {})

    def _source(self, expr: sx.Expr, shape: Shape, loops: Mapping[str, Dim]) -> WeightSource:
        if isinstance(expr, sx.String):
            return TensorRef(fill(expr, self.scope, loops), expr.span)
        if not isinstance(expr, sx.Call):
            message = "a source is a tensor's name in quotes, or a function of sources"
            raise StaticError(Diagnostic("S208", message, expr.span))
        rule = SOURCES.get(expr.function.id)
        if rule is None:
            help_ = did_you_mean(expr.function.id, SOURCES)
            message = f"`{expr.function.id}` is no source function"
            raise StaticError(Diagnostic("S208", message, expr.function.span, help=help_))
        return rule(self, expr, shape, loops)

    def stack(self, expr: sx.Call, shape: Shape, loops: Mapping[str, Dim]) -> WeightSource:
        """`stack(e < X, source)`: a new leading axis."""
        loop, inner = self._two(expr, "stack(e < X, source)")
        if not (
            isinstance(loop, sx.Binary) and loop.operator == "<" and isinstance(loop.left, sx.Name)
        ):
            message = "the first argument of stack names a variable and its end, as `e < X`"
            raise StaticError(Diagnostic("S208", message, loop.span))
        count = self.evaluator.dim(loop.right)
        self._fits(bool(shape) and equal(shape[0], count), expr, f"{text(count)} tensors", shape)
        part = self._source(inner, shape[1:], {**loops, loop.left.id: count})
        attrs = {"variable": loop.left.id, "count": count}
        return Transform("stack", (part,), attrs, expr.span)

    def transpose(self, expr: sx.Call, shape: Shape, loops: Mapping[str, Dim]) -> WeightSource:
        """`transpose(source)`: both axes swapped."""
        if len(expr.arguments) != 1:
            raise StaticError(Diagnostic("S208", "write transpose(source)", expr.span))
        self._fits(len(shape) == 2, expr, "a matrix", shape)
        part = self._source(expr.arguments[0], shape[::-1], loops)
        return Transform("transpose", (part,), {}, expr.span)

    def rows(self, expr: sx.Call, shape: Shape, loops: Mapping[str, Dim]) -> WeightSource:
        """`rows(source, start, stop)`: a range of the leading axis."""
        if len(expr.arguments) != 3:
            raise StaticError(Diagnostic("S208", "write rows(source, start, stop)", expr.span))
        start, stop = (self.evaluator.dim(a) for a in expr.arguments[1:])
        length = stop - start
        self._fits(bool(shape) and equal(shape[0], length), expr, f"{text(length)} rows", shape)
        part = self._source(expr.arguments[0], shape, loops)
        return Transform("rows", (part,), {"start": start, "stop": stop}, expr.span)

    def _two(self, expr: sx.Call, usage: str) -> tuple[sx.Expr, sx.Expr]:
        if len(expr.arguments) != 2 or expr.keywords:
            raise StaticError(Diagnostic("S208", f"write {usage}", expr.span))
        return expr.arguments[0], expr.arguments[1]

    def _fits(self, holds: bool, expr: sx.Expr, what: str, shape: Shape) -> None:
        if not holds:
            shown = ", ".join(text(d) for d in shape)
            message = f"the source gives {what}; the type is [{shown}]"
            raise StaticError(Diagnostic("S209", message, expr.span))


SourceRule = Callable[[Resolver, sx.Call, Shape, Mapping[str, Dim]], WeightSource]
SOURCES: Mapping[str, SourceRule] = {
    "stack": Resolver.stack,
    "transpose": Resolver.transpose,
    "rows": Resolver.rows,
}


def fill(template: sx.String, scope: Scope, loops: Mapping[str, Dim]) -> str:
    """Return a string with its holes filled from static strings; loop variables stay as holes."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in loops:
            return match.group()
        meaning = scope.names.get(name)
        if isinstance(meaning, LayerIndex):
            return f"{{{meaning.variable}}}"
        if isinstance(meaning, str):
            return meaning
        if isinstance(meaning, int) and not isinstance(meaning, bool):
            return str(meaning)
        help_ = did_you_mean(name, [*loops, *scope.names])
        known = "is not bound here" if meaning is None else "is no text, number or loop variable"
        message = f"the hole `{{{name}}}` {known}"
        raise StaticError(Diagnostic("S210", message, template.span, help=help_))

    return _HOLE.sub(replace, template.value)


def tensor_names(source: WeightSource, layer: int | None) -> tuple[str, ...]:
    """Return the names of all tensors that a source reads for one layer, in order; needs known counts."""

    def expand(part: WeightSource, loops: Mapping[str, int]) -> tuple[str, ...]:
        if isinstance(part, TensorRef):
            return (instance(part.name, layer, loops),)
        if part.function == "stack":
            count = part.attrs["count"]
            if not isinstance(count, int):
                raise ValueError(f"stack of {show(count)} tensors: the program is not bound")
            variable = str(part.attrs["variable"])
            rows = (expand(part.parts[0], {**loops, variable: e}) for e in range(count))
            return tuple(name for row in rows for name in row)
        return tuple(name for p in part.parts for name in expand(p, loops))

    return expand(source, {})


def instance(name: str, layer: int | None, loops: Mapping[str, int]) -> str:
    """Return a tensor name with its holes filled; holes that are no loop variable are the layer's."""

    def replace(match: re.Match[str]) -> str:
        hole = match.group(1)
        return str(loops.get(hole, layer))

    return _HOLE.sub(replace, name)
