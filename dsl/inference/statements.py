# SPDX-License-Identifier: Apache-2.0
"""Infer statements: bind names in a scope, add weights, states and operations to the graph.

Expressions, blocks and layers have their own modules; what a whole family is made of is `dsl.inference.inference`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dsl.diagnostics import Diagnostic, Label, counted
from dsl.graph import Output, StateArray, Unneeded
from dsl.inference.blocks import Blocks, fits
from dsl.inference.calls import single
from dsl.inference.expressions import Context, Expressions
from dsl.inference.layers import Layers, poison_carry
from dsl.inference.origins import origins
from dsl.inference.resolver import Resolver, fill
from dsl.inference.scope import POISON, Meaning, Poison, Scope, Tensor
from dsl.inference.sources import SOURCES
from dsl.linking.binding import divisibility
from dsl.linking.static import StaticError
from dsl.text import syntax as sx
from dsl.text.outline import mentioned, names


class Statements:
    """Infers the statements of one program along one path."""

    def __init__(self, shared: Context) -> None:
        self.shared = shared
        self.builder = shared.builder
        self.expressions = Expressions(shared, self._call_block)
        self.blocks = Blocks(shared, {}, self._run_block_body)
        self.layers = Layers(shared, self.expressions, self._layer_body)
        self.inputs: list[int] = []
        self.outputs: list[Output] = []
        self.unfit = False

    def run(self, statements: Sequence[sx.Statement], scope: Scope) -> sx.Return | None:
        """Infer statements in order; returns the `return` that ended them, if any."""
        for at, statement in enumerate(statements):
            returned = self._statement(statement, scope)
            if returned is not None:
                if isinstance(statement, sx.Return) and at + 1 < len(statements):
                    self._misplaced("no statement follows `return`", statements[at + 1])
                return returned
        return None

    def _outermost(self, message: str, statement: sx.Statement) -> None:
        if self.layers.depth or self.blocks.stack:
            raise StaticError(Diagnostic("S222", message, statement.span))

    def _misplaced(self, message: str, statement: sx.Statement) -> None:
        self.builder.report(Diagnostic("S222", message, statement.span))

    def _statement(self, statement: sx.Statement, scope: Scope) -> sx.Return | None:
        self.shared.path.spend(statement.span, len(self.builder.diagnostics))
        match statement:
            case sx.Return() if self.blocks.stack:
                return statement
            case sx.Return():
                self._misplaced("`return` ends a block; a family has outputs", statement)
            case sx.If():
                return self._if(statement, scope)
            case sx.Input():
                self._declare(statement.name, scope, lambda: self._input(statement, scope))
            case sx.WeightSyntax():
                self._declare(statement.name, scope, lambda: self._weight(statement, scope))
            case sx.Unused():
                self.guard(lambda: self._unused(statement, scope))
            case sx.StateSyntax():
                self._declare(statement.name, scope, lambda: self._state(statement, scope))
            case sx.Assign():
                self._assign(statement, scope)
            case sx.OutputSyntax():
                self.guard(lambda: self._output(statement, scope))
            case sx.Require():
                self.guard(lambda: self._require(statement, scope))
                if self.unfit:
                    raise StaticError(None)
            case sx.RepeatSyntax():
                self.guard(lambda: self._repeat(statement, scope))
        return None

    def guard(self, action: Callable[[], object]) -> bool:
        """Run an action; report its diagnostic and tell whether it succeeded."""
        try:
            action()
        except StaticError as error:
            self.builder.report(error.diagnostic)
            return False
        return True

    def _declare(self, name: sx.Name, scope: Scope, make: Callable[[], Meaning]) -> None:
        if name.id in scope.names:
            self.fresh(name, scope)
            return
        scope.bind(name.id, POISON, name.span)
        self.guard(lambda: scope.bind(name.id, make(), name.span))
        self.shared.note(name.span, scope.names[name.id])

    def _input(self, statement: sx.Input, scope: Scope) -> Meaning:
        self._outermost("an input belongs to the family, outside of repeat and blocks", statement)
        type_ = self.expressions.type(statement.type, scope)
        value = self.builder.value(statement.name.id, type_, statement.span)
        self.builder.expect_use(value, statement.name.id, statement.name.span, "input")
        self.inputs.append(value)
        return Tensor((value,))

    def _weight(self, statement: sx.WeightSyntax, scope: Scope) -> Meaning:
        type_ = self.expressions.type(statement.type, scope)
        evaluator = self.expressions.evaluator(scope)
        shared = self.shared
        resolver = Resolver(
            SOURCES, scope, evaluator, type_.dims, shared.held, shared.trace, self.layers.variable
        )
        source = resolver.resolve(statement.source)
        value = self.builder.weight(statement.name.id, type_, source, statement.span)
        self.builder.expect_use(value, statement.name.id, statement.name.span, "weight")
        return Tensor((value,))

    def _unused(self, statement: sx.Unused, scope: Scope) -> None:
        reason = statement.reason
        if not reason.value.strip():
            message = "tensors are left for a reason: say why the program does not need them"
            raise StaticError(Diagnostic("S208", message, reason.span))
        for pattern in statement.patterns:
            name = fill(pattern, scope, {})
            if not name.strip("*."):
                message = "this is every tensor; a checkpoint's forgotten ones would go unseen"
                raise StaticError(Diagnostic("S208", message, pattern.span))
            self.builder.unneeded[name] = Unneeded(name, reason.value)

    def _state(self, statement: sx.StateSyntax, scope: Scope) -> Meaning:
        type_ = self.expressions.type(statement.type, scope)
        if statement.count is not None:
            self._outermost("an array of states belongs to the family", statement)
            count = self.expressions.dim(statement.count, scope)
            array = StateArray(statement.name.id, count, type_, statement.span)
            self.builder.arrays[array.name] = array
            return array
        return Tensor((self.builder.state(statement.name.id, type_, statement.span),))

    def _assign(self, statement: sx.Assign, scope: Scope) -> None:
        meanings: list[Meaning] = [POISON] * len(statement.targets)
        try:
            value = self.expressions.infer(statement.value, scope)
            meanings = self._spread(statement, value)
        except StaticError as error:
            self.builder.report(error.diagnostic)
        for target, meaning in zip(statement.targets, meanings, strict=True):
            self.guard(partial(self._bind, target, meaning, scope))

    def _spread(self, statement: sx.Assign, value: Meaning) -> list[Meaning]:
        targets = statement.targets
        if isinstance(value, Poison):
            return [POISON] * len(targets)
        if isinstance(value, Tensor) and len(value.ids) == len(targets):
            return [Tensor((i,)) for i in value.ids]
        if not isinstance(value, Tensor) and len(targets) == 1:
            return [value]
        count = len(value.ids) if isinstance(value, Tensor) else 1
        values = "1 value is" if count == 1 else f"{count} values are"
        message = f"{values} assigned to {counted(len(targets), 'name')}"
        raise StaticError(Diagnostic("S205", message, statement.span))

    def _bind(self, target: sx.Name, meaning: Meaning, scope: Scope) -> None:
        name, old = target.id, scope.names.get(target.id)
        if name in scope.outer and name not in scope.carried:
            labels = (
                (Label(scope.places[name], "bound here, outside"),) if name in scope.places else ()
            )
            help_ = f"carry {', '.join([*sorted(scope.carried), name])}"
            message = f"`{name}` comes from outside of repeat and is not carried"
            raise StaticError(Diagnostic("S223", message, target.span, labels=labels, help=help_))
        if old is not None and not isinstance(old, (Tensor, Poison)):
            self.fresh(target, scope)
            return
        scope.bind(name, meaning, target.span)
        self.shared.note(target.span, meaning)
        if isinstance(meaning, Tensor):
            self.builder.rename(meaning.ids[0], name)
            self.builder.expect_use(meaning.ids[0], name, target.span, "value")

    def _output(self, statement: sx.OutputSyntax, scope: Scope) -> None:
        name = statement.name.id
        self._outermost("an output belongs to the family, outside of repeat and blocks", statement)
        for first in (o for o in self.outputs if o.name == name):
            message = f"a second output `{name}`"
            other = (Label(first.span, "the first"),)
            raise StaticError(Diagnostic("S202", message, statement.name.span, labels=other))
        value = single(self.expressions.infer(statement.value, scope), statement.value)
        declared = self.expressions.type(statement.type, scope)
        type_ = declared
        if isinstance(value, Poison):
            value = -1
        else:
            self.expressions.complete(value, statement.value)
            type_ = self.builder.type_of(value)
        self.outputs.append(Output(name, value, declared, statement.span))
        if not fits(declared, type_):
            made = (value,) if value >= 0 else ()
            behind = origins(self.builder, made, (declared,), statement.value.span)
            labels = (Label(statement.type.span, "declared here"), *behind)
            message = f"the output is {type_}; {declared} is declared"
            place = statement.value.span
            notes = self.expressions.meaning_of(message, scope, statement.span)
            raise StaticError(Diagnostic("S213", message, place, labels=labels, notes=notes))

    def _require(self, statement: sx.Require, scope: Scope) -> None:
        for name in names(statement.condition):
            scope.static(name)
        if self.shared.generic:
            fact = divisibility(statement.condition, self.expressions.evaluator(scope))
            if fact is not None:
                self.shared.facts.add(fact)
            return
        if not self.expressions.truth(statement.condition, scope):
            self.unfit = True
            shown = statement.condition.span.text
            message = f"`{shown}` does not hold"
            notes = self.expressions.meaning_of(shown, scope)
            raise StaticError(Diagnostic("S403", message, statement.span, notes=notes))

    def _if(self, statement: sx.If, scope: Scope) -> sx.Return | None:
        try:
            chosen = self.expressions.truth(statement.condition, scope)
        except StaticError as error:
            self.builder.report(error.diagnostic)
            self._poison((*statement.then, *statement.orelse), scope)
            return None
        taken, other = statement.then, statement.orelse
        if not chosen:
            taken, other = other, taken
        for name in mentioned(other):
            meaning = scope.names.get(name)
            self.builder.spare(meaning.ids if isinstance(meaning, Tensor) else ())
        return self.run(taken, scope)

    def _poison(self, statements: Sequence[sx.Statement], scope: Scope) -> None:
        """Silence what statements would have bound that could not be inferred."""
        for statement in statements:
            match statement:
                case sx.Assign(targets=targets):
                    names: tuple[sx.Name, ...] = targets
                case sx.WeightSyntax(name=name) | sx.StateSyntax(name=name) | sx.Input(name=name):
                    names = (name,)
                case sx.RepeatSyntax(carry=carry):
                    names = carry
                case sx.If(then=then, orelse=orelse):
                    self._poison((*then, *orelse), scope)
                    continue
                case _:
                    continue
            for target in names:
                scope.bind(target.id, POISON, target.span)

    # Blocks

    def _call_block(self, block: sx.Block, call: sx.Call, caller: Scope) -> Meaning:
        meaning = self.blocks.call(block, call, caller, self.expressions)
        self.shared.note(call.span, meaning)
        return meaning

    def _run_block_body(
        self, body: tuple[sx.Statement, ...], scope: Scope
    ) -> tuple[sx.Return, Scope] | None:
        before = len(self.builder.diagnostics)
        returned = self.run(body, scope)
        if returned is not None:
            return returned, scope
        if len(self.builder.diagnostics) == before:
            name = self.blocks.stack[-1]
            block = self.shared.blocks.get(name)
            span = block.name.span if block else None
            self.builder.report(Diagnostic("S220", f"block `{name}` returns nothing", span))
        return None

    # Layers

    def _layer_body(self, body: tuple[sx.Statement, ...], scope: Scope) -> None:
        if not self.guard(lambda: self.run(body, scope)):
            self._poison(body, scope)

    def _repeat(self, statement: sx.RepeatSyntax, scope: Scope) -> None:
        try:
            self._outermost("repeat stands in the family, outside of repeat and blocks", statement)
            self.fresh(statement.variable, scope)
            self.layers.repeat(statement, scope)
        except StaticError:
            poison_carry(statement, scope)
            raise

    # Names

    def fresh(self, name: sx.Name, scope: Scope) -> None:
        """Report a name that has a meaning already."""
        if name.id in scope.names:
            place = scope.places.get(name.id)
            labels = (Label(place, "bound here"),) if place else ()
            message = f"`{name.id}` has a meaning already"
            self.builder.report(Diagnostic("S202", message, name.span, labels=labels))
            scope.bind(name.id, POISON, name.span)
