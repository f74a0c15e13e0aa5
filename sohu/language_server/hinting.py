# SPDX-License-Identifier: Apache-2.0
"""Shapes beside names: what the text does not say of a value, and the checker knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dsl.text import syntax as sx
from sohu.language_server.scopes import children
from sohu.language_server.view import View

MAX_LENGTH = 60
MAX_HINTS = 2_000


@dataclass(frozen=True, slots=True)
class Hint:
    """Words to show behind a place of a text."""

    offset: int
    text: str


def hints(view: View) -> tuple[Hint, ...]:
    """Return the types of values, and the values of what is computed from the config, in the order of the text."""
    shown: list[Hint] = []
    for assign in _assigns(view.file):
        for target in assign.targets:
            words = " or ".join(view.sightings(target.span))
            if words and words != assign.value.span.text and len(shown) < MAX_HINTS:
                sign = ": " if "[" in words else " = "
                shown.append(Hint(target.span.end, sign + _short(words)))
    return tuple(shown)


def _short(words: str) -> str:
    return words if len(words) <= MAX_LENGTH else f"{words[: MAX_LENGTH - 1]}…"


def _assigns(node: sx.Syntax) -> Iterator[sx.Assign]:
    if isinstance(node, sx.Assign):
        yield node
        return
    for child in children(node):
        yield from _assigns(child)
