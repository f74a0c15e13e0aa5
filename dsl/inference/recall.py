# SPDX-License-Identifier: Apache-2.0
"""What calls of blocks gave on the paths of one generic check: one like an earlier call is not inferred again.

A call is like another where its arguments mean the same and the path answers the same questions. Only what leaves no
fault is kept, and only what the rest of a path can see of it: no places and names for messages. So a path with a fault
is walked again without. What blocks say is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dsl.diagnostics import Diagnostic
from dsl.graph import Attr, StateArray
from dsl.inference.graph_builder import GraphBuilder
from dsl.inference.scope import LayerIndex, Meaning, Poison, Tensor
from dsl.linking.static import Path, Question, Static, Unknown
from dsl.ops.spec import Divides
from dsl.source import Span
from dsl.symbolic import names
from dsl.types import TensorType

Arguments: TypeAlias = Iterable[tuple[str, Meaning]]
Expected: TypeAlias = tuple[str, Span, str]


@dataclass(frozen=True, slots=True)
class _Result:
    """A result: one of the values that went in, or a new one with what is known of it."""

    given: int | None
    type: TensorType
    handed: Mapping[str, Attr | Unknown] | None
    name: Expected | None
    is_used: bool
    is_spared: bool


@dataclass(frozen=True, slots=True)
class _Effects:
    """What a call leaves behind: results, and what it did to the values that went in, by their number."""

    results: tuple[_Result, ...]
    used: tuple[int, ...]
    spared: tuple[int, ...]
    written: tuple[tuple[int, Span], ...]
    named: tuple[tuple[int, Expected], ...]
    facts: frozenset[Divides]
    sharded: tuple[TensorType, ...]
    """Types of values inside for each mesh axis that one is split over, one for each set of names in sizes."""
    steps: int


@dataclass(slots=True)
class _Ask:
    """A question that a call asks of the path next, and what follows from each answer."""

    question: Question
    answers: dict[bool, _Ask | _Effects] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Before:
    """How things stood when a call began."""

    values: int
    states: int
    faults: int
    steps: int
    asked: int
    facts: frozenset[Divides]
    named: frozenset[int]
    used: frozenset[int]
    spared: frozenset[int]


@dataclass(slots=True)
class Recall:
    """The calls of one check, by what goes into them."""

    calls: dict[Hashable, _Ask | _Effects] = field(default_factory=dict)
    _unused: tuple[Diagnostic, ...] | None = None

    def unused(self, look: Callable[[], Iterable[Diagnostic]]) -> tuple[Diagnostic, ...]:
        """Return the config names that nothing mentions, which is the same on every path."""
        if self._unused is None:
            self._unused = tuple(look())
        return self._unused

    def replay(
        self, key: Hashable, values: Sequence[int], builder: GraphBuilder, path: Path,
        facts: set[Divides], span: Span,
    ) -> Tensor | None:  # fmt: skip
        """Return the results of a call like an earlier one, with its effects; None where there was none."""
        known = self.calls.get(key)
        while isinstance(known, _Ask):
            known = known.answers.get(path.answer(known.question))
        if known is None:
            return None
        path.recall(known.steps, span, len(builder.diagnostics))
        facts |= known.facts
        builder.affect(
            [values[i] for i in known.used],
            [values[i] for i in known.spared],
            [(values[i], place) for i, place in known.written],
            [(values[i], *name) for i, name in known.named],
        )
        for type_ in known.sharded:
            builder.value("", type_, span)
        return Tensor(tuple(_made(result, values, builder, span) for result in known.results))

    def begin(
        self, values: Sequence[int], builder: GraphBuilder, path: Path, facts: set[Divides]
    ) -> _Before:
        """Return what `keep` compares with."""
        return _Before(
            len(builder.values), len(builder.frame.states), len(builder.diagnostics), path.steps,
            len(path.log), frozenset(facts), frozenset(v for v in values if builder.expected(v)),
            frozenset(filter(builder.is_used, values)), frozenset(filter(builder.is_spared, values)),
        )  # fmt: skip

    def keep(
        self, key: Hashable, values: Sequence[int], made: Meaning, before: _Before,
        builder: GraphBuilder, path: Path, facts: set[Divides],
    ) -> None:  # fmt: skip
        """Remember a call that has been inferred, unless it left a fault or one that shows later."""
        inner = range(before.values, len(builder.values))
        if not isinstance(made, Tensor) or len(builder.diagnostics) != before.faults:
            return
        if builder.open_states(before.states) or builder.left_over(inner, made.ids):
            return
        place = {value: i for i, value in reversed(list(enumerate(values)))}
        effects = _Effects(
            tuple(_result(value, place, builder) for value in made.ids),
            # What was so before is left out: a later call may find it otherwise, and a fault too many is looked into.
            tuple(i for i, v in enumerate(values) if builder.is_used(v) and v not in before.used),
            tuple(
                i for i, v in enumerate(values) if builder.is_spared(v) and v not in before.spared
            ),
            tuple((i, at) for i, v in enumerate(values) if (at := builder.written_at(v))),
            tuple(
                (i, name)
                for i, v in enumerate(values)
                if v not in before.named and (name := builder.expected(v))
            ),
            frozenset(facts) - before.facts,
            _sharded(builder.type_of(value) for value in inner),
            path.steps - before.steps,
        )
        self._add(key, path.log[before.asked :], effects)

    def _add(
        self, key: Hashable, asked: Sequence[tuple[Question, bool]], effects: _Effects
    ) -> None:
        answers = dict(asked)
        if not answers:
            self.calls[key] = effects
            return
        (first, answer), *rest = answers.items()
        node = self.calls.setdefault(key, _Ask(first))
        for question, following in rest:
            node = _asking(node).answers.setdefault(answer, _Ask(question))
            answer = following
        _asking(node).answers[answer] = effects


def _sharded(types: Iterable[TensorType]) -> tuple[TensorType, ...]:
    # Whether an axis may shard a value depends on which rows it has, and so on the names in its sizes.
    first: dict[tuple[str, frozenset[str]], TensorType] = {}
    for type_ in types:
        axes = (*(s for a in type_.axes for s in a.shards), *type_.partial)
        sizes = (
            frozenset(name for a in type_.axes for name in names(a.dim)) if axes else frozenset()
        )
        for axis in axes:
            first.setdefault((axis, sizes), type_)
    return tuple(dict.fromkeys(first.values()))


def _asking(node: _Ask | _Effects) -> _Ask:
    if not isinstance(node, _Ask):
        raise TypeError("a call that asked nothing asks on another path")
    return node


def _result(value: int, place: Mapping[int, int], builder: GraphBuilder) -> _Result:
    return _Result(
        place.get(value),
        builder.type_of(value),
        builder.handed.get(value),
        builder.expected(value),
        builder.is_used(value),
        builder.is_spared(value),
    )


def _made(result: _Result, values: Sequence[int], builder: GraphBuilder, span: Span) -> int:
    if result.given is not None:
        return values[result.given]
    value = builder.value("", result.type, span)
    builder.affect(
        [value] if result.is_used else [],
        [value] if result.is_spared else [],
        [],
        [(value, *result.name)] if result.name else [],
    )
    if result.handed is not None:
        builder.handed[value] = result.handed
    return value


def key_of(
    block: str, stack: tuple[str, ...], arguments: Arguments, facts: set[Divides],
    builder: GraphBuilder,
) -> tuple[Hashable, tuple[int, ...]] | None:  # fmt: skip
    """Return what goes into a call, and the values among it; None where something is no plain argument."""
    parts: list[Hashable] = [block, stack, frozenset(facts)]
    values: list[int] = []
    for name, meaning in arguments:
        if isinstance(meaning, Tensor):
            if len(meaning.ids) != 1:
                return None
            (value,) = meaning.ids
            alike = values.index(value) if value in values else -1
            values.append(value)
            parts.append((name, alike, builder.type_of(value), *builder.standing(value)))
        elif isinstance(meaning, (Poison, LayerIndex, StateArray)):
            return None
        else:
            parts.append((name, _exact(meaning)))
    return tuple(parts), tuple(values)


def _exact(value: Static) -> Hashable:
    """Return a value with its type, since 1 is no `true`."""
    if isinstance(value, tuple):
        return tuple(_exact(item) for item in value)
    return type(value), value
