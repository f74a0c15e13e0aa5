# SPDX-License-Identifier: Apache-2.0
"""Collects the values, steps, weights and states of a graph while a program is being inferred.

It numbers values, remembers which were used, and holds the diagnostics. What statements mean is decided by its caller.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dsl.diagnostics import Diagnostic, Label
from dsl.graph import (
    Attr,
    Body,
    Node,
    Obligation,
    State,
    StateArray,
    Step,
    Unneeded,
    Value,
    Weight,
    WeightSource,
)
from dsl.linking.static import Unknown
from dsl.ops.spec import Divides
from dsl.source import Span
from dsl.symbolic import Dim, quotient, symbol, text
from dsl.types import TensorType

VALUE = "value"


@dataclass(slots=True)
class Frame:
    """The body under construction."""

    weights: list[Weight] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def body(self) -> Body:
        """Return the finished body."""
        return Body(tuple(self.weights), tuple(self.states), tuple(self.steps))


class GraphBuilder:
    """The graph so far."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.frame = Frame()
        self.path: tuple[str, ...] = ()
        self.diagnostics: dict[tuple[object, ...], Diagnostic] = {}
        self.obligations: dict[str, Obligation] = {}
        self.arrays: dict[str, StateArray] = {}
        self.unneeded: dict[str, Unneeded] = {}
        self.producers: dict[int, tuple[int, ...]] = {}
        self.keepers: set[int] = set()
        """Values that have the axes of what they were made from."""
        self.handed: dict[int, Mapping[str, Attr | Unknown]] = {}
        self.left_unused: list[Diagnostic] = []
        self._items: dict[tuple[int, str, int | None], int] = {}
        self._spared: set[int] = set()
        self._used: set[int] = set()
        self._named: dict[int, tuple[str, Span, str]] = {}
        self._writes: dict[int, Span] = {}

    def report(self, diagnostic: Diagnostic | None) -> None:
        """Record a diagnostic once, however often its place is inferred."""
        if diagnostic is None:
            return
        span = diagnostic.span
        at = (span.source.name, span.start, span.end) if span else diagnostic.place
        self.diagnostics.setdefault((diagnostic.code, at), diagnostic)

    def value(self, name: str, type_: TensorType, span: Span) -> int:
        """Add a value and return its number."""
        self.values.append(Value(len(self.values), name, type_, span))
        return len(self.values) - 1

    def type_of(self, value: int) -> TensorType:
        """Return the type of a value."""
        return self.values[value].type

    def rename(self, value: int, name: str) -> None:
        """Give a value the name it is assigned to, where it has only its operation's."""
        old = self.values[value]
        if value not in self._named:
            self.values[value] = Value(value, name, old.type, old.span)

    def expect_use(self, value: int, name: str, span: Span, what: str) -> None:
        """Note that a value has a name, so that it must be used somewhere."""
        self._named.setdefault(value, (name, span, what))

    def spare(self, values: Iterable[int]) -> None:
        """Note values that a branch which was not taken refers to: another config may use them."""
        self._spared |= set(values)

    def use(self, value: int) -> None:
        """Note that a value is used."""
        self._used.add(value)

    def affect(
        self,
        used: Iterable[int],
        spared: Iterable[int],
        written: Iterable[tuple[int, Span]],
        named: Iterable[tuple[int, str, Span, str]],
    ) -> None:
        """Do to values what a call did that is not inferred again."""
        self._used.update(used)
        self._spared.update(spared)
        for state, span in written:
            self._writes.setdefault(state, span)
        for value, name, span, what in named:
            self.expect_use(value, name, span, what)

    def is_used(self, value: int) -> bool:
        """Tell whether a value is used so far."""
        return value in self._used

    def is_spared(self, value: int) -> bool:
        """Tell whether a branch that was not taken refers to a value."""
        return value in self._spared

    def expected(self, value: int) -> tuple[str, Span, str] | None:
        """Return the name for which a value must be used, with its place and kind, if it has one."""
        return self._named.get(value)

    def written_at(self, state: int) -> Span | None:
        """Return where a state is written, if it is."""
        return self._writes.get(state)

    def standing(self, value: int) -> tuple[Hashable, ...]:
        """Return all but the type that what is done with a value depends on."""
        handed = self.handed.get(value)
        return (
            self.is_state(value),
            value in self._writes,
            value in self._named,
            tuple(handed.items()) if handed else (),
        )

    def left_over(self, values: Iterable[int], results: Sequence[int]) -> bool:
        """Tell whether one of some values that are no results has a name in vain."""
        return any(
            v in self._named and v not in results and self._is_idle(v, *self._named[v])
            for v in values
        )

    def open_states(self, first: int) -> bool:
        """Tell whether a state of this body from a number on is not written."""
        return any(s.value not in self._writes for s in self.frame.states[first:])

    def node(
        self,
        op: str,
        inputs: Iterable[int],
        types: Iterable[TensorType],
        attrs: Mapping[str, Attr],
        span: Span,
        operands: tuple[str, ...],
    ) -> tuple[int, ...]:
        """Add an operation and return the numbers of its results."""
        given = tuple(inputs)
        outputs = tuple(self.value(op, type_, span) for type_ in types)
        self.producers |= dict.fromkeys(outputs, given)
        node = Node(op, given, outputs, attrs, span, self.path, operands)
        self.frame.steps.append(node)
        return outputs

    def weight(self, name: str, type_: TensorType, source: WeightSource, span: Span) -> int:
        """Add a weight and return its value."""
        value = self.value(name, type_, span)
        self.frame.weights.append(Weight(value, name, type_, source, span))
        return value

    def state(self, name: str, type_: TensorType, span: Span) -> int:
        """Add a state and return its value."""
        value = self.value(name, type_, span)
        self.frame.states.append(State(value, name, type_, span))
        return value

    def item(self, array: StateArray, index: int | None, span: Span) -> int:
        """Return the value of an array's item in the body under construction."""
        key = (id(self.frame), array.name, index)
        if key not in self._items:
            value = self.value(array.name, array.type, span)
            item = (array.name, index)
            self.frame.states.append(State(value, array.name, array.type, span, item))
            self._items[key] = value
        return self._items[key]

    def write(self, state: int, span: Span) -> None:
        """Note that a state is written; twice in one step is an error."""
        if state in self._writes:
            name = self.values[state].name
            labels = (Label(self._writes[state], "first written here"),)
            message = f"the state `{name}` is written twice"
            self.report(Diagnostic("S217", message, span, labels=labels))
        self._writes[state] = span

    def is_state(self, value: int) -> bool:
        """Tell whether a value is a state of the body under construction."""
        return any(s.value == value for s in self.frame.states)

    def close_frame(self) -> None:
        """Report the states of the finished body that nothing writes; a fault elsewhere may be why."""
        unwritten = () if self.diagnostics else self.frame.states
        for state in unwritten:
            if state.item is None and state.value not in self._writes:
                message = f"the state `{state.name}` is never written"
                help_ = "append new entries to it, or remove it"
                self.report(Diagnostic("S216", message, state.span, help=help_))

    def close(self, unused: Iterable[Diagnostic] = (), entry: Span | None = None) -> None:
        """Report names that nothing uses, these and values; only sound programs are worth it.

        With an entry, unused names outside of it are kept in `left_unused`: another entry may use them.
        """
        if self.diagnostics:
            return
        diagnostics = list(unused)
        for value, (name, span, what) in self._named.items():
            if self._is_idle(value, name, span, what):
                diagnostics.append(Diagnostic("S215", f"the {what} `{name}` is never used", span))
        for diagnostic in diagnostics:
            if entry is None or _within(diagnostic.span, entry):
                self.report(diagnostic)
            else:
                self.left_unused.append(diagnostic)

    def _is_idle(self, value: int, name: str, span: Span, what: str) -> bool:
        elsewhere = what == VALUE and value in self._spared
        return value not in self._used and not name.startswith("_") and not elsewhere

    def oblige(self, facts: Iterable[Divides], span: Span) -> None:
        """Record divisions that only the values can settle."""
        for fact in facts:
            if quotient(fact.dividend, fact.divisor) is not None:
                continue
            shown = f"{text(fact.dividend)} % {text(fact.divisor)} == 0"
            self.obligations.setdefault(shown, Obligation(shown, fact.dividend, fact.divisor, span))

    def bound_stages(self, layers: Dim, axis: str, span: Span) -> None:
        """Record that a pipeline has no more stages than layers; they need not be equal."""
        shown = f"{axis} <= {text(layers)}"
        self.obligations[shown] = Obligation(shown, layers, symbol(axis), span, at_most=True)

    def leave_whole(self, axis: str, why: str, span: Span) -> None:
        """Record that a mesh axis has one chip, since it splits nothing."""
        shown = f"{axis} == 1"
        self.obligations[shown] = Obligation(shown, 1, symbol(axis), span, why=why)


def _within(span: Span | None, entry: Span) -> bool:
    """Tell whether a place is inside of an entry, or in another file than the family's."""
    if span is None or span.source is not entry.source:
        return True
    return entry.start <= span.start < entry.end
