# SPDX-License-Identifier: Apache-2.0
"""Infer expressions: operations, blocks and arithmetic on tensors.

Operations are applied through their table rows; a block's body is inferred anew at each call, so one block serves every
family. Statements are `dsl.inference.inference`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from dsl.diagnostics import Diagnostic, did_you_mean, near
from dsl.graph import Attr, StateArray
from dsl.inference.calls import Argument, attribute, is_op, match_arguments, operator_op, single
from dsl.inference.graph_builder import GraphBuilder
from dsl.inference.handed import given_by, take_over
from dsl.inference.hints import fitting, meaning_of
from dsl.inference.literals import at_literal
from dsl.inference.origins import origins, partial_since
from dsl.inference.recall import Recall
from dsl.inference.scope import POISON, LayerIndex, Meaning, Poison, Query, Scope, Tensor
from dsl.inference.sightings import Sightings
from dsl.inference.splits import MeshSplit, check_alone
from dsl.linking.binding import KeyUse
from dsl.linking.static import (
    FUNCTIONS,
    Evaluator,
    MeshAxis,
    Path,
    Static,
    StaticError,
    Unknown,
    show,
)
from dsl.ops import OPS
from dsl.ops.spec import Divides, OpSpec, Required, Role, Site, Violation
from dsl.source import Span
from dsl.symbolic import Dim, Poly, TooComplex, symbol, text
from dsl.text import syntax as sx
from dsl.types import DTYPES, Axis, DType, TensorType


@dataclass(slots=True)
class Context:
    """What all parts of one inference share."""

    blocks: Mapping[str, sx.Block]
    path: Path
    generic: bool
    batch: str = "B"
    seq: str = "S"
    context: str = "C"
    facts: set[Divides] = field(default_factory=set)
    uses: tuple[KeyUse, ...] = ()
    held: Container[str] | None = None
    trace: list[Query] = field(default_factory=list)
    stages: list[MeshSplit] = field(default_factory=list)
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    seen: Sightings | None = None
    recall: Recall | None = None

    def note(self, place: Span, meaning: Meaning) -> None:
        """Remember what a place stands for, where somebody wants to know."""
        if self.seen is not None:
            self.seen.add(place, meaning, self.builder)

    def note_all(self, scope: Scope) -> None:
        """Remember what every name of a scope stands for, at the place where it is bound."""
        for name, place in scope.places.items() if self.seen is not None else ():
            self.note(place, scope.names[name])


CallBlock = Callable[[sx.Block, sx.Call, Scope], Meaning]


@dataclass(slots=True)
class Expressions:
    """Infers expressions in a scope; `call_block` infers the body of a block."""

    shared: Context
    call_block: CallBlock

    # Static questions

    def static(self, expr: sx.Expr, scope: Scope) -> Static:
        """Return a static value and remember it where it depends on the layer."""
        return self._ask(expr, scope, self._evaluator(scope).value, False)

    def truth(self, expr: sx.Expr, scope: Scope) -> bool:
        """Return a condition's truth and remember it where it depends on the layer."""
        return bool(self._ask(expr, scope, self._evaluator(scope).truth, True))

    def dim(self, expr: sx.Expr, scope: Scope) -> Dim:
        """Return a size and remember it where it depends on the layer."""
        return self._ask(expr, scope, self._evaluator(scope).dim, False)  # type: ignore[return-value]  # Evaluator.dim returns a Dim

    def evaluator(self, scope: Scope) -> Evaluator:
        """Return an evaluator of static expressions in a scope."""
        return self._evaluator(scope)

    def _evaluator(self, scope: Scope) -> Evaluator:
        return Evaluator(scope.static, self.shared.path, frozenset(self.shared.facts))

    def _ask(
        self,
        expr: sx.Expr,
        scope: Scope,
        answer: Callable[[sx.Expr], Static],
        is_condition: bool,
    ) -> Static:
        scope.touched_layer = False
        try:
            value = answer(expr)
        except TooComplex as error:
            raise StaticError(Diagnostic("S218", f"{error} is too complex", expr.span)) from None
        except StaticError as error:
            raise at_literal(error, scope) from None
        if scope.touched_layer:
            self.shared.trace.append(Query(expr, scope.statics(), value, is_condition))
        return value

    # Types

    def type(self, written: sx.TypeSyntax, scope: Scope) -> TensorType:
        """Return the type that a text declares."""
        dtype = self._dtype(written.dtype, scope)
        axes = tuple(self.axis(axis, scope) for axis in written.axes)
        shards = [s for axis in axes for s in axis.shards]
        if len(set(shards)) != len(shards):
            message = "a mesh axis shards two axes of one tensor"
            raise StaticError(Diagnostic("S304", message, written.span))
        return TensorType(dtype, axes)

    def _dtype(self, name: sx.Name, scope: Scope) -> DType:
        if name.id in DTYPES:
            return DTYPES[name.id]
        meaning = scope.names.get(name.id)
        if isinstance(meaning, DType):
            return meaning
        if isinstance(meaning, Poison):
            raise StaticError(None)
        known = [*DTYPES, *(n for n, m in scope.names.items() if isinstance(m, DType))]
        value = f" but {show(meaning)}" if isinstance(meaning, (str, int, float)) else ""
        message = f"`{name.id}` is no dtype{value}"
        help_ = did_you_mean(name.id, known)
        raise StaticError(Diagnostic("S211", message, name.span, help=help_))

    def axis(self, written: sx.AxisSyntax, scope: Scope) -> Axis:
        """Return an axis that a text declares."""
        size = self.dim(written.size, scope)
        if isinstance(size, int) and size < 1:
            message = f"an axis of size {size}"
            raise StaticError(Diagnostic("S212", message, written.size.span))
        shards = tuple(self.mesh_axis(name, scope) for name in written.shards)
        facts = [Divides(size, symbol(name)) for name in shards]
        self.shared.builder.oblige(facts, written.span)
        return Axis(size, shards)

    def mesh_axis(self, name: sx.Name, scope: Scope) -> str:
        """Return the mesh axis that a name stands for."""
        axes = [n for n, m in scope.names.items() if isinstance(m, MeshAxis)]
        if name.id not in axes:
            help_ = did_you_mean(name.id, axes) or f"the mesh has {', '.join(axes) or 'no axes'}"
            message = f"`{name.id}` is no mesh axis here"
            labels = near(name.id, {n: scope.places[n] for n in axes if n in scope.places})
            raise StaticError(Diagnostic("S303", message, name.span, labels=labels, help=help_))
        return name.id

    # Tensors

    def infer(self, expr: sx.Expr, scope: Scope) -> Meaning:
        """Return what an expression means; raises `StaticError` at its first fault."""
        match expr:
            case sx.Name():
                return self._name(expr, scope)
            case sx.Call(function=function):
                if function.id in self.shared.blocks:
                    return self.call_block(self.shared.blocks[function.id], expr, scope)
                if is_op(function.id) and self._is_tensor(expr, scope):
                    return self.operation(expr, scope)
                if function.id not in FUNCTIONS:
                    names = [*OPS, *self.shared.blocks, *FUNCTIONS]
                    message = f"there is no operation or block `{function.id}`"
                    help_ = did_you_mean(function.id, names)
                    blocks = {n: b.name.span for n, b in self.shared.blocks.items()}
                    labels = near(function.id, blocks)
                    raise StaticError(
                        Diagnostic("S206", message, function.span, labels=labels, help=help_)
                    )
            case sx.Index(name=name) if isinstance(scope.names.get(name.id), StateArray):
                return self._item(expr, scope)
            case sx.Binary(operator=sign) if operator_op(sign) and self._is_tensor(expr, scope):
                return self._arithmetic(expr, scope)
            case sx.Unary(operator="-", operand=operand) if self._is_tensor(expr, scope):
                return self._scaled("multiply", operand, -1.0, expr, scope)
        return self.static(expr, scope)

    def _name(self, expr: sx.Name, scope: Scope) -> Meaning:
        meaning = scope.meaning(expr)
        if isinstance(meaning, Tensor):
            for value in meaning.ids:
                self.shared.builder.use(value)
            return meaning
        return meaning if isinstance(meaning, Poison) else self.static(expr, scope)

    def _item(self, expr: sx.Index, scope: Scope) -> Meaning:
        """Return a state of an array: of this layer where the index is the layer's, else of a fixed index."""
        array = scope.names[expr.name.id]
        if not isinstance(array, StateArray):
            raise TypeError(f"{expr.name.id} is no array")
        at = scope.names.get(expr.index.id) if isinstance(expr.index, sx.Name) else None
        index: Static | None = at.value if isinstance(at, LayerIndex) else None
        if not isinstance(at, LayerIndex):
            index = self.static(expr.index, scope)
        if isinstance(index, (int, Poly)) and not isinstance(index, bool):
            if isinstance(index, int) and isinstance(array.count, int) and index >= array.count:
                message = f"item {index} of {text(array.count)} states `{array.name}`"
                raise StaticError(Diagnostic("S207", message, expr.span))
        elif index is not None and not isinstance(index, Unknown):
            message = f"the index is {show(index)}; a whole number is needed"
            raise StaticError(Diagnostic("S207", message, expr.index.span))
        fixed = index if isinstance(index, int) and not isinstance(at, LayerIndex) else None
        return Tensor((self.shared.builder.item(array, fixed, expr.span),))

    def _is_tensor(self, expr: sx.Expr, scope: Scope) -> bool:
        match expr:
            case sx.Name(id=name):
                return isinstance(scope.names.get(name), (Tensor, Poison))
            case sx.Call(function=function, arguments=arguments):
                # The square root of a number is a number, of a tensor a tensor.
                return function.id not in FUNCTIONS or (
                    is_op(function.id) and any(self._is_tensor(a, scope) for a in arguments)
                )
            case sx.Binary(left=left, right=right):
                return self._is_tensor(left, scope) or self._is_tensor(right, scope)
            case sx.Unary(operand=operand):
                return self._is_tensor(operand, scope)
        return False

    def _arithmetic(self, expr: sx.Binary, scope: Scope) -> Meaning:
        op = operator_op(expr.operator)
        if op is None:
            raise ValueError(f"`{expr.operator}` is no operation")
        left_is, right_is = self._is_tensor(expr.left, scope), self._is_tensor(expr.right, scope)
        if left_is and right_is:
            name = sx.Name(expr.operator_span, op)
            return self.operation(sx.Call(expr.span, name, (expr.left, expr.right), ()), scope)
        tensor, number = (expr.left, expr.right) if left_is else (expr.right, expr.left)
        scalar = self.static(number, scope)
        if isinstance(scalar, bool) or not isinstance(scalar, (int, float, Unknown)):
            message = f"`{expr.operator}` of a tensor and {show(scalar)}"
            raise at_literal(StaticError(Diagnostic("S207", message, number.span)), scope)
        factor = scalar if isinstance(scalar, Unknown) else float(scalar)
        return self._scaled(op, tensor, factor, expr, scope, reverse=not left_is)

    def _scaled(
        self,
        op: str,
        operand: sx.Expr,
        scalar: float | Unknown,
        expr: sx.Expr,
        scope: Scope,
        reverse: bool = False,
    ) -> Meaning:
        spec = OPS[op]
        value = single(self.infer(operand, scope), operand)
        if isinstance(value, Poison):
            return POISON
        argument = {"x": Argument(spec.params[0], (operand,))}
        attrs: dict[str, Attr | Unknown] = {"scalar": scalar, "reverse": reverse}
        return self._apply(spec, expr, argument, {"x": (value,)}, attrs, scope)

    def operation(self, call: sx.Call, scope: Scope) -> Meaning:
        """Return the results of an operation."""
        spec = OPS[call.function.id]
        arguments = match_arguments(spec, call)
        values: dict[str, tuple[int, ...]] = {}
        attrs: dict[str, Attr | Unknown] = {}
        poisoned = False
        for name, argument in arguments.items():
            if not argument.param.role.is_value:
                attrs[name] = self._attribute(argument, scope)
                continue
            parts = [single(self.infer(e, scope), e) for e in argument.exprs]
            poisoned = poisoned or any(isinstance(v, Poison) for v in parts)
            values[name] = tuple(v for v in parts if not isinstance(v, Poison))
        if poisoned:
            return POISON
        return self._apply(spec, call, arguments, values, attrs, scope)

    def _attribute(self, argument: Argument, scope: Scope) -> Attr | Unknown:
        given = [(e, self.static(e, scope)) for e in argument.exprs]
        context = self.shared.context
        try:
            values = [attribute(argument.param, e, value, context) for e, value in given]
        except StaticError as error:
            raise at_literal(error, scope) from None
        if argument.param.variadic:
            return tuple(values)  # type: ignore[arg-type]  # dims and mesh axes are never Unknown
        return values[0]

    def _apply(
        self,
        spec: OpSpec,
        call: sx.Expr,
        arguments: Mapping[str, Argument],
        values: Mapping[str, tuple[int, ...]],
        attrs: dict[str, Attr | Unknown],
        scope: Scope,
    ) -> Meaning:
        builder = self.shared.builder
        self._check_states(spec, arguments, values)
        self._check_partial(spec, arguments, values)
        operands = [v for ids in values.values() for v in ids]
        take_over(spec, operands, attrs, builder.handed, call.span)
        for param in spec.params:
            is_attr = not param.role.is_value and param.name not in attrs
            if is_attr and param.default is not None and not isinstance(param.default, Required):
                attrs[param.name] = param.default
        site = self._site(spec, values, attrs)
        check_alone(spec, map(builder.type_of, operands), self.shared.batch, call.span)
        try:
            types = spec.infer(site)
        except Violation as violation:
            raise StaticError(
                self._violation(violation, spec, call, arguments, values, site, scope)
            ) from None
        except TooComplex as error:
            raise StaticError(Diagnostic("S218", f"{error} is too complex", call.span)) from None
        builder.oblige(site.obligations, call.span)
        inputs = tuple(v for p in spec.params for v in values.get(p.name, ()))
        plain = {k: _plain(v) for k, v in attrs.items()}
        names = tuple(p.name for p in spec.params for _ in values.get(p.name, ()))
        made = builder.node(spec.name, inputs, types, plain, call.span, names)
        if spec.keeps_axes:
            builder.keepers.update(made)
        if spec.hands:
            builder.handed |= dict.fromkeys(made, given_by(spec, attrs))
        self.shared.note(call.span, Tensor(made))
        return Tensor(made)

    def _site(
        self,
        spec: OpSpec,
        values: Mapping[str, tuple[int, ...]],
        attrs: Mapping[str, Attr | Unknown],
    ) -> Site:
        shared, variadic = self.shared, {p.name for p in spec.params if p.variadic}
        types = {
            name: tuple(shared.builder.type_of(i) for i in ids)
            if name in variadic
            else shared.builder.type_of(ids[0])
            for name, ids in values.items()
        }
        plain = {k: _plain(v) for k, v in attrs.items()}
        facts = frozenset(shared.facts)
        return Site(spec.name, types, plain, facts, shared.batch, shared.seq, shared.context, [])

    def _check_states(
        self,
        spec: OpSpec,
        arguments: Mapping[str, Argument],
        values: Mapping[str, tuple[int, ...]],
    ) -> None:
        builder = self.shared.builder
        for name, argument in arguments.items():
            for value, expr in zip(values.get(name, ()), argument.exprs, strict=False):
                wanted = argument.param.role in (Role.STATE, Role.STATE_READ)
                if wanted and not builder.is_state(value):
                    raise StaticError(self._no_state(value, expr))
                if not wanted and builder.is_state(value):
                    message = (
                        f"the state `{builder.values[value].name}` is read without its new entries"
                    )
                    help_ = "append(state, new) gives both; read(state) reads a state of fixed size"
                    raise StaticError(Diagnostic("S214", message, expr.span, help=help_))
                if argument.param.role is Role.STATE:
                    builder.write(value, expr.span)

    def _no_state(self, value: int, expr: sx.Expr) -> Diagnostic:
        given = self.shared.builder.values[value]
        states = ", ".join(f"`{s.name}`" for s in self.shared.builder.frame.states)
        help_ = (
            f"the states of this body are {states}" if states else "declare a state in this body"
        )
        message = f"a state of this body is needed; `{expr.span.text}` is {given.type}"
        return Diagnostic("S214", message, expr.span, help=help_)

    def _check_partial(
        self,
        spec: OpSpec,
        arguments: Mapping[str, Argument],
        values: Mapping[str, tuple[int, ...]],
    ) -> None:
        if spec.linear:
            return
        for name, argument in arguments.items():
            for value, expr in zip(values.get(name, ()), argument.exprs, strict=False):
                self.complete(value, expr)

    def complete(self, value: int, expr: sx.Expr) -> None:
        """Refuse a partial sum where a complete value is needed."""
        type_ = self.shared.builder.type_of(value)
        if type_.partial:
            axes = ", ".join(sorted(type_.partial))
            message = f"a partial sum over {axes} is used before it is complete"
            help_ = f"all_reduce(…, {axes}) completes it"
            labels = partial_since(self.shared.builder, value, expr.span)
            shown = Diagnostic("S301", message, expr.span, str(type_), labels=labels, help=help_)
            raise StaticError(shown)

    def _violation(
        self,
        violation: Violation,
        spec: OpSpec,
        call: sx.Expr,
        arguments: Mapping[str, Argument],
        values: Mapping[str, tuple[int, ...]],
        site: Site,
        scope: Scope,
    ) -> Diagnostic:
        builder = self.shared.builder
        at = arguments.get(violation.at)
        span = at.exprs[0].span if at else call.span
        number = int(violation.constraint.rsplit("_c", 1)[1])
        first = [*values.get(violation.at, ())]
        others = [i for name, ids in values.items() if name != violation.at for i in ids]
        labels = origins(builder, first + others, (), span)
        help_ = violation.help or fitting(builder, violation.at, spec, arguments, site, scope)
        rule = f"{spec.name} needs: {spec.constraints[number - 1]}"
        places = (call.span, *(label.span for label in labels))
        return Diagnostic(
            violation.code,
            f"{spec.name}: {violation.message}",
            span,
            labels=labels,
            notes=(rule, *self.meaning_of(violation.message, scope, *places)),
            help=help_,
            constraint=violation.constraint,
        )

    def meaning_of(self, message: str, scope: Scope, *places: Span) -> tuple[str, ...]:
        """Return a note with the values of the scalars and dimensions that a message and its places name."""
        return meaning_of(self.shared.uses, message, scope, *places)


def _plain(value: Attr | Unknown) -> Attr:
    return symbol(value.text) if isinstance(value, Unknown) else value
