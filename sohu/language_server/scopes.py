# SPDX-License-Identifier: Apache-2.0
"""Which binding each name of a declaration means, in the order in which the program runs; several after a condition.

Types and values are the checker's business. Names are told apart by what binds them, not by what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from dsl.source import Source, Span
from dsl.text import syntax as sx
from dsl.types import DTYPES

HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class NameKind(Enum):
    """What binds a name."""

    CONFIG = "config name"
    DIM = "dimension of the run"
    MESH = "mesh axis"
    INPUT = "input"
    WEIGHT = "weight"
    STATE = "state"
    VALUE = "value"
    LAYER = "number of the layer"
    PARAMETER = "parameter"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Binding:
    """A place that gives a name a meaning, and the statement that it is in."""

    name: sx.Name
    kind: NameKind
    statement: sx.Syntax


@dataclass(frozen=True, slots=True)
class Mention:
    """A place where a name stands, and the bindings that it may mean there; a binding means itself."""

    id: str
    span: Span
    bindings: tuple[Binding, ...]
    binds: bool = False


Names = dict[str, tuple[Binding, ...]]


class _Reached(Exception):
    """The walk has come to the place that was asked about."""


@dataclass(slots=True)
class ScopeWalk:
    """One walk over a declaration; with `until` it stops there, and `names` are what is in scope."""

    until: tuple[Source, int] | None = None
    names: Names = field(default_factory=dict)
    mentions: list[Mention] = field(default_factory=list)

    # Declarations

    def declaration(self, node: sx.Declaration) -> None:
        """Walk a family with its parts in place, a part or a block."""
        try:
            match node:
                case sx.Family() | sx.Part():
                    self._items(node.items)
                case sx.Block():
                    self._block(node)
            self._end(node.span)
        except _Reached:
            return

    def _items(self, items: Sequence[sx.Item]) -> None:
        for item in items:
            match item:
                case sx.Include():
                    continue
                case sx.Config():
                    self._config(item.items)
                    self._end(item.span)
                case sx.Dims():
                    for dim in item.items:
                        self._bind(dim.name, NameKind.DIM, dim)
                case sx.Mesh():
                    for axis in item.axes:
                        self._bind(axis, NameKind.MESH, item)
                case sx.Entry():
                    self._branches(item.span, (item.body,))
                case _:
                    self._statement(item)

    def _config(self, items: Sequence[sx.ConfigItem]) -> None:
        for item in items:
            self._reach(item.span)
            match item:
                case sx.Bind():
                    if not isinstance(item.value, sx.Key):
                        self._mention(item.value)
                    if item.default is not None:
                        self._mention(item.default)
                    self._bind(item.name, NameKind.CONFIG, item)
                case sx.Require():
                    self._mention(item.condition)
                case sx.ConfigIf():
                    self._mention(item.condition)
                    self._config(item.then)
                    self._config(item.orelse)

    def _block(self, block: sx.Block) -> None:
        for param in block.params:
            if isinstance(param.kind, sx.TypeSyntax):
                self._declared(param.kind, param)
        for param in block.params:
            if param.default is not None:
                self._mention(param.default)
            self._bind(param.name, NameKind.PARAMETER, param)
        for result in block.results:
            self._type(result)
        self._statements(block.body)

    def _declared(self, type_: sx.TypeSyntax, param: sx.Param) -> None:
        """A parameter's type gives a meaning to the sizes that it is the first to mention."""
        sizes = [axis.size for axis in type_.axes]
        for name in (type_.dtype, *sizes):
            if isinstance(name, sx.Name) and name.id not in DTYPES:
                if name.id in self.names:
                    self._use(name.id, name.span)
                else:
                    self._bind(name, NameKind.PARAMETER, param)
        for size in sizes:
            if not isinstance(size, sx.Name):
                self._mention(size)
        for axis in type_.axes:
            self._uses(axis.shards)

    # Statements

    def _statements(self, statements: Sequence[sx.Statement]) -> None:
        for statement in statements:
            self._statement(statement)

    def _statement(self, statement: sx.Statement) -> None:
        self._reach(statement.span)
        match statement:
            case sx.Assign():
                self._mention(statement.value)
                for target in statement.targets:
                    self._bind(target, NameKind.VALUE, statement)
            case sx.Input() | sx.WeightSyntax() | sx.StateSyntax() | sx.OutputSyntax():
                self._declares(statement)
            case sx.RepeatSyntax():
                self._repeat(statement)
            case sx.If():
                self._mention(statement.condition)
                self._branches(statement.span, (statement.then, statement.orelse))
            case sx.Require():
                self._mention(statement.condition)
            case sx.Return():
                for value in statement.values:
                    self._mention(value)
            case sx.Unused():
                for pattern in statement.patterns:
                    self._mention(pattern)

    def _declares(
        self, statement: sx.Input | sx.WeightSyntax | sx.StateSyntax | sx.OutputSyntax
    ) -> None:
        if isinstance(statement, sx.StateSyntax) and statement.count is not None:
            self._mention(statement.count)
        self._type(statement.type)
        if isinstance(statement, sx.WeightSyntax):
            self._source(statement.source)
        if isinstance(statement, sx.OutputSyntax):
            self._mention(statement.value)
        self._bind(statement.name, _DECLARED[type(statement)], statement)

    def _source(self, source: sx.Expr) -> None:
        """Walk a weight's source, where `e < X` of a stack gives `e` a meaning of its own."""
        outer = dict(self.names)
        for node in _calls(source):
            for argument in node.arguments:
                if isinstance(argument, sx.Binary) and isinstance(argument.left, sx.Name):
                    self._bind(argument.left, NameKind.LAYER, argument)
        self._mention(source)
        self.names = outer

    def _repeat(self, statement: sx.RepeatSyntax) -> None:
        self._mention(statement.count)
        self._uses(() if statement.stages is None else (statement.stages,))
        self._uses(statement.carry)
        outer = dict(self.names)
        self._bind(statement.variable, NameKind.LAYER, statement)
        self._statements(statement.body)
        self._end(statement.span)
        carried = {name.id: self.names[name.id] for name in statement.carry if name.id in outer}
        self.names = outer | carried

    def _branches(self, span: Span, bodies: Sequence[Sequence[sx.Statement]]) -> None:
        outer, merged = dict(self.names), dict[str, dict[Span, Binding]]()
        if len(bodies) == 1 or not all(bodies):
            self._merge(merged)
        # Where a branch ends no node says: a place before the next one is in it still.
        ends = [*(body[0].span.start for body in bodies[1:] if body), span.end]
        for body, end in zip((body for body in bodies if body), ends, strict=False):
            self.names = dict(outer)
            self._statements(body)
            self._end(Span(span.source, span.start, end))
            self._merge(merged)
        self.names = {name: tuple(bindings.values()) for name, bindings in merged.items()}

    def _merge(self, merged: dict[str, dict[Span, Binding]]) -> None:
        for name, bindings in self.names.items():
            merged.setdefault(name, {}).update({b.name.span: b for b in bindings})

    # Names

    def _bind(self, name: sx.Name, kind: NameKind, statement: sx.Syntax) -> None:
        bindings = (Binding(name, kind, statement),)
        self.names[name.id] = bindings
        self.mentions.append(Mention(name.id, name.span, bindings, binds=True))

    def _use(self, name: str, span: Span) -> None:
        bindings = self.names.get(name, ())
        if all(binding.name.span != span for binding in bindings):  # `e < X` binds where it stands
            self.mentions.append(Mention(name, span, bindings))

    def _uses(self, names: Iterable[sx.Name]) -> None:
        for name in names:
            self._use(name.id, name.span)

    def _type(self, type_: sx.TypeSyntax) -> None:
        if type_.dtype.id not in DTYPES:
            self._use(type_.dtype.id, type_.dtype.span)
        for axis in type_.axes:
            self._mention(axis.size)
            self._uses(axis.shards)

    def _mention(self, node: sx.Expr) -> None:
        match node:
            case sx.Name():
                self._use(node.id, node.span)
            case sx.String():
                for hole in HOLE.finditer(node.span.text):
                    start = node.span.start + hole.start(1)
                    place = Span(node.span.source, start, start + len(hole[1]))
                    self._use(hole[1], place)
            case sx.Call():
                for argument in (*node.arguments, *(k.value for k in node.keywords)):
                    self._mention(argument)
            case _:
                for child in children(node):
                    self._mention(child)  # type: ignore[arg-type]  # children of expressions are such

    # Where the walk ends

    def _reach(self, span: Span) -> None:
        if self.until is not None and span.source is self.until[0] and span.start >= self.until[1]:
            raise _Reached

    def _end(self, span: Span) -> None:
        if self.until is not None and span.source is self.until[0] and span.end > self.until[1]:
            raise _Reached


_DECLARED = {
    sx.Input: NameKind.INPUT,
    sx.WeightSyntax: NameKind.WEIGHT,
    sx.StateSyntax: NameKind.STATE,
    sx.OutputSyntax: NameKind.OUTPUT,
}


def children(node: sx.Syntax) -> list[sx.Syntax]:
    """Return the nodes directly below one, in the order of its fields."""
    below: list[sx.Syntax] = []
    for name in node.__dataclass_fields__:
        value = getattr(node, name)
        parts = value if isinstance(value, tuple) else (value,)
        below += [part for part in parts if isinstance(part, sx.Syntax)]
    return below


def path_at(node: sx.Syntax, offset: int) -> tuple[sx.Syntax, ...]:
    """Return the nodes that a place is in or at the end of, outermost first."""
    path: list[sx.Syntax] = []
    at: sx.Syntax | None = node
    while at is not None:
        path.append(at)
        inner = [c for c in children(at) if c.span.start <= offset <= c.span.end]
        at = min(
            inner, key=lambda c: (c.span.end == offset, c.span.end - c.span.start), default=None
        )
    return tuple(path)


def _calls(node: sx.Expr) -> list[sx.Call]:
    if not isinstance(node, sx.Call):
        return [call for child in children(node) for call in _calls(child)]  # type: ignore[arg-type]  # as above
    inner = [call for argument in node.arguments for call in _calls(argument)]
    return [node, *inner]
