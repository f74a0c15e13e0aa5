# SPDX-License-Identifier: Apache-2.0
"""Text to syntax tree, with lark.

No step recurses over hostile nesting; sizes and depths are capped. Only syntax is
checked: the first error is reported and parsing stops.
"""

from __future__ import annotations

import re

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

from dsl.diagnostics import Diagnostic, Label, Refused, did_you_mean
from dsl.source import Source, Span
from dsl.text import syntax as sx
from dsl.text.habits import FIRST_LINE, habit_at, help_with_character
from dsl.text.parse_tables import grammar_parser
from dsl.text.tree_builder import TreeBuilder
from dsl.text.words import language_words

MAX_CHARACTERS = 250_000
MAX_WORDS = 24_576
"""Eight times the longest text of the zoo; a second of parsing."""
MAX_NESTING = 64

# What a person calls each terminal; a test checks that every terminal has a row.
HUMAN: dict[str, str] = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    "VERSION": "a version such as `1.0`",
    "CMP": "a comparison",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "MUL": "`*`",
    "LT": "`<`",
    "GT": "`>`",
    "OR": "`or`",
    "AND": "`and`",
    "NOT": "`not`",
    "IN": "`in`",
    "EQUAL": "`=`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "DOT": "`.`",
    "AT": "`@`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "__ANON_0": "`??`",
    "__ANON_1": "`->`",
    "$END": "the end of the file",
    "COMMENT": "a comment",
}
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_SCAN = re.compile(r'"[^"\n]*"|#[^\n]*|[()\[\]{}]')
# An expression can go on after these; naming them all would bury what is missing.
_CODE = re.compile(r'"[^"\n]*"|#[^\n]*|[A-Za-z0-9_.]+|[^\s]')
_CONTINUATIONS = frozenset({"PLUS", "MINUS", "MUL", "CMP", "LT", "GT", "OR", "AND", "IN", "AT"})
_AFTER_NAME = frozenset({"LPAR", "LSQB"})  # of a call or an index, where no expression can begin
_UNFINISHED = re.compile(r"([-+*/%<>=(,\[]|\b(?:and|or|not|in|from|if))$")
_CALCULATING = frozenset({"PLUS", "MINUS", "MUL", "LPAR", "LSQB"})
_BLANK = re.compile(r"(?:\s+|#[^\n]*)*")
_FIRST_WORD = re.compile(r"[ \t]*([a-z]+)")


def parse(source: Source) -> sx.File:
    """Return the syntax tree of a text; raises `Refused` with one S1xx diagnostic."""
    if len(source.text) > MAX_CHARACTERS:
        size = f"{len(source.text)} characters; the limit is {MAX_CHARACTERS}"
        raise Refused((Diagnostic("S106", f"the file is too large: {size}", place=source.name),))
    if (words := count_words(source.text)) > MAX_WORDS:
        size = f"{words:,} names, numbers and signs; the limit is {MAX_WORDS:,}"
        raise Refused((Diagnostic("S106", f"the file is too large: {size}", place=source.name),))
    _begun(source)
    comments = _scan(source)
    try:
        tree = grammar_parser().parse(source.text)
    except UnexpectedToken as error:
        raise Refused((_unexpected_token(source, error),)) from None
    except UnexpectedCharacters as error:
        raise Refused((_unexpected_character(source, error),)) from None
    try:
        file: sx.File = TreeBuilder(source, comments).transform(tree)
    except VisitError as error:
        raise error.orig_exc from None
    return file


def _begun(source: Source) -> None:
    """Refuse a text of something else, before anything that follows from that is said of it."""
    blank = _BLANK.match(source.text)
    start = blank.end() if blank else 0
    first = _CODE.match(source.text, start)
    if first is None:
        shown, span = "the end of the file", Span(source, start, start)
    elif first[0] == "sohu" or not first[0].isascii():
        return
    else:
        shown, span = f"`{first[0]}`", Span(source, *first.span())
    message = f"expected `sohu`, found {shown}"
    raise Refused((Diagnostic("S101", message, span, help=FIRST_LINE),))


def count_words(text: str) -> int:
    """Return how many names, numbers and signs a text has, comments aside; parsing takes as long as these are many."""
    return sum(1 for match in _CODE.finditer(text) if match[0][0] != "#")


def terminals() -> frozenset[str]:
    """Return the names of the grammar's terminals."""
    return frozenset(t.name for t in grammar_parser().terminals)


def _scan(source: Source) -> tuple[sx.Comment, ...]:
    """Return the comments; refuse brackets that nest too deep or do not match."""
    open_brackets: list[tuple[str, Span]] = []
    comments: list[sx.Comment] = []
    suspect: Diagnostic | None = None
    for match in _SCAN.finditer(source.text):
        mark, span = match.group(), Span(source, match.start(), match.end())
        if mark[0] == "#":
            comments.append(_comment(source, mark, span))
        elif mark in "([{":
            open_brackets.append((mark, span))
            if len(open_brackets) > MAX_NESTING:
                message = f"brackets nest deeper than {MAX_NESTING}"
                raise Refused((Diagnostic("S105", message, span),))
        elif mark in _BRACKETS:
            opened = _close(open_brackets, mark, span)
            if suspect is None and mark == "}" and _indent(span) < _indent(opened):
                suspect = _never_closed("{", opened, Label(span, "`}` comes first"))
    if open_brackets:
        raise Refused((suspect or _never_closed(*open_brackets[-1]),))
    return tuple(comments)


def _comment(source: Source, text: str, span: Span) -> sx.Comment:
    line, column = source.position(span.start)
    return sx.Comment(text.rstrip(), span, bool(source.line(line)[:column].strip()))


def _close(open_brackets: list[tuple[str, Span]], mark: str, span: Span) -> Span:
    opened, where = open_brackets[-1] if open_brackets else ("", span)
    if _BRACKETS[mark] not in (b for b, _ in open_brackets):
        labels = (Label(where, "open here"),) if _same_line(where, span) and opened else ()
        raise Refused((Diagnostic("S103", f"`{mark}` closes nothing", span, labels=labels),))
    if opened != _BRACKETS[mark]:
        label = Label(span, f"`{mark}` comes first")
        raise Refused((_never_closed(opened, where, label),))
    open_brackets.pop()
    return where


def _same_line(a: Span, b: Span) -> bool:
    return a.source.position(a.start)[0] == b.source.position(b.start)[0]


def _indent(span: Span) -> int:
    """Return how far the line of a place is indented: a brace closes what stands as far to the right."""
    line = span.source.line(span.source.position(span.start)[0])
    return len(line) - len(line.lstrip())


def _never_closed(bracket: str, span: Span, *labels: Label) -> Diagnostic:
    return Diagnostic("S103", f"`{bracket}` is never closed", span, labels=labels)


def _unexpected_token(source: Source, error: UnexpectedToken) -> Diagnostic:
    token: Token = error.token
    at_end = token.type == "$END"
    span = Span(source, token.start_pos or 0, token.end_pos or 0)
    if at_end:
        span = Span(source, len(source.text), len(source.text))
    accepted = set(error.accepts or error.expected or ())
    before = _previous_token(source, span.start)
    first = language_words().beginnings
    unfinished = _unfinished_line(source, span)
    if unfinished is not None:
        return unfinished
    habit, shown_by = habit_at(source, span.start) or habit_at(source, before.end) or (None, span)
    if habit is not None and habit.begins and shown_by.text not in first:
        message = f"`{shown_by.text}` begins no statement"
        return Diagnostic("S101", message, shown_by, help=habit.help)
    if accepted <= {"EQUAL", "COMMA"} and not at_end:
        help_ = "" if habit else did_you_mean(before.text, sorted(first | {"else"}))
        if help_ and before.text not in first:
            return Diagnostic("S101", f"`{before.text}` begins no statement", before, help=help_)
    shown = "the end of the file" if at_end else f"`{token}`"
    message = f"expected {_expected(accepted)}, found {shown}"
    help_ = habit.help if habit else _hint(token, accepted)
    if _same_line(span, before):
        return Diagnostic("S101", message, span, help=help_)
    # The fault is at the end of the line before; the next line's first word is innocent.
    place = Span(source, max(before.end - 1, 0), before.end)
    labels = () if at_end else (Label(span, "found this instead"),)
    return Diagnostic("S101", message, place, labels=labels, help=help_)


def _unfinished_line(source: Source, span: Span) -> Diagnostic | None:
    """Return the fault of a line that ends in an operator, so that a keyword was taken for its operand."""
    row, _ = source.position(span.start)
    start = source.line_starts()[row]
    first = _FIRST_WORD.match(source.text, start)
    last = _previous_token(source, start)
    if (
        first is None
        or first.group(1) not in language_words().beginnings
        or not _UNFINISHED.search(last.text)
    ):
        return None
    word = Span(source, *first.span(1))
    labels = (Label(word, "found this instead"),)
    message = f"expected a value after `{last.text}`, found `{word.text}`"
    return Diagnostic("S101", message, last, labels=labels)


def _expected(accepted: set[str]) -> str:
    going_on = _CONTINUATIONS if "NUMBER" in accepted else _CONTINUATIONS | _AFTER_NAME
    essential = sorted(accepted - going_on) or sorted(accepted)
    words = [HUMAN.get(name, f"`{name.lower()}`") for name in essential]
    words.sort(key=lambda word: (word.startswith("`"), word))
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _hint(token: Token, accepted: set[str]) -> str:
    word, keywords = str(token), [name.lower() for name in accepted if name not in HUMAN]
    if accepted == {"VERSION"}:
        return FIRST_LINE
    if word == "=" and "CMP" in accepted:
        return "write `==` to compare"
    if token.type in _CALCULATING and {"REQUIRE", "DOT"} <= accepted:
        return "the config section binds keys and literals; compute where the value is used"
    return did_you_mean(word, keywords)


def _previous_token(source: Source, before: int) -> Span:
    """Return the last token that ends before an offset."""
    start = end = 0
    for match in _CODE.finditer(source.text, 0, before):
        if not match.group().startswith("#"):
            start, end = match.span()
    return Span(source, start, end)


def _unexpected_character(source: Source, error: UnexpectedCharacters) -> Diagnostic:
    at: int = error.pos_in_stream  # type: ignore[assignment]  # lark declares no type
    span = Span(source, at, at + 1)
    char = source.text[at]
    if char == '"':
        return Diagnostic("S102", "a string must close on its own line", span)
    habit = habit_at(source, at)
    help_ = help_with_character(char) or (habit[0].help if habit else "")
    shown = char if char.isprintable() else f"U+{ord(char):04X}"
    return Diagnostic("S102", f"`{shown}` has no meaning here", span, help=help_)
