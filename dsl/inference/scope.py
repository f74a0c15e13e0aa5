# SPDX-License-Identifier: Apache-2.0
"""What names mean while a program is being inferred: static values, tensors, or nothing any more.

A scope also records where a name was bound and whether it was used, and which static answers depended on the layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dsl.diagnostics import Diagnostic, Label, did_you_mean, near
from dsl.graph import StateArray
from dsl.linking.static import Static, StaticError, Unknown
from dsl.source import Span
from dsl.text import syntax as sx
from dsl.text.habits import help_with_name


@dataclass(frozen=True, slots=True)
class Tensor:
    """One or more values of the graph; several only straight from an operation with several results."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Poison:
    """The result of something already reported; everything computed from it stays silent."""


@dataclass(frozen=True, slots=True)
class LayerIndex:
    """The variable of a `repeat`: its value now, or None in a generic program."""

    variable: str
    value: int | None

    def static(self) -> Static:
        """Return the index as a static value."""
        return Unknown(self.variable) if self.value is None else self.value


Meaning: TypeAlias = Static | Tensor | Poison | LayerIndex | StateArray
POISON = Poison()


@dataclass(frozen=True, slots=True)
class Query:
    """A static question whose answer depended on the layer; equal answers make equal layers.

    With `layers` it is whether the layer is one of them, and of no expression.
    """

    expr: sx.Expr
    statics: Mapping[str, Meaning]
    answer: object
    is_condition: bool
    layers: frozenset[int] | None = None


@dataclass(slots=True)
class Scope:
    """The names of one block or family body; `layer` is the layer that calls a block, None outside of layers."""

    names: dict[str, Meaning] = field(default_factory=dict)
    places: dict[str, Span] = field(default_factory=dict)
    outer: frozenset[str] = frozenset()
    carried: frozenset[str] = frozenset()
    touched_layer: bool = False
    layer: int | None = None
    literals: Mapping[str, sx.Expr] = field(default_factory=dict)
    """Names whose value the config section writes out."""

    def bind(self, name: str, meaning: Meaning, span: Span) -> None:
        """Give a name a meaning."""
        self.names[name] = meaning
        self.places[name] = span

    def inner(self, carried: Iterable[str]) -> Scope:
        """Return the scope of a repeated body, where only carried names may be bound again."""
        return Scope(
            dict(self.names), dict(self.places), frozenset(self.names), frozenset(carried),
            layer=self.layer, literals=self.literals,
        )  # fmt: skip

    def current_layer(self) -> int | None:
        """Return the layer that is being inferred, in a block too; None outside of layers and in a generic program."""
        layers = (m.value for m in self.names.values() if isinstance(m, LayerIndex))
        return next((value for value in layers if value is not None), self.layer)

    def meaning(self, name: sx.Name) -> Meaning:
        """Return what a name means; raises `StaticError` for a name without meaning."""
        if name.id not in self.names:
            help_ = help_with_name(name.id) or did_you_mean(name.id, self.names)
            message = f"`{name.id}` is not bound here"
            labels = self.near(name.id)
            raise StaticError(Diagnostic("S201", message, name.span, labels=labels, help=help_))
        return self.names[name.id]

    def near(self, name: str) -> tuple[Label, ...]:
        """Return labels at the names of this scope that are closest to an unknown one."""
        return near(name, self.places)

    def static(self, name: sx.Name) -> Static:
        """Return a name's static value; raises `StaticError` for tensors."""
        meaning = self.meaning(name)
        if isinstance(meaning, LayerIndex):
            self.touched_layer = True
            return meaning.static()
        if isinstance(meaning, Poison):
            raise StaticError(None)
        if isinstance(meaning, StateArray):
            message = f"`{name.id}` is an array of states; write `{name.id}[…]`"
            raise StaticError(Diagnostic("S207", message, name.span))
        if isinstance(meaning, Tensor):
            message = f"`{name.id}` is a tensor; a value known before the program runs is needed"
            raise StaticError(Diagnostic("S207", message, name.span))
        return meaning

    def statics(self) -> dict[str, Meaning]:
        """Return a copy of the names that are not tensors."""
        return {k: v for k, v in self.names.items() if not isinstance(v, Tensor)}
