# SPDX-License-Identifier: Apache-2.0
"""What hovering over a place of a text says, and the signature of the call that a place is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from dsl.ops import OPS
from dsl.source import Span
from dsl.text import syntax as sx
from dsl.types import DTYPES
from sohu.language_server import wording
from sohu.language_server.config_keys import key_words
from sohu.language_server.mending import words_at
from sohu.language_server.scopes import Mention, NameKind
from sohu.language_server.view import View


@dataclass(frozen=True, slots=True)
class Hover:
    """A text in Markdown about a place."""

    markdown: str
    span: Span


def hover(view: View, offset: int) -> Hover | None:
    """Return what there is to say of a place, None for nothing."""
    if view.has_tree:
        nodes = view.nodes_at(offset)
        for node, around in zip(reversed(nodes), (*reversed(nodes[:-1]), None), strict=True):
            about = _HOVERS.get(type(node))
            markdown = about(view, node, around, offset) if about else ""
            if markdown:
                return Hover(markdown, node.span)
            if isinstance(node, sx.Name):
                break
        mention = view.mention_at(offset)
        if mention is not None:
            return _of_mention(view, mention)
    return _of_word(view, offset)


def _of_word(view: View, offset: int) -> Hover | None:
    """Return what a word says by itself: of statements, and of calls that have no tree."""
    span = words_at(view.text, offset)
    if span is None:
        return None
    if span.text in OPS:
        return Hover(wording.operation(OPS[span.text]), span)
    block = view.program.blocks.get(span.text)
    said = wording.declared(block) if block else wording.word(span.text)
    return Hover(said, span) if said else None


def _of_mention(view: View, mention: Mention) -> Hover | None:
    if not mention.bindings:
        return None
    parts: list[str] = []
    stands = view.shown(mention)
    for binding in mention.bindings:
        line = wording.statement(binding.statement)
        parts.append(wording.code(line))
        source = binding.name.span.source
        if source.name != view.name:
            parts.append(f"in `{PurePath(source.name).name}`")
    first = mention.bindings[0]
    known = f": `{stands}`" if stands and stands != mention.id else ""
    head = f"**{mention.id}** – {first.kind.value}{known}"
    key = first.statement.value if isinstance(first.statement, sx.Bind) else None
    if first.kind is NameKind.CONFIG and isinstance(key, sx.Key):
        parts.append(key_words(view, key.path))
    return Hover("\n\n".join([head, *dict.fromkeys(part for part in parts if part)]), mention.span)


def _of_name(view: View, node: sx.Syntax, around: sx.Syntax | None, offset: int) -> str:
    name = node.id if isinstance(node, sx.Name) else ""
    match around:
        case sx.Call() if node is around.function:
            return _of_function(view, around)
        case sx.Keyword() if node is around.name:
            return _of_keyword(view, name, offset)
        case sx.Include():
            part = view.program.parts.get(name)
            return wording.declared(part) if part else ""
        case sx.TypeSyntax() if node is around.dtype and name in DTYPES:
            return wording.dtype(name)
        case sx.Block() if node is around.name:
            return wording.declared(around)
    return ""


def _of_function(view: View, call: sx.Call) -> str:
    name = call.function.id
    block = view.program.blocks.get(name)
    if block is not None:
        said = wording.declared(block)
    elif name in OPS:
        said = wording.operation(OPS[name])
    else:
        return ""
    made = " or ".join(view.sightings(call.span))
    return f"here: `{made}`\n\n{said}" if made else said


def _of_keyword(view: View, name: str, offset: int) -> str:
    call = next((n for n in reversed(view.nodes_at(offset)) if isinstance(n, sx.Call)), None)
    if call is None:
        return ""
    function = call.function.id
    block = view.program.blocks.get(function)
    if block is not None:
        own = (p for p in block.params if p.name.id == name)
        return next((wording.code(p.span.text) for p in own), "")
    spec = OPS.get(function)
    matching = (p for p in spec.params if p.name == name) if spec else ()
    return next((wording.parameter(function, p) for p in matching), "")


def _of_key(view: View, node: sx.Syntax, around: sx.Syntax | None, offset: int) -> str:
    del around, offset
    return key_words(view, node.path) if isinstance(node, sx.Key) else ""


def _of_string(view: View, node: sx.Syntax, around: sx.Syntax | None, offset: int) -> str:
    del offset
    if not isinstance(around, sx.Use) or not isinstance(node, sx.String):
        return ""
    used = (path for path in view.linked.used if path.as_posix().endswith(node.value))
    return next((f"`{path}`" for path in used), "")


_HOVERS: Mapping[type[sx.Syntax], Callable[[View, sx.Syntax, sx.Syntax | None, int], str]] = {
    sx.Name: _of_name,
    sx.Key: _of_key,
    sx.String: _of_string,
}
