# SPDX-License-Identifier: Apache-2.0
"""Call blocks: match arguments with parameters, bind dimensions by use, and check the results' types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from dsl.diagnostics import Diagnostic, Label, counted, did_you_mean
from dsl.graph import StateArray
from dsl.inference.calls import single
from dsl.inference.expressions import Context, Expressions
from dsl.inference.graph_builder import GraphBuilder
from dsl.inference.literals import at_literal
from dsl.inference.origins import origins
from dsl.inference.recall import key_of
from dsl.inference.resolver import fill
from dsl.inference.scope import POISON, LayerIndex, Meaning, Poison, Scope, Tensor
from dsl.linking.static import MeshAxis, Static, StaticError, Unknown, show
from dsl.symbolic import Poly, equal, symbol
from dsl.text import syntax as sx
from dsl.types import DTYPES, DType, TensorType

MAX_CALL_DEPTH = 16

_KINDS: dict[str, Callable[[Static], bool]] = {
    "dim": lambda v: isinstance(v, (int, Poly)) and not isinstance(v, bool),
    "int": lambda v: isinstance(v, (int, Poly)) and not isinstance(v, bool),
    "float": lambda v: isinstance(v, (int, float, Poly)) and not isinstance(v, bool),
    "bool": lambda v: isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "dtype": lambda v: isinstance(v, DType),
}

_NO_STATIC = (Tensor, Poison, LayerIndex, StateArray)

RunBody = Callable[[tuple[sx.Statement, ...], Scope], "tuple[sx.Return, Scope] | None"]


@dataclass(slots=True)
class Blocks:
    """Infers calls of blocks; `run` infers a block's statements and returns its `return`."""

    shared: Context
    globals: dict[str, Meaning]
    run: RunBody
    stack: tuple[str, ...] = ()

    def call(
        self, block: sx.Block, call: sx.Call, caller: Scope, expressions: Expressions
    ) -> Meaning:
        """Return the results of a block's call."""
        name = block.name.id
        if name in self.stack:
            raise StaticError(Diagnostic("S206", f"block `{name}` calls itself", call.span))
        if len(self.stack) >= MAX_CALL_DEPTH:
            message = f"block `{name}` is called {MAX_CALL_DEPTH} blocks deep; no more is followed"
            raise StaticError(Diagnostic("S206", message, call.span))
        given = self._given(block, call)
        recall = self.shared.recall
        if recall is None or caller.current_layer() is not None:
            return self._enter(block, call, given, {}, caller, expressions)
        known = self._evaluated(block, given, caller, expressions)
        builder, path, facts = self.shared.builder, self.shared.path, self.shared.facts
        gone_in = key_of(name, self.stack, known.items(), facts, builder)
        if gone_in is None:
            return self._enter(block, call, given, known, caller, expressions)
        key, values = gone_in
        made: Meaning | None = recall.replay(key, values, builder, path, facts, call.span)
        if made is None:
            before = recall.begin(values, builder, path, facts)
            made = self._enter(block, call, given, known, caller, expressions)
            recall.keep(key, values, made, before, builder, path, facts)
        return made

    def _evaluated(
        self,
        block: sx.Block,
        given: Mapping[str, sx.Expr],
        caller: Scope,
        expressions: Expressions,
    ) -> dict[str, Meaning]:
        """Return what the arguments mean, in the order of the parameters."""
        kinds = ((p.name.id, p.kind) for p in block.params if p.name.id in given)
        return {
            name: expressions.infer(given[name], caller)
            if isinstance(kind, sx.TypeSyntax)
            else self._argument(given[name], caller, expressions)
            for name, kind in kinds
        }

    def _enter(
        self,
        block: sx.Block,
        call: sx.Call,
        given: dict[str, sx.Expr],
        known: Mapping[str, Meaning],
        caller: Scope,
        expressions: Expressions,
    ) -> Meaning:
        """Bind the parameters and infer the body; arguments that are not `known` are evaluated in their turn."""
        for diagnostic in faulty_parameters(block):
            raise StaticError(diagnostic)
        scope = Scope(dict(self.globals), layer=caller.current_layer())
        poisoned = False
        for param in block.params:
            name = param.name.id
            expr = given.get(name)
            if isinstance(param.kind, sx.TypeSyntax):
                if expr is None:
                    raise StaticError(self._missing(block, call, param))
                meaning = known[name] if name in known else expressions.infer(expr, caller)
                poisoned = poisoned or isinstance(meaning, Poison)
                self._tensor(param, param.kind, expr, meaning, scope)
            else:
                value = known.get(name)
                static = None if isinstance(value, _NO_STATIC) else value
                self._scalar(block, call, param, expr, static, caller, scope, expressions)
        self._verify(block, given, scope, expressions)
        if poisoned:
            return POISON
        return self.results(block, call, scope, expressions)

    def _given(self, block: sx.Block, call: sx.Call) -> dict[str, sx.Expr]:
        names = [p.name.id for p in block.params]
        if len(call.arguments) > len(names):
            extra = call.arguments[len(names)]
            message = f"block `{block.name.id}` takes {counted(len(names), 'argument')}"
            raise StaticError(Diagnostic("S204", message, extra.span))
        given = dict(zip(names, call.arguments, strict=False))
        for keyword in call.keywords:
            name = keyword.name.id
            if name not in names or name in given:
                what = "gets twice" if name in given else "has no parameter"
                help_ = "" if name in given else did_you_mean(name, names)
                message = f"block `{block.name.id}` {what} `{name}`"
                raise StaticError(Diagnostic("S204", message, keyword.name.span, help=help_))
            given[name] = keyword.value
        return given

    def _missing(self, block: sx.Block, call: sx.Call, param: sx.Param) -> Diagnostic:
        message = f"block `{block.name.id}` needs `{param.name.id}`"
        return Diagnostic("S204", message, call.span, labels=(Label(param.span, "declared here"),))

    def _scalar(
        self,
        block: sx.Block,
        call: sx.Call,
        param: sx.Param,
        expr: sx.Expr | None,
        known: Static | None,
        caller: Scope,
        scope: Scope,
        expressions: Expressions,
    ) -> None:
        kind = param.kind.id if isinstance(param.kind, sx.Name) else ""
        if expr is None and param.default is None:
            raise StaticError(self._missing(block, call, param))
        if expr is not None:
            value = self._argument(expr, caller, expressions) if known is None else known
        elif param.default is not None:
            value = expressions.static(param.default, scope)
        if kind == "dtype" and isinstance(value, str):
            value = DTYPES.get(value, value)
        if not isinstance(value, Unknown) and not _KINDS[kind](value):
            where = (expr or param).span
            message = f"`{param.name.id}` is {show(value)}; a {kind} is needed"
            raise at_literal(StaticError(Diagnostic("S207", message, where)), caller)
        if isinstance(expr, sx.Name) and expr.id in caller.literals:
            scope.literals = {**scope.literals, param.name.id: caller.literals[expr.id]}
        scope.bind(param.name.id, value, param.name.span)

    @staticmethod
    def _argument(expr: sx.Expr, caller: Scope, expressions: Expressions) -> Static:
        if not isinstance(expr, sx.String):
            return expressions.static(expr, caller)
        return fill(expr, caller, {})

    def _tensor(
        self,
        param: sx.Param,
        kind: sx.TypeSyntax,
        expr: sx.Expr,
        meaning: Meaning,
        scope: Scope,
    ) -> None:
        """Bind a tensor and the names that its declared type mentions for the first time."""
        value = single(meaning, expr)
        if isinstance(value, Poison):
            self._poison_names(kind, scope)
            scope.bind(param.name.id, POISON, param.name.span)
            return
        actual = self.shared.builder.type_of(value)
        if actual.rank != len(kind.axes):
            raise StaticError(_mismatch(self.shared.builder, value, param, kind, expr, actual))
        if kind.dtype.id not in DTYPES:
            scope.names.setdefault(kind.dtype.id, actual.dtype)
        for axis, written in zip(actual.axes, kind.axes, strict=True):
            if isinstance(written.size, sx.Name):
                scope.names.setdefault(written.size.id, axis.dim)
                scope.places.setdefault(written.size.id, written.span)
        scope.bind(param.name.id, Tensor((value,)), param.name.span)

    @staticmethod
    def _poison_names(kind: sx.TypeSyntax, scope: Scope) -> None:
        for name in (kind.dtype, *(a.size for a in kind.axes)):
            if isinstance(name, sx.Name) and name.id not in DTYPES:
                scope.names.setdefault(name.id, POISON)

    def _verify(
        self,
        block: sx.Block,
        given: dict[str, sx.Expr],
        scope: Scope,
        expressions: Expressions,
    ) -> None:
        for param in block.params:
            meaning = scope.names[param.name.id]
            if not isinstance(param.kind, sx.TypeSyntax) or not isinstance(meaning, Tensor):
                continue
            declared = expressions.type(param.kind, scope)
            actual = self.shared.builder.type_of(meaning.ids[0])
            if not fits(declared, actual):
                expr = given[param.name.id]
                value = meaning.ids[0]
                mismatch = _mismatch(
                    self.shared.builder, value, param, param.kind, expr, actual, declared
                )
                notes = expressions.meaning_of(mismatch.message, scope, param.span)
                raise StaticError(replace(mismatch, notes=notes))

    def results(
        self, block: sx.Block, call: sx.Call, scope: Scope, expressions: Expressions
    ) -> Meaning:
        """Infer a block's body in a scope that holds its parameters, and check what it returns."""
        builder = self.shared.builder
        outer_path, self.stack = builder.path, (*self.stack, block.name.id)
        builder.path = (*builder.path, block.name.id)
        try:
            returned = self.run(block.body, scope)
            if returned is None:
                return POISON
            statement, inner = returned
            return self._checked(block, statement, inner, expressions)
        finally:
            builder.path, self.stack = outer_path, self.stack[:-1]

    def _checked(
        self, block: sx.Block, statement: sx.Return, scope: Scope, expressions: Expressions
    ) -> Meaning:
        if len(statement.values) != len(block.results):
            declared_results = counted(len(block.results), "result")
            message = f"block `{block.name.id}` declares {declared_results}, returns {len(statement.values)}"
            raise StaticError(Diagnostic("S205", message, statement.span))
        ids: list[int] = []
        for expr, written in zip(statement.values, block.results, strict=True):
            value = single(expressions.infer(expr, scope), expr)
            if isinstance(value, Poison):
                return POISON
            actual, declared = self.shared.builder.type_of(value), expressions.type(written, scope)
            expressions.complete(value, expr)
            if not fits(declared, actual):
                message = f"block `{block.name.id}` declares {declared}, returns {actual}"
                behind = origins(self.shared.builder, (value,), (declared,), expr.span)
                labels = (Label(written.span, "declared here"), *behind)
                notes = expressions.meaning_of(message, scope, written.span)
                raise StaticError(
                    Diagnostic("S213", message, expr.span, labels=labels, notes=notes)
                )
            ids.append(value)
        return Tensor(tuple(ids))


def fits(declared: TensorType, actual: TensorType) -> bool:
    """Tell whether a value of one type may stand where another is declared: they must be equal."""
    return (
        declared.dtype == actual.dtype
        and declared.rank == actual.rank
        and declared.partial == actual.partial
        and all(
            equal(a.dim, b.dim) and a.shards == b.shards
            for a, b in zip(declared.axes, actual.axes, strict=True)
        )
    )


def _mismatch(
    builder: GraphBuilder,
    value: int,
    param: sx.Param,
    kind: sx.TypeSyntax,
    expr: sx.Expr,
    actual: TensorType,
    declared: TensorType | None = None,
) -> Diagnostic:
    shown = kind.span.text if declared is None else str(declared)
    message = f"`{param.name.id}` is {actual}; {shown} is declared"
    labels = (Label(param.span, "declared here"),)
    types = () if declared is None else (declared,)
    made = origins(builder, (value,), types, expr.span)
    return Diagnostic("S213", message, expr.span, labels=(*labels, *made))


def faulty_parameters(block: sx.Block) -> Iterator[Diagnostic]:
    """Yield what is wrong with a block's parameters as they are written: kinds, and misspelt dtypes."""
    for param in block.params:
        kind = param.kind
        if isinstance(kind, sx.Name):
            if kind.id not in _KINDS:
                help_ = did_you_mean(kind.id, _KINDS) or f"kinds are {', '.join(_KINDS)}"
                message = f"`{kind.id}` is no kind of parameter"
                yield Diagnostic("S211", message, kind.span, help=help_)
        elif kind.dtype.id not in DTYPES and (help_ := did_you_mean(kind.dtype.id, DTYPES)):
            # Any other name stands for the argument's dtype; one so close to a dtype was meant to be it.
            message = f"`{kind.dtype.id}` is no dtype"
            yield Diagnostic("S211", message, kind.dtype.span, help=help_)


def symbolic_arguments(block: sx.Block, shared: Context, scope: Scope, mesh: list[str]) -> None:
    """Bind a block's parameters to free symbols, so that it is checked without a caller."""
    for name in mesh:
        scope.names.setdefault(name, MeshAxis(name, None))
    for param in block.params:
        if isinstance(param.kind, sx.Name):
            scope.bind(param.name.id, _free(param, param.kind.id), param.name.span)
            continue
        for axis in param.kind.axes:
            if isinstance(axis.size, sx.Name):
                scope.names.setdefault(axis.size.id, symbol(axis.size.id))
                scope.places.setdefault(axis.size.id, axis.span)
        if param.kind.dtype.id not in DTYPES:
            scope.names.setdefault(param.kind.dtype.id, DTYPES["bf16"])


def _free(param: sx.Param, kind: str) -> Static:
    name = param.name.id
    if kind in ("dim", "int"):
        return symbol(name)
    return Unknown(name)
