"""Colours for `.sohu` text on a page: tokens as HTML, everything escaped.

It splits text into words and never fails: wrong programs are shown too. What a program means is the parser's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

from dsl.types import DTYPES

DECLARATIONS = frozenset({"sohu", "use", "family", "block", "for", "config", "dims", "mesh"})
STATEMENTS = frozenset(
    {
        "input", "weight", "state", "output", "from", "repeat", "carry", "if", "else", "require", "return",
        "and", "or", "not", "in",
    }
)  # fmt: skip
LITERALS = frozenset({"true", "false"})

_TOKEN = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
  | (?P<string>"[^"\n]*"?)
  | (?P<mesh>@\s*[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<newline>\n)
  | (?P<other>[^\n\w"\#@]+|.)
    """,
    re.VERBOSE,
)
_HOLE = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")


def highlight(text: str) -> list[Markup]:
    """Return each line of a `.sohu` text as HTML."""
    lines = [Markup()]
    for kind, token in tokens(text):
        if kind == "newline":
            lines.append(Markup())
        else:
            lines[-1] += _element(kind, token)
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield each token with its kind; put together, the tokens are the text."""
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind == "word":
            kind = _word(match.group(), text, match.end())
        yield kind, match.group()


def _word(word: str, text: str, end: int) -> str:
    follows = text[end : end + 1]
    if word in DECLARATIONS:
        return "declaration"
    if word in STATEMENTS:
        return "keyword"
    if word in LITERALS:
        return "number"
    if word in DTYPES and follows == "[":
        return "dtype"
    if follows == "(":
        return "op"
    return "dim" if word[0].isupper() and word.isupper() else "name"


def _element(kind: str, token: str) -> Markup:
    if kind in {"other", "name"}:
        return escape(token)
    inner = _string(token) if kind == "string" else escape(token)
    return Markup('<span class="t-{}">{}</span>').format(kind, inner)


def _string(token: str) -> Markup:
    """Return a string with its holes marked, so that `{i}` stands out in a tensor's name."""
    parts, start = Markup(), 0
    for hole in _HOLE.finditer(token):
        parts += escape(token[start : hole.start()])
        parts += Markup('<span class="t-hole">{}</span>').format(hole.group())
        start = hole.end()
    return parts + escape(token[start:])
