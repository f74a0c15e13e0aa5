# SPDX-License-Identifier: Apache-2.0
"""Where things are: what a place refers to, every place of one name, and what a text holds.

To rename is to change every place of a name in one text; what other texts know by that name is refused, and why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from dsl.source import Span
from dsl.text import syntax as sx
from dsl.text.words import language_words
from sohu.language_server.scopes import Mention, NameKind, children
from sohu.language_server.view import View

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_KNOWN_ELSEWHERE = {
    NameKind.DIM: "blocks of other files know the dimensions of the run by their names",
    NameKind.MESH: "blocks of other files know the mesh's axes by their names",
    NameKind.PARAMETER: "texts that call the block give its parameters by name",
    NameKind.OUTPUT: "who runs the program knows its outputs by name",
    NameKind.INPUT: "who runs the program knows its inputs by name",
}


class NameKept(Exception):
    """A name cannot be changed, or not to this; the message says why."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A thing that a text declares, and what is declared in it."""

    name: str
    kind: str
    span: Span
    place: Span
    inner: tuple[Symbol, ...] = ()


def definition(view: View, offset: int) -> tuple[Span, ...]:
    """Return where what stands at a place is defined; several places after a condition, none for operations."""
    nodes = view.nodes_at(offset)
    for node, around in zip(nodes[:0:-1], nodes[-2::-1], strict=True):
        spans = _of_node(view, node, around, nodes)
        if spans:
            return spans
    mention = view.mention_at(offset)
    return () if mention is None else tuple(b.name.span for b in mention.bindings)


def _of_node(
    view: View, node: sx.Syntax, around: sx.Syntax, nodes: tuple[sx.Syntax, ...]
) -> tuple[Span, ...]:
    match around:
        case sx.Call() if node is around.function:
            block = view.program.blocks.get(around.function.id)
            return (block.name.span,) if block else ()
        case sx.Keyword() if node is around.name:
            call = next((n for n in reversed(nodes) if isinstance(n, sx.Call)), None)
            block = view.program.blocks.get(call.function.id) if call else None
            params = block.params if block else ()
            return tuple(p.name.span for p in params if p.name.id == around.name.id)
        case sx.Include():
            part = view.program.parts.get(around.name.id)
            return (part.name.span,) if part else ()
        case sx.Use():
            return _of_file(view, around)
    return ()


def _of_file(view: View, use: sx.Use) -> tuple[Span, ...]:
    path = next((p for p in view.linked.used if p.as_posix().endswith(use.path.value)), None)
    if path is None:
        return ()
    source = view.shelf.tree(path).span.source
    return (Span(source, 0, 0),)


def references(view: View, offset: int) -> tuple[Span, ...]:
    """Return every place of the name that stands at a place, of the text and of the parts that it includes."""
    mention = view.mention_at(offset)
    return () if mention is None else tuple(m.span for m in _same(view, mention))


def _same(view: View, mention: Mention) -> list[Mention]:
    """Return the mentions of a name in its declaration: there it is one variable, however often it is bound."""
    declaration = view.declaration_at(mention.span.start)
    every = () if declaration is None else view.mentions(declaration)
    return [other for other in every if other.id == mention.id]


def renameable(view: View, offset: int) -> Span:
    """Return the place of a name that can be renamed; raises `NameKept` with the reason where it cannot."""
    mention = view.mention_at(offset)
    if mention is None or not mention.bindings:
        raise NameKept(_why_not(view, offset))
    kinds = {b.kind for m in _same(view, mention) for b in m.bindings}
    for kind, reason in _KNOWN_ELSEWHERE.items():
        if kind in kinds:
            raise NameKept(f"`{mention.id}` keeps its name: {reason}")
    source = mention.span.source
    elsewhere = sorted(
        {m.span.source.name for m in _same(view, mention) if m.span.source is not source}
    )
    if elsewhere:
        files = ", ".join(PurePath(name).name for name in elsewhere)
        raise NameKept(f"`{mention.id}` keeps its name: {files} has it too")
    return mention.span


def _why_not(view: View, offset: int) -> str:
    nodes = view.nodes_at(offset)
    around = nodes[-2] if len(nodes) > 1 else None
    match around:
        case sx.Call() | sx.Block() | sx.Part() | sx.Include() | sx.Family():
            return "names of families, blocks, parts and operations are known to other texts"
        case sx.Keyword():
            return "the parameter is the block's or operation's; it is not renamed from a call"
    return "there is no name here that this text binds"


def rename(view: View, offset: int, new: str) -> tuple[Span, ...]:
    """Return the places to write a new name to; raises `NameKept` where it cannot be or is taken."""
    renameable(view, offset)
    if view.mended.faults:
        raise NameKept(f"the text has no syntax yet: {view.mended.faults[0].message}")
    if not _NAME.match(new) or new in language_words().all:
        raise NameKept(f"`{new}` can be no name")
    mention = view.mention_at(offset)
    declaration = view.declaration_at(offset)
    if mention is None or declaration is None:
        raise NameKept("there is no name here that this text binds")
    if new[:1].isupper() != mention.id[:1].isupper() and _is_config(mention):
        raise NameKept("a name with a capital is a dimension, one without is none")
    if any(other.id == new for other in view.mentions(declaration)):
        raise NameKept(f"`{new}` has a meaning already")
    return tuple(m.span for m in _same(view, mention))


def _is_config(mention: Mention) -> bool:
    return any(b.kind is NameKind.CONFIG for b in mention.bindings)


def symbols(view: View) -> tuple[Symbol, ...]:
    """Return what a text declares, in the order of the text."""
    return tuple(s for d in view.file.declarations for s in _symbols(d))


def _symbols(node: sx.Syntax) -> tuple[Symbol, ...]:
    inner = tuple(s for child in children(node) for s in _symbols(child))
    match node:
        case sx.Family() | sx.Block() | sx.Part() | sx.Entry():
            kind = type(node).__name__.lower()
            return (Symbol(node.name.id, kind, node.span, node.name.span, inner),)
        case sx.WeightSyntax() | sx.StateSyntax() | sx.Input() | sx.OutputSyntax() | sx.Bind():
            kind = _KINDS[type(node)]
            return (Symbol(node.name.id, kind, node.span, node.name.span),)
        case sx.Config():
            place = Span(node.span.source, node.span.start, node.span.start + len("config"))
            return (Symbol("config", "config", node.span, place, inner),)
        case sx.RepeatSyntax():
            name = f"repeat {node.variable.id} < {node.count.span.text}"
            return (Symbol(name, "repeat", node.span, node.variable.span, inner),)
        case sx.Assign():
            name = ", ".join(target.id for target in node.targets)
            place = node.targets[0].span.to(node.targets[-1].span)
            return (Symbol(name, "value", node.span, place),)
    return inner


_KINDS: dict[type[sx.Syntax], str] = {
    sx.WeightSyntax: "weight",
    sx.StateSyntax: "state",
    sx.Input: "input",
    sx.OutputSyntax: "output",
    sx.Bind: "config name",
}
