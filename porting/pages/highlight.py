# SPDX-License-Identifier: Apache-2.0
"""Colours for `.sohu` text on a page: tokens as HTML, everything escaped.

The lexer splits the text; here tokens get the names that the page's style has for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from markupsafe import Markup, escape

from dsl.text.words import TokenKind
from porting.pages.lexer import TYPES, SohuLexer

_KINDS = {type_: kind for kind, type_ in TYPES.items()}
# What looks alike on a page.
_SHOWN = {TokenKind.OPERATOR_WORD: TokenKind.KEYWORD, TokenKind.CONSTANT: TokenKind.NUMBER}
_PLAIN = frozenset({TokenKind.OTHER, TokenKind.NAME, TokenKind.OPERATOR})


def highlight(text: str) -> list[Markup]:
    """Return each line of a `.sohu` text as HTML."""
    lines = [Markup()]
    for kind, run in groupby(tokens(text), itemgetter(0)):
        first, *rest = "".join(token for _, token in run).split("\n")
        lines[-1] += _element(kind, first)
        lines += [_element(kind, line) for line in rest]
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def tokens(text: str) -> Iterator[tuple[TokenKind, str]]:
    """Yield each token with its kind; put together, the tokens are the text."""
    for _, type_, token in SohuLexer().get_tokens_unprocessed(text):
        kind = _KINDS.get(type_, TokenKind.OTHER)
        yield _SHOWN.get(kind, kind), token


def _element(kind: TokenKind, token: str) -> Markup:
    if kind in _PLAIN or not token:
        return escape(token)
    return Markup('<span class="t-{}">{}</span>').format(kind.value, token)
