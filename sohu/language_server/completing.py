# SPDX-License-Identifier: Apache-2.0
"""What could be written at a place, and which argument of which call stands there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from dsl.inference.inference import OPTIONAL_ROLES, ROLES
from dsl.linking.static import FUNCTIONS
from dsl.ops import OPS
from dsl.ops.spec import Required, Role
from dsl.text.words import language_words
from dsl.types import DTYPES
from porting.config.class_rules import causal_classes
from porting.planning.library import zoo_texts
from sohu.language_server import wording
from sohu.language_server.config_keys import keys_of
from sohu.language_server.cursor import Cursor, Frame
from sohu.language_server.scopes import NameKind
from sohu.language_server.view import View

_ITEMS = frozenset({"config", "dims", "mesh", "entry", "include"})
_OUTER = ("family", "block", "part", "use")
_CONFIG = ("require", "if")
_KINDS = ("dim", "int", "float", "bool", "string", "dtype")
_TYPED = frozenset({"input", "weight", "state", "output"})


class ItemKind(Enum):
    """What a proposal is, for the icon that an editor shows."""

    KEYWORD = "keyword"
    OPERATION = "operation"
    FUNCTION = "function"
    BLOCK = "block"
    PARAMETER = "parameter"
    NAME = "name"
    DIM = "dim"
    KEY = "key"
    VALUE = "value"
    TYPE = "type"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something that could be written; `text` is written where it is not the label."""

    label: str
    kind: ItemKind
    detail: str = ""
    markdown: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """The call around a place: how it is written, its parameters, and which of them is being given."""

    label: str
    parameters: tuple[str, ...]
    active: int
    markdown: str


def complete(cursor: Cursor, view: View, offset: int) -> tuple[Proposal, ...]:
    """Return what could be written at a cursor, the likely first; the view may be of the text as it was before."""
    if cursor.is_comment:
        return ()
    proposals = _in_string(view, cursor) if cursor.string is not None else _at(view, cursor, offset)
    return tuple({p.label: p for p in reversed(list(proposals))}.values())[::-1]


def signature(cursor: Cursor, view: View) -> Signature | None:
    """Return the signature of the call that a cursor is in, None outside of calls."""
    call = cursor.call
    if call is None:
        return None
    block = view.program.blocks.get(call.head)
    if block is not None:
        names = tuple(param.span.text for param in block.params)
        label = f"{call.head}({', '.join(names)})"
        return Signature(label, names, _active(call, names), wording.remark(block))
    if call.head not in OPS:
        return None
    spec = OPS[call.head]
    names = tuple(param.name for param in spec.params)
    return Signature(spec.signature, names, _active(call, names), spec.summary)


def _active(call: Frame, names: tuple[str, ...]) -> int:
    last = call.keywords[-1] if len(call.keywords) > 0 else ""
    plain = [name.partition(":")[0].strip() for name in names]
    if last in plain and call.commas + 1 >= len(call.keywords):
        return plain.index(last)
    return min(call.commas, max(len(names) - 1, 0))


def _at(view: View, cursor: Cursor, offset: int) -> Iterator[Proposal]:
    last = cursor.before[-1] if cursor.before else ""
    first = cursor.before[0] if cursor.before else ""
    names = _names(view, offset)
    if last == "@":
        yield from (p for p in names if p.detail.startswith(NameKind.MESH.value))
    elif last == "include":
        yield from (
            Proposal(name, ItemKind.BLOCK, "part", wording.declared(part))
            for name, part in view.program.parts.items()
        )
    elif last == ":":
        yield from _after_colon(cursor, first)
    elif cursor.begins:
        yield from _beginnings(cursor)
        yield from names
    elif cursor.section == "config" and "=" in cursor.before and "??" not in cursor.before:
        yield from (Proposal(k, ItemKind.KEY, about) for k, about in keys_of(view).items())
    else:
        yield from _parameters(view, cursor.call)
        yield from names
        yield from _callable(view)
        yield from _words(language_words().constants)


def _after_colon(cursor: Cursor, first: str) -> Iterator[Proposal]:
    if cursor.section == "dims":
        yield from (Proposal(r, ItemKind.VALUE, "role") for r in (*ROLES, *OPTIONAL_ROLES))
        return
    if first not in _TYPED:
        yield from (Proposal(kind, ItemKind.TYPE, "kind of parameter") for kind in _KINDS)
    yield Proposal("dtype", ItemKind.TYPE, "the model's own", text="dtype")
    for name in DTYPES:
        yield Proposal(name, ItemKind.TYPE, "data type", wording.dtype(name))


def _beginnings(cursor: Cursor) -> Iterator[Proposal]:
    if not cursor.section:
        yield from _words(_OUTER)
    elif cursor.section == "config":
        yield from _words(_CONFIG)
    elif cursor.section == "body":
        inner = language_words().beginnings - set(_OUTER)
        direct = [f.head for f in cursor.frames if f.bracket == "{"][-1] in ("family", "part")
        yield from _words(sorted(inner if direct else inner - _ITEMS))


def _words(words: Iterable[str]) -> Iterator[Proposal]:
    return (Proposal(word, ItemKind.KEYWORD, markdown=wording.word(word)) for word in words)


def _names(view: View, offset: int) -> list[Proposal]:
    proposals = []
    for name, mention in view.names_at(offset).items():
        kind = mention.bindings[-1].kind
        shown = view.shown(mention) if view.is_glanced else ""
        detail = f"{kind.value} {shown}" if shown and shown != name else kind.value
        icon = ItemKind.DIM if name[:1].isupper() else ItemKind.NAME
        proposals.append(Proposal(name, icon, detail.strip()))
    return proposals


def _parameters(view: View, call: Frame | None) -> Iterator[Proposal]:
    """Yield the parameters that a call has not been given by name."""
    if call is None:
        return
    block, given = view.program.blocks.get(call.head), set(call.keywords)
    if block is not None:
        for param in block.params:
            if param.name.id not in given:
                label = param.name.id
                yield Proposal(f"{label}=", ItemKind.PARAMETER, param.span.text)
    elif call.head in OPS:
        for own in OPS[call.head].params:
            if own.name not in given and not own.variadic:
                needed = "required" if isinstance(own.default, Required) else f"= {own.default}"
                about = wording.parameter(call.head, own)
                yield Proposal(
                    f"{own.name}=", ItemKind.PARAMETER, f"{own.role.value} {needed}", about
                )


def _callable(view: View) -> Iterator[Proposal]:
    for name, block in view.program.blocks.items():
        yield Proposal(name, ItemKind.BLOCK, "block", wording.declared(block))
    for name, spec in OPS.items():
        yield Proposal(name, ItemKind.OPERATION, spec.signature, wording.operation(spec))
    for name in FUNCTIONS:
        yield Proposal(name, ItemKind.FUNCTION, "of numbers")


def _in_string(view: View, cursor: Cursor) -> Iterator[Proposal]:
    first = cursor.before[0] if cursor.before else ""
    if first == "use":
        blocks = sorted(name for name in zoo_texts() if name.startswith("blocks/"))
        yield from (Proposal(f"{name}.sohu", ItemKind.FILE, "of the zoo") for name in blocks)
    elif first == "family":
        yield from (Proposal(n, ItemKind.VALUE, about) for n, about in causal_classes().items())
    elif cursor.call is not None and cursor.call.head in OPS:
        spec, keywords = OPS[cursor.call.head], cursor.call.keywords
        is_named = cursor.before[-1:] == ("=",) and keywords
        choices = [
            p
            for p in spec.params
            if p.role is Role.CHOICE and (not is_named or p.name == keywords[-1])
        ]
        yield from (Proposal(c, ItemKind.VALUE, p.name) for p in choices for c in p.choices)
