# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a text, where an editor shows it, and what it can be replaced with at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Severity, meant
from dsl.inference.inference import check, check_block
from dsl.source import Span
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from dsl.text.schedules import format_schedule, is_schedule
from sohu.language_server.positions import Shift
from sohu.language_server.shelf import first_line
from sohu.language_server.view import View

UNUSED = "S215"
_SIGNS = {"write `==` to compare": "==", "statements need no separator": ""}
"""What a help line has written for the sign that it is about."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A diagnostic at a place of the text; what it points at in other files is `elsewhere`."""

    diagnostic: Diagnostic
    span: Span
    elsewhere: tuple[tuple[Span, str], ...] = ()

    @property
    def is_error(self) -> bool:
        """Tell whether it refuses the text."""
        return self.diagnostic.severity is Severity.ERROR

    @property
    def is_unused(self) -> bool:
        """Tell whether it is about something that nothing uses."""
        return self.diagnostic.code == UNUSED

    @property
    def message(self) -> str:
        """Return the diagnostic in full, without its excerpt of the text."""
        d = self.diagnostic
        head = f"{d.message} ({d.constraint})" if d.constraint else d.message
        beside = [f"{d.text}"] if d.text else []
        helps = [f"help: {d.help}"] if d.help else []
        return "\n".join([head, *beside, *(f"note: {note}" for note in d.notes), *helps])


@dataclass(frozen=True, slots=True)
class Repair:
    """A replacement for a stretch of the text, from a diagnostic's help."""

    title: str
    finding: Finding
    span: Span
    text: str


def syntax_findings(view: View) -> tuple[Finding, ...]:
    """Return what the parser says."""
    return tuple(_placed(view, d) for d in view.mended.faults)


def quick_findings(view: View) -> tuple[Finding, ...]:
    """Return what is wrong on the first paths, or with the syntax, or with the files that are used."""
    if view.mended.faults:
        return syntax_findings(view)
    return _all_placed(view, [*view.linked.faults, *view.glanced[1]])


def whole_findings(view: View) -> tuple[Finding, ...]:
    """Return what is wrong on every path, as `sohu check` does."""
    if view.mended.faults or view.linked.faults:
        return quick_findings(view)
    program = view.program
    if program.families:
        checked = [check(family, program.blocks) for family in program.families]
    else:
        checked = [check_block(block, program.blocks) for block in program.file.blocks]
    return _all_placed(view, [d for one in checked for d in one.diagnostics])


def _all_placed(view: View, diagnostics: Sequence[Diagnostic]) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys(_placed(view, diagnostic) for diagnostic in diagnostics))


def _placed(view: View, diagnostic: Diagnostic) -> Finding:
    """Return a diagnostic at its place, or where the text uses the file that it is in."""
    labels = tuple((label.span, label.text) for label in diagnostic.labels)
    span = diagnostic.span
    if span is not None and span.source.name == view.name:
        return Finding(diagnostic, span, labels)
    first = first_line(view.file) if view.has_tree else Span(view.source, 0, 0)
    if span is None:
        return Finding(diagnostic, first, labels)
    uses = (use.path.span for use in view.file.uses if span.source.name.endswith(use.path.value))
    return Finding(diagnostic, next(uses, first), ((span, diagnostic.message), *labels))


def repairs(findings: Sequence[Finding], start: int, end: int) -> tuple[Repair, ...]:
    """Return what the findings of a stretch can be replaced with."""
    touched = [f for f in findings if f.span.start <= end and start <= f.span.end]
    made = (_repair(finding) for finding in touched)
    return tuple(repair for repair in made if repair is not None)


def _repair(finding: Finding) -> Repair | None:
    help_, span = finding.diagnostic.help, finding.diagnostic.span
    if span is None or span != finding.span:
        return None
    word = meant(help_)
    if word:
        is_string = span.text.startswith('"')
        text = f'"{word}"' if is_string and not word.startswith('"') else word
        return Repair(f"Replace by `{word}`", finding, span, text)
    sign = next((sign for said, sign in _SIGNS.items() if help_ == said), None)
    if sign is None or len(span.text) != 1:
        return None
    return Repair(f"Replace by `{sign}`" if sign else f"Remove `{span.text}`", finding, span, sign)


def formatted(view: View) -> tuple[Span, str] | None:
    """Return what `sohu fmt` would replace and by what, None where nothing or where the text has no syntax."""
    if view.mended.faults:
        return None
    schedule = is_schedule(view.text)
    new = format_schedule(view.source) if schedule else format_file(parse(view.source))
    if new == view.text:
        return None
    shift = Shift.between(view.text, new)
    return Span(view.source, shift.start, shift.old_end), new[shift.start : shift.new_end]
