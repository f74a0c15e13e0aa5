# SPDX-License-Identifier: Apache-2.0
"""Infer `repeat`: one body per layer class, and what crosses the boundary of a layer.

Layers belong to one class when every static question that their bodies ask has the same answer, so a body is inferred
once per class and the other layers only answer its questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic
from dsl.graph import LayerClass, Repeat, StateArray
from dsl.inference.blocks import fits
from dsl.inference.calls import single
from dsl.inference.expressions import Context, Expressions
from dsl.inference.graph_builder import Frame
from dsl.inference.handed import keep
from dsl.inference.scope import POISON, LayerIndex, Poison, Query, Scope, Tensor
from dsl.inference.splits import MeshSplit
from dsl.linking.static import Evaluator, Static, StaticError
from dsl.source import Span
from dsl.symbolic import Dim
from dsl.text import syntax as sx

MAX_LAYERS = 4096
MAX_CLASSES = 256
MAX_UNROLLED = 100_000
"""Eight times those of the deepest models: each becomes an operation when the program is run or timed."""

Run = Callable[[tuple[sx.Statement, ...], Scope], object]


@dataclass(frozen=True, slots=True)
class _Layer:
    frame: Frame
    entering: tuple[int, ...]
    leaving: tuple[int, ...]
    trace: list[Query]

    def layer_class(self, layers: tuple[int, ...]) -> LayerClass:
        return LayerClass(self.frame.body(), self.entering, self.leaving, layers)


@dataclass(slots=True)
class Layers:
    """Infers the layers of a family; `run` infers a body's statements."""

    shared: Context
    expressions: Expressions
    run: Run
    depth: int = 0
    variable: str = ""
    """Of the `repeat` that is being inferred, if any."""

    def repeat(self, statement: sx.RepeatSyntax, scope: Scope) -> None:
        """Infer one `repeat` and bind what leaves its last layer."""
        initial = self._carried(statement, scope)
        count = self.expressions.dim(statement.count, scope)
        stages = self._stages(statement, count, scope)
        if isinstance(count, int) and count > MAX_LAYERS:
            message = f"{count} layers; the limit is {MAX_LAYERS}"
            raise StaticError(Diagnostic("S218", message, statement.count.span))
        if isinstance(count, int) and count < 0:
            message = f"a number of layers is needed; this is {count}"
            raise StaticError(Diagnostic("S207", message, statement.count.span))
        known = count if isinstance(count, int) else None
        classes = self._classes(statement, scope, initial, known)
        self._leave(statement, scope, initial, classes, known, stages)

    def _classes(
        self,
        statement: sx.RepeatSyntax,
        scope: Scope,
        initial: tuple[int, ...],
        count: int | None,
    ) -> tuple[LayerClass, ...]:
        if count is None:
            return (self._layer(statement, scope, initial, None).layer_class((0,)),)
        classes: list[LayerClass] = []
        pending, unrolled = list(range(count)), 0
        while pending:
            if len(classes) >= MAX_CLASSES:
                message = f"more than {MAX_CLASSES} layers that differ"
                raise StaticError(Diagnostic("S218", message, statement.count.span))
            made = self._layer(statement, scope, initial, pending[0])
            variable = statement.variable.id
            first, *others = pending
            place = statement.count.span
            alike = {first} | {j for j in others if self._answers(made.trace, variable, j, place)}
            classes.append(made.layer_class(tuple(j for j in pending if j in alike)))
            unrolled += len(alike) * len(made.frame.body().steps)
            if unrolled > MAX_UNROLLED:
                message = f"the layers have more than {MAX_UNROLLED:,} operations in all"
                raise StaticError(Diagnostic("S218", message, place))
            pending = [j for j in pending if j not in alike]
        return tuple(classes)

    def _stages(self, statement: sx.RepeatSyntax, count: Dim, scope: Scope) -> str | None:
        """Return the mesh axis that splits the layers into stages, of which there are no more than layers."""
        if statement.stages is None:
            return None
        axis = self.expressions.mesh_axis(statement.stages, scope)
        self.shared.builder.bound_stages(count, axis, statement.stages.span)
        self.shared.stages.append(MeshSplit(axis, "the layers", statement.stages.span))
        return axis

    def _carried(self, statement: sx.RepeatSyntax, scope: Scope) -> tuple[int, ...]:
        values: list[int] = []
        for name in statement.carry:
            value = single(self.expressions.infer(name, scope), name)
            if isinstance(value, Poison):
                raise StaticError(None)
            self.expressions.complete(value, name)
            keep(self.shared.builder.handed.get(value, ()), "carry", name.span)
            values.append(value)
        return tuple(values)

    def _layer(
        self,
        statement: sx.RepeatSyntax,
        scope: Scope,
        initial: tuple[int, ...],
        layer: int | None,
    ) -> _Layer:
        builder, trace = self.shared.builder, list[Query]()
        outer_frame, builder.frame = builder.frame, Frame()
        outer_trace, self.shared.trace = self.shared.trace, trace
        inner = scope.inner(n.id for n in statement.carry)
        variable = statement.variable
        inner.bind(variable.id, LayerIndex(variable.id, layer), variable.span)
        entering = tuple(
            builder.value(name.id, builder.type_of(value), name.span)
            for name, value in zip(statement.carry, initial, strict=True)
        )
        builder.producers |= {a: (b,) for a, b in zip(entering, initial, strict=True)}
        for name, value in zip(statement.carry, entering, strict=True):
            inner.bind(name.id, Tensor((value,)), name.span)
        self.depth, self.variable = self.depth + 1, variable.id
        self.run(statement.body, inner)
        self.depth, self.variable = self.depth - 1, ""
        leaving = tuple(
            self._carry_out(name, value, inner)
            for name, value in zip(statement.carry, entering, strict=True)
        )
        builder.close_frame()
        frame, builder.frame = builder.frame, outer_frame
        self.shared.trace = outer_trace
        return _Layer(frame, entering, leaving, trace)

    def _carry_out(self, name: sx.Name, entering: int, inner: Scope) -> int:
        meaning, builder = inner.names[name.id], self.shared.builder
        if not isinstance(meaning, Tensor):
            return entering
        value = meaning.ids[0]
        builder.use(value)
        if value == entering:
            message = f"`{name.id}` is carried, but no statement of the layer changes it"
            builder.report(Diagnostic("S224", message, name.span))
            return entering
        before, after = builder.type_of(entering), builder.type_of(value)
        if not fits(before, after):
            message = f"`{name.id}` enters a layer as {before} and leaves it as {after}"
            builder.report(Diagnostic("S225", message, inner.places[name.id]))
        return value

    def _answers(self, trace: Sequence[Query], variable: str, layer: int, place: Span) -> bool:
        """Tell whether another layer gives the same answer to every question of a trace."""
        self.shared.path.ask(place)
        for query in trace:
            self.shared.path.ask(place)
            if self._answer(query, variable, layer) != query.answer:
                return False
        return True

    def _answer(self, query: Query, variable: str, layer: int) -> object:
        if query.layers is not None:
            return layer in query.layers

        def lookup(name: sx.Name) -> Static:
            if name.id == variable:
                return layer
            meaning = query.statics.get(name.id)
            if meaning is None or isinstance(meaning, (Tensor, Poison, LayerIndex, StateArray)):
                raise StaticError(None)
            return meaning

        evaluator = Evaluator(lookup, self.shared.path, frozenset(self.shared.facts))
        ask = evaluator.truth if query.is_condition else evaluator.value
        try:
            return ask(query.expr)
        except StaticError as error:
            self.shared.builder.report(error.diagnostic)
            return None

    def _leave(
        self,
        statement: sx.RepeatSyntax,
        scope: Scope,
        initial: tuple[int, ...],
        classes: tuple[LayerClass, ...],
        count: int | None,
        stages: str | None,
    ) -> None:
        builder = self.shared.builder
        results = tuple(
            builder.value(name.id, builder.type_of(value), statement.span)
            for name, value in zip(statement.carry, initial, strict=True)
        )
        builder.producers |= {a: (b,) for a, b in zip(results, initial, strict=True)}
        for name, value in zip(statement.carry, results, strict=True):
            scope.bind(name.id, Tensor((value,)), name.span)
            builder.expect_use(value, name.id, name.span, "carried value")
        names = tuple(n.id for n in statement.carry)
        variable = statement.variable.id
        builder.frame.steps.append(
            Repeat(variable, count, classes, initial, results, names, statement.span, stages)
        )


def poison_carry(statement: sx.RepeatSyntax, scope: Scope) -> None:
    """Silence everything after a `repeat` that could not be inferred."""
    for name in statement.carry:
        scope.bind(name.id, POISON, name.span)
