# SPDX-License-Identifier: Apache-2.0
"""The tree of a text that somebody is typing: where a statement has no syntax it is left out, and the rest stands.

Offsets are those of the text. What is wrong with it is the parser's first diagnostic; nothing here hides it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused
from dsl.source import Source, Span
from dsl.text import syntax as sx
from dsl.text.parser import count_words, parse
from dsl.text.schedules import is_schedule
from dsl.text.words import language_words
from sohu.api.checking import check_text

MAX_TRIES = 8
MAX_WORDS = 8_192
"""Longer texts are parsed once: each try takes as long as the first."""
MAX_LINES = 60
"""As long as one statement can be for its beginning to be looked for."""
_NEVER_CLOSED = "S103"
_MENDABLE = frozenset({"S101", "S102", _NEVER_CLOSED, "S104"})
_PIECE = re.compile(r'"[^"\n]*"?|#[^\n]*|[()\[\]]')
_ASSIGNS = re.compile(r"[A-Za-z_]\w*(?:[ \t]*,[ \t]*[A-Za-z_]\w*)*[ \t]+=[ \t]")
_WORD = re.compile(r"[A-Za-z_]\w*")
_BRANCH = "if true"


@dataclass(frozen=True, slots=True)
class Mended:
    """What is left of a text, None where nothing could be; and what the parser says of all of it."""

    file: sx.File | None
    faults: tuple[Diagnostic, ...]


def mended(source: Source) -> Mended:
    """Return the tree of a text, without the statements that have no syntax; a schedule has no tree, only faults."""
    if is_schedule(source.text):
        return Mended(None, check_text(source, Path()).diagnostics)
    try:
        return Mended(parse(source), ())
    except Refused as refused:
        faults = refused.diagnostics
    text, problem = source.text, faults[0]
    if count_words(text) > MAX_WORDS:
        return Mended(None, faults)
    for _ in range(MAX_TRIES):
        changed = _without(Source(source.name, text), problem)
        if changed is None or changed == text:
            break
        text = changed
        try:
            return Mended(parse(Source(source.name, text)), faults)
        except Refused as refused:
            problem = refused.diagnostics[0]
    return Mended(None, faults)


def _without(source: Source, problem: Diagnostic) -> str | None:
    """Return the text without what a diagnostic points at, None where that is no statement."""
    span = problem.span
    if span is None or problem.code not in _MENDABLE:
        return None
    if span.text == "{" and problem.code == _NEVER_CLOSED:
        return source.text + "\n}"
    if span.text == "}":
        return _blanked(source.text, span.start, span.end)
    for place in (span, *(label.span for label in problem.labels)):
        start, end = statement_at(source, place.start)
        if source.text[start:end].strip():
            return _blanked(source.text, start, end)
    return None


def _blanked(text: str, start: int, end: int) -> str:
    """Return a text with spaces for a stretch; a body that it opens becomes a branch that is always taken."""
    stretch = text[start:end]
    blank = "".join(char if char in "\r\n" else " " for char in stretch)
    if stretch.rstrip().endswith("{"):
        at = stretch.rindex("{")
        first = next(i for i, char in enumerate(stretch) if not char.isspace())
        if "\n" not in stretch[first:at] and at - first > len(_BRANCH):
            blank = f"{blank[:first]}{_BRANCH}{blank[first + len(_BRANCH) : at]}{{{blank[at + 1 :]}"
    return text[:start] + blank + text[end:]


def statement_at(source: Source, offset: int) -> tuple[int, int]:
    """Return where the lines of a statement begin and end, by its brackets and by how statements begin."""
    line, _ = source.position(offset)
    first = line
    while first > 0 and not _begins(source.line(first)) and _continues(source, first):
        first -= 1
    last, count = line, len(source.line_starts())
    while last + 1 < count and _open(source, first, last) and not _begins(source.line(last + 1)):
        last += 1
    starts = source.line_starts()
    end = starts[last + 1] - 1 if last + 1 < count else len(source.text)
    return starts[first], end


def _continues(source: Source, first: int) -> bool:
    """Tell whether the lines before the first one leave a bracket open for it: an argument stands on it."""
    back, depth = first - 1, 0
    while back >= 0 and first - back <= MAX_LINES:
        depth += _balance(source.line(back))
        if depth > 0:
            return True
        if _begins(source.line(back)):
            return False
        back -= 1
    return False


def _open(source: Source, first: int, last: int) -> bool:
    return sum(_balance(source.line(number)) for number in range(first, last + 1)) > 0


def _balance(line: str) -> int:
    """Return how many brackets a line opens more than it closes."""
    marks = [match[0] for match in _PIECE.finditer(line) if len(match[0]) == 1]
    return sum(1 if mark in "([" else -1 for mark in marks if mark in "()[]")


def _begins(line: str) -> bool:
    """Tell whether a line begins a statement, or ends a body."""
    shown = line.strip()
    word = _WORD.match(shown)
    beginning = word is not None and word[0] in language_words().beginnings
    return shown.startswith("}") or beginning or _ASSIGNS.match(shown) is not None


def words_at(text: str, offset: int) -> Span | None:
    """Return the word that a place is in, or stands at the end of."""
    source = Source("", text)
    line, column = source.position(offset)
    start = source.line_starts()[line]
    for match in _WORD.finditer(source.line(line)):
        if match.start() <= column <= match.end():
            return Span(source, start + match.start(), start + match.end())
    return None
