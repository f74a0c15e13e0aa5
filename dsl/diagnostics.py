# SPDX-License-Identifier: Apache-2.0
"""Diagnostics: errors as values, and their text for people.

A `Diagnostic` states a fact, shows where and with which values, and may suggest a fix. Printing, colours and exit codes
belong to the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from itertools import islice

from dsl.harmless import harmless, harmless_line
from dsl.source import Span

MAX_LINE = 160
_MEANT = re.compile(r"did you mean `([^`\n]+)`\?")
MARGIN = 60
MAX_NAME, MAX_CANDIDATES = 128, 400  # what a suggestion may cost


class Severity(Enum):
    """How bad it is: an error refuses the input, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Label:
    """A second place that matters, with a few words about it."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fact about the user's input.

    `text` stands beside the carets; `place` names where when there is no text to point into (a tensor, a file);
    `constraint` is the number of the violated rule of an operation.
    """

    code: str
    message: str
    span: Span | None = None
    text: str = ""
    place: str = ""
    severity: Severity = Severity.ERROR
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: str = ""
    constraint: str = ""

    def __str__(self) -> str:
        return render(self)

    def as_dict(self) -> dict[str, object]:
        """Return the diagnostic as JSON data."""
        data: dict[str, object] = {
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
            "span": self.span.as_dict() if self.span else None,
            "notes": list(self.notes),
            "labels": [{"span": x.span.as_dict(), "text": x.text} for x in self.labels],
        }
        optional = {"place": self.place, "help": self.help, "constraint": self.constraint}
        return data | {key: value for key, value in optional.items() if value}


class Refused(Exception):
    """The input is refused; carries every diagnostic found."""

    __module__ = "sohu"  # the name under which it is caught, and which a traceback shows

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in self.diagnostics))

    def __reduce__(self) -> tuple[type[Refused], tuple[tuple[Diagnostic, ...]]]:
        """Return how another process makes it again: from its diagnostics, not from its text."""
        return type(self), (self.diagnostics,)


def refuse(code: str, message: str, *, place: str = "", help: str = "") -> Refused:
    """Return the exception that refuses an input for one reason without a source text."""
    return Refused((Diagnostic(code, message, place=place, help=help),))


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 name`, `2 names`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return a help line that names the closest candidate, or nothing."""
    if len(name) > MAX_NAME:
        return ""
    known = [c for c in islice(candidates, MAX_CANDIDATES) if len(c) <= MAX_NAME]
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""


def meant(help: str) -> str:
    """Return the candidate that `did_you_mean` names in a help line, nothing where it names none."""
    match = _MEANT.fullmatch(help)
    return match[1] if match else ""


def near(name: str, places: Mapping[str, Span]) -> tuple[Label, ...]:
    """Return labels at the names closest to an unknown one: either may be the misspelt one."""
    return tuple(
        Label(places[close], f"`{close}` is bound here")
        for close in get_close_matches(name, list(places), n=2)
    )


def render(diagnostic: Diagnostic) -> str:
    """Return a diagnostic as text with its source lines and carets; nothing in it is obeyed by a terminal."""
    head = f"{diagnostic.severity.value}[{diagnostic.code}]: {diagnostic.message}"
    if diagnostic.constraint:
        head = f"{head}  ({diagnostic.constraint})"
    lines = [head]
    if diagnostic.span is not None:
        lines += _excerpt(diagnostic.span, diagnostic.text, diagnostic.labels)
    elif diagnostic.place:
        lines.append(f"  --> {diagnostic.place}")
    lines += [f"   = note: {note}" for note in diagnostic.notes]
    if diagnostic.help:
        lines.append(f"   = help: {diagnostic.help}")
    return harmless("\n".join(lines))


def render_all(diagnostics: Sequence[Diagnostic]) -> str:
    """Return several diagnostics as text, a blank line between two."""
    return "\n\n".join(render(d) for d in diagnostics)


def _excerpt(span: Span, text: str, labels: Sequence[Label]) -> list[str]:
    line, column = span.source.position(span.start)
    marks = [(span, "^", text)] + [(x.span, "-", x.text) for x in labels]
    elsewhere = [m for m in marks if m[0].source is not span.source]
    here = sorted((m for m in marks if m[0].source is span.source), key=lambda m: m[0].start)
    lines = [f"  --> {span.source.name}:{line + 1}:{column + 1}"]
    lines += _marked(here)
    for other, mark, words in elsewhere:
        row, start = other.source.position(other.start)
        lines.append(f"  ::: {other.source.name}:{row + 1}:{start + 1}")
        lines += _marked([(other, mark, words)])
    return lines


def _marked(marks: Sequence[tuple[Span, str, str]]) -> list[str]:
    rows: Mapping[int, list[tuple[int, int, str, str]]] = _by_line(marks)
    width = max(len(str(row + 1)) for row in rows)
    lines = [f"{' ' * width} |"]
    source = marks[0][0].source
    for row, entries in rows.items():
        text, shift = _window(source.line(row), min(entry[0] for entry in entries))
        lines.append(f"{row + 1:>{width}} | {harmless_line(text)}")
        for start, length, mark, words in entries:
            at = start - shift
            if at < len(text) or start == shift + len(text):
                caret = mark * max(1, min(length, len(text) - at))
                lines.append(f"{' ' * width} | {' ' * at}{caret} {words}".rstrip())
    return lines


def _window(line: str, start: int) -> tuple[str, int]:
    """Return the part of a long line around a place, and how far it is shifted."""
    if len(line) <= MAX_LINE or start < MAX_LINE - MARGIN:
        return line[:MAX_LINE], 0
    first = start - MARGIN
    return f"…{line[first + 1 : first + MAX_LINE]}", first


def _by_line(
    marks: Sequence[tuple[Span, str, str]],
) -> dict[int, list[tuple[int, int, str, str]]]:
    rows: dict[int, list[tuple[int, int, str, str]]] = {}
    for span, mark, words in marks:
        row, start = span.source.position(span.start)
        end_row, end = span.source.position(span.end)
        length = end - start if end_row == row else len(span.source.line(row)) - start
        rows.setdefault(row, []).append((start, length, mark, words))
    return dict(sorted(rows.items()))
