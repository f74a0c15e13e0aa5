# SPDX-License-Identifier: Apache-2.0
"""The language's lexer for Pygments, by the patterns of `dsl/text/words.py`: for pages, notebooks, Sphinx and `rich`.

It fails on nothing: what is no token is passed on as text, since wrong programs are shown too.
"""

from __future__ import annotations

from typing import ClassVar

from pygments.lexer import RegexLexer
from pygments.token import Token

from dsl.text.words import TokenKind, patterns, string_patterns

TYPES = {
    TokenKind.COMMENT: Token.Comment.Single,
    TokenKind.STRING: Token.Literal.String.Double,
    TokenKind.HOLE: Token.Literal.String.Interpol,
    TokenKind.MESH: Token.Name.Decorator,
    TokenKind.NUMBER: Token.Literal.Number,
    TokenKind.DECLARATION: Token.Keyword.Declaration,
    TokenKind.KEYWORD: Token.Keyword,
    TokenKind.OPERATOR_WORD: Token.Operator.Word,
    TokenKind.CONSTANT: Token.Keyword.Constant,
    TokenKind.TYPE: Token.Keyword.Type,
    TokenKind.CALL: Token.Name.Function,
    TokenKind.DIM: Token.Name.Constant,
    TokenKind.NAME: Token.Name,
    TokenKind.OPERATOR: Token.Operator,
    TokenKind.OTHER: Token.Text,
}


def _states() -> dict[str, list[tuple[str, object] | tuple[str, object, str]]]:
    begin, hole, end = string_patterns()
    string, other = TYPES[TokenKind.STRING], TYPES[TokenKind.OTHER]
    return {
        "root": [
            (r"\n", Token.Text.Whitespace),
            (r"[^\S\n]+", Token.Text.Whitespace),
            (begin, string, "string"),
            *((pattern, TYPES[kind]) for kind, pattern in patterns()),
            (r"[^\n]", other),
        ],
        "string": [
            (hole, TYPES[TokenKind.HOLE]),
            (r'[^"\n{]+|\{', string),
            (rf"(?m:{end})", string, "#pop"),
        ],
    }


class SohuLexer(RegexLexer):  # type: ignore[misc]  # Pygments ships no types
    """Split `.sohu` text into Pygments' tokens; put together, they are the text."""

    name = "Sohu"
    aliases: ClassVar = ["sohu"]
    filenames: ClassVar = ["*.sohu"]
    mimetypes: ClassVar = ["text/x-sohu"]
    tokens: ClassVar = _states()
