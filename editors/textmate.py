# SPDX-License-Identifier: Apache-2.0
"""The TextMate grammar of the language, from the patterns of `dsl/text/words.py`.

It colours. What is an operation, a block or a mistake, the checker knows.
"""

from __future__ import annotations

import json

from dsl.text.words import TokenKind, patterns, string_patterns

ROOT_SCOPE = "source.sohu"
FENCE = "fenced_code_block_sohu"
SCOPES = {
    TokenKind.COMMENT: "comment.line.number-sign",
    TokenKind.STRING: "string.quoted.double",
    TokenKind.HOLE: "constant.other.placeholder",
    TokenKind.MESH: "entity.other.attribute-name",
    TokenKind.NUMBER: "constant.numeric",
    TokenKind.DECLARATION: "storage.type",
    TokenKind.KEYWORD: "keyword.control",
    TokenKind.OPERATOR_WORD: "keyword.operator.logical",
    TokenKind.CONSTANT: "constant.language.boolean",
    TokenKind.TYPE: "support.type",
    TokenKind.CALL: "entity.name.function",
    TokenKind.DIM: "variable.other.constant",
    TokenKind.NAME: "variable.other",
    TokenKind.OPERATOR: "keyword.operator",
}
"""Scopes that the themes at hand colour; every kind but `OTHER` has one."""


def grammar_json() -> str:
    """Return `sohu.tmLanguage.json`."""
    begin, hole, end = string_patterns()
    string = {
        "name": _scope(TokenKind.STRING),
        "begin": begin,
        "end": end,
        "patterns": [{"name": _scope(TokenKind.HOLE), "match": hole}],
    }
    plain = [{"name": _scope(kind), "match": pattern} for kind, pattern in patterns()]
    return _json(
        {
            "name": "Sohu",
            "scopeName": ROOT_SCOPE,
            "fileTypes": ["sohu"],
            "patterns": [string, *plain],
        }
    )


def markdown_json() -> str:
    """Return the grammar that colours blocks of `sohu` inside of Markdown."""
    fence = {
        "name": "markup.fenced_code.block.markdown",
        "begin": r"(^|\G)(\s*)(`{3,}|~{3,})\s*(?i:(sohu)(?=\s|$))",
        "end": r"(^|\G)(\2|\s{0,3})(\3)\s*$",
        "patterns": [
            {
                "begin": r"(^|\G)(\s*)(.*)",
                "while": r"(^|\G)(?!\s*([`~]{3,})\s*$)",
                "contentName": "meta.embedded.block.sohu",
                "patterns": [{"include": ROOT_SCOPE}],
            }
        ],
    }
    return _json(
        {
            "scopeName": "markdown.sohu.codeblock",
            "fileTypes": [],
            "injectionSelector": "L:text.html.markdown",
            "patterns": [{"include": f"#{FENCE}"}],
            "repository": {FENCE: fence},
        }
    )


def _scope(kind: TokenKind) -> str:
    return f"{SCOPES[kind]}.sohu"


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


FILES = {
    "syntaxes/sohu.tmLanguage.json": grammar_json,
    "syntaxes/sohu.markdown.json": markdown_json,
}
"""The generated files of the extension's folder."""
