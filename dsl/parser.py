"""Text to syntax tree, with lark.

No step recurses over hostile nesting; sizes and depths are capped. Only syntax is
checked: the first error is reported and parsing stops.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

from dsl import syntax as sx
from dsl.diagnostics import Diagnostic, Label, Refused, did_you_mean
from dsl.source import Source, Span
from dsl.tree_builder import TreeBuilder

MAX_CHARACTERS = 1_000_000
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
    "__ANON_0": "`->`",
    "__ANON_1": "`??`",
    "$END": "the end of the file",
    "COMMENT": "a comment",
}
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_SCAN = re.compile(r'"[^"\n]*"|#[^\n]*|[()\[\]{}]')
# An expression can go on after these; naming them all would bury what is missing.
_CODE = re.compile(r'"[^"\n]*"|#[^\n]*|[A-Za-z0-9_.]+|[^\s]')
_CONTINUATIONS = frozenset({"PLUS", "MINUS", "MUL", "CMP", "LT", "GT", "OR", "AND", "IN", "AT"})


def parse(source: Source) -> sx.File:
    """Return the syntax tree of a text; raises `Refused` with one S1xx diagnostic."""
    if len(source.text) > MAX_CHARACTERS:
        size = f"{len(source.text)} characters; the limit is {MAX_CHARACTERS}"
        raise Refused((Diagnostic("S106", f"the file is too large: {size}", place=source.name),))
    comments = _scan(source)
    try:
        tree = _lark().parse(source.text)
    except UnexpectedToken as error:
        raise Refused((_unexpected_token(source, error),)) from None
    except UnexpectedCharacters as error:
        raise Refused((_unexpected_character(source, error),)) from None
    try:
        file: sx.File = TreeBuilder(source, comments).transform(tree)
    except VisitError as error:
        raise error.orig_exc from None
    return file


def terminals() -> frozenset[str]:
    """Return the names of the grammar's terminals."""
    return frozenset(t.name for t in _lark().terminals)


@lru_cache(maxsize=1)
def _lark() -> Lark:
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True)


def _scan(source: Source) -> tuple[sx.Comment, ...]:
    """Return the comments; refuse brackets that nest too deep or do not match."""
    open_brackets: list[tuple[str, Span]] = []
    comments: list[sx.Comment] = []
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
            _close(open_brackets, mark, span)
    if open_brackets:
        raise Refused((_never_closed(*open_brackets[-1]),))
    return tuple(comments)


def _comment(source: Source, text: str, span: Span) -> sx.Comment:
    line, column = source.position(span.start)
    return sx.Comment(text.rstrip(), span, bool(source.line(line)[:column].strip()))


def _close(open_brackets: list[tuple[str, Span]], mark: str, span: Span) -> None:
    if not open_brackets:
        raise Refused((Diagnostic("S103", f"`{mark}` closes nothing", span),))
    opened, where = open_brackets[-1]
    if opened != _BRACKETS[mark]:
        label = Label(span, f"`{mark}` comes first")
        raise Refused((_never_closed(opened, where, label),))
    open_brackets.pop()


def _never_closed(bracket: str, span: Span, *labels: Label) -> Diagnostic:
    return Diagnostic("S103", f"`{bracket}` is never closed", span, labels=labels)


def _unexpected_token(source: Source, error: UnexpectedToken) -> Diagnostic:
    token: Token = error.token
    if token.type == "$END":
        span = Span(source, len(source.text), len(source.text))
        found = "the end of the file"
    else:
        span = Span(source, token.start_pos or 0, token.end_pos or 0)
        found = f"`{token}`"
    accepted = set(error.accepts or error.expected or ())
    expected = _expected(accepted)
    previous = _previous_token_end(source, span)
    message = f"expected {expected}, found {found}"
    if source.position(span.start)[0] == source.position(max(previous - 1, 0))[0]:
        return Diagnostic("S101", message, span, help=_hint(str(token), accepted))
    # The fault is at the end of the line before; the next line's first word is innocent.
    place = Span(source, max(previous - 1, 0), previous)
    labels = (Label(span, "found this instead"),)
    return Diagnostic("S101", message, place, labels=labels, help=_hint(str(token), accepted))


def _expected(accepted: set[str]) -> str:
    essential = sorted(accepted - _CONTINUATIONS) or sorted(accepted)
    words = [HUMAN.get(name, f"`{name.lower()}`") for name in essential]
    words.sort(key=lambda word: (word.startswith("`"), word))
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _hint(found: str, accepted: set[str]) -> str:
    keywords = [name.lower() for name in accepted if name not in HUMAN]
    if found == "=" and "CMP" in accepted:
        return "write `==` to compare"
    if found == ";":
        return "statements need no separator"
    return did_you_mean(found, keywords)


def _previous_token_end(source: Source, span: Span) -> int:
    end = 0
    for match in _CODE.finditer(source.text, 0, span.start):
        if not match.group().startswith("#"):
            end = match.end()
    return end


def _unexpected_character(source: Source, error: UnexpectedCharacters) -> Diagnostic:
    at: int = error.pos_in_stream  # type: ignore[assignment]  # lark declares no type
    span = Span(source, at, at + 1)
    char = source.text[at]
    if char == '"':
        return Diagnostic("S102", "a string must close on its own line", span)
    helps = {";": "statements need no separator", "'": 'strings are written "like this"'}
    shown = char if char.isprintable() else f"U+{ord(char):04X}"
    return Diagnostic("S102", f"`{shown}` has no meaning here", span, help=helps.get(char, ""))
