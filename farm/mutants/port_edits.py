# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the text of a port, one at a time: another length, another number, a switch the other way.

Most edits change one constant of the port's config, which is what a wrong reading of a key comes to; some what a
call is handed. Constants that are sizes are the checker's business: another size does not fit the tensors. What notices
an edit is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dsl.linking.static import show
from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.parser import parse
from farm.mutants.config_flips import WORDS

ACTIVATIONS = WORDS["act"]
UNTOUCHED = frozenset({"dtype"})
"""A port states how its tensors are stored; in f32 it does not matter."""
SCALED = 1.5
SWAPS = (
    ("router", "bias of the ranking", r"scores, be, top=", "scores, top="),
    ("router", "shares add up to 1", r"normalize=\w+", "normalize={not}"),
    ("router", "function of the scores", r"score=score", 'score="sigmoid"'),
    ("router", "order of choice and function", r"order=order", 'order="after"'),
    ("router", "gain of the shares", r"scale=gain", "scale=1.3"),
    ("router", "groups that are kept", r"top_groups=top_groups", "top_groups=groups"),
    ("length", "rotation beyond the original length", r"long=long_freqs", "long=freqs"),
    ("length", "amplitude beyond the original length", r"long_scale=amplitude", "long_scale=1.0"),
    ("length", "window", r"window=W\b", "window=0"),
    ("length", "chunk", r"chunk=\w+", "chunk=0"),
    ("positions", "offset of a table of positions", r"offset=(\d+)", "offset={next}"),
    ("positions", "positions of the rotation", r"(?<=freqs, )at=C\b", "at=C + 1"),
)
"""Mistakes that no constant of the config has: a kind, what is wrong, where it stands in a text, and what stands there
instead; `{not}` and `{next}` are made of what stood there."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A port's text with one mistake; `kind` says what sort of constant it was."""

    kind: str
    name: str
    was: str
    now: str
    text: str


def edits(text: str, lengths: Collection[int]) -> Iterator[Edit]:
    """Yield every edit of a port's text; a number that is one of the `lengths` is taken for a length."""
    family = parse(Source("model.sohu", text)).families[0]
    for bind in sx.binds(family):
        if bind.name.id in UNTOUCHED or bind.name.id.startswith("_"):
            continue
        for kind, other in _others(bind.value, lengths):
            start, end = bind.value.span.start, bind.value.span.end
            changed = text[:start] + other + text[end:]
            yield Edit(kind, bind.name.id, text[start:end], other, changed)
    for kind, name, pattern, now in SWAPS:
        yield from _swapped(text, kind, name, pattern, now)


def _swapped(text: str, kind: str, name: str, pattern: str, now: str) -> Iterator[Edit]:
    """Yield the text with every place that a pattern fits replaced, where there is one."""
    places = [match for match in re.finditer(pattern, text) if _is_used(text, match.start())]
    if not places:
        return
    changed = text
    for match in reversed(places):
        old = match.group(0)
        following = str(int(match.group(1)) + 1) if match.groups() else ""
        other = now.replace("{next}", following).replace("{not}", _opposite(old))
        changed = changed[: match.start()] + other + changed[match.end() :]
    yield Edit(kind, name, places[0].group(0), other, changed)


def _is_used(text: str, at: int) -> bool:
    """Tell whether a place is no comment."""
    return "#" not in text[text.rfind("\n", 0, at) + 1 : at]


def _opposite(old: str) -> str:
    value = old.partition("=")[2]
    return "false" if value != "false" else "true"


def _others(value: object, lengths: Collection[int]) -> Iterator[tuple[str, str]]:
    match value:
        case sx.Boolean(value=flag):
            yield "switch", show(not flag)
        case sx.Number(value=int(number)) if number in lengths:
            yield from (("length", show(n)) for n in _lengths(number))
        case sx.Number(value=int(number)):
            yield "whole number", show(number + 1 if number < 2 else number - 1)
        case sx.Number(value=number):
            yield "number", show(float(number) * SCALED if number else 0.5)
        case sx.String(value=word) if word in ACTIVATIONS:
            yield from (("word", show(w)) for w in ACTIVATIONS if w != word)
        case sx.Listing(items=items) if len(items) > 1 and show_all(items[0]) != show_all(
            items[-1]
        ):
            turned = (items[-1], *items[1:-1], items[0])
            yield "list", f"[{', '.join(map(show_all, turned))}]"


def _lengths(number: int) -> Iterator[int]:
    """Yield what a length is mistaken for: half, one off to both sides, twice, and none at all."""
    yield from (number // 2, number - 1, number + 1, 2 * number, 0)


def show_all(item: object) -> str:
    """Return an item of a list as it was written."""
    span = item.span if isinstance(item, sx.Syntax) else None
    return "" if span is None else span.source.text[span.start : span.end]
