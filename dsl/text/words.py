# SPDX-License-Identifier: Apache-2.0
"""The words of the language, read off its grammar, and the patterns by which its tokens are told apart in colours.

One table serves the report's page, the Pygments lexer and the editors' grammar. It splits text that may be wrong or
unfinished; what a program means is the parser's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

from dsl.regular_file import read_shipped
from dsl.types import DTYPES

_RULE = re.compile(r"^\??(\w+): (.*(?:\n +\|.*)*)", re.MULTILINE)
_QUOTED = re.compile(r'"([a-z]+)"')
_STATEMENTS = "statement"
_NAME = "[A-Za-z_][A-Za-z0-9_]*"


class TokenKind(Enum):
    """What a piece of text is to a reader; the value names it in a page's style."""

    COMMENT = "comment"
    STRING = "string"
    HOLE = "hole"
    MESH = "mesh"
    NUMBER = "number"
    DECLARATION = "declaration"
    KEYWORD = "keyword"
    OPERATOR_WORD = "operator-word"
    CONSTANT = "constant"
    TYPE = "dtype"
    CALL = "op"
    DIM = "dim"
    NAME = "name"
    OPERATOR = "operator"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Words:
    """The words that are no names, by what they do."""

    declarations: frozenset[str]
    """Of sections: `family`, `config`, `include`."""
    keywords: frozenset[str]
    """Of statements: `weight`, `from`, `repeat`."""
    operators: frozenset[str]
    """Between values: `and`, `in`."""
    constants: frozenset[str]
    """Values: `true`."""
    beginnings: frozenset[str]
    """Those of the first two with which a declaration, an item or a statement begins."""

    @property
    def all(self) -> frozenset[str]:
        """Every word that cannot be a name."""
        return self.declarations | self.keywords | self.operators | self.constants


@lru_cache(maxsize=1)
def grammar() -> str:
    """Return the grammar's text, in the notation of Lark."""
    return read_shipped(Path(__file__).with_name("grammar.lark"))


@lru_cache(maxsize=1)
def language_words() -> Words:
    """Return the words of the grammar: a word belongs to the rules in which it stands, to statements first."""
    rules = dict(_RULE.findall(grammar()))
    quoted = {name: frozenset(_QUOTED.findall(body)) for name, body in rules.items()}
    statements = set(re.findall(r"\w+", rules[_STATEMENTS]))
    operators = _of(quoted, {name for name in rules if name.isupper()})
    constants = _of(quoted, {"atom"})
    keywords = _of(quoted, statements)
    declarations = _of(quoted, set(rules)) - operators - constants - keywords
    first = [_QUOTED.match(body) for name, body in rules.items() if not name.isupper()]
    beginnings = {match[1] for match in first if match} - _of(quoted, {"version"})
    return Words(declarations, keywords, operators, constants, frozenset(beginnings))


def _of(quoted: dict[str, frozenset[str]], rules: set[str]) -> frozenset[str]:
    return frozenset(word for name in rules for word in quoted.get(name, ()))


def string_patterns() -> tuple[str, str, str]:
    """Return how a string begins, what stands out in it (the hole of a layer's number), and how it ends."""
    return '"', r"\{" + _NAME + r"\}", '"|$'


@lru_cache(maxsize=1)
def patterns() -> tuple[tuple[TokenKind, str], ...]:
    """Return each token with its pattern, strings aside; the first that fits counts, and none crosses a line.

    They are understood alike by Python and by Oniguruma, the engine of the editors.
    """
    known = language_words()
    types = "|".join(sorted(DTYPES))
    return (
        (TokenKind.COMMENT, "#.*"),
        (TokenKind.MESH, rf"@[ \t]*{_NAME}"),
        (TokenKind.DECLARATION, _any(known.declarations)),
        (TokenKind.KEYWORD, _any(known.keywords)),
        (TokenKind.OPERATOR_WORD, _any(known.operators)),
        (TokenKind.CONSTANT, _any(known.constants)),
        (TokenKind.TYPE, rf"\b(?:dtype|{types})\b(?=[ \t]*\[)"),
        (TokenKind.CALL, rf"\b{_NAME}(?=[ \t]*\()"),
        (TokenKind.DIM, r"\b[A-Z][A-Z0-9_]*\b"),
        (TokenKind.NAME, rf"\b{_NAME}"),
        (TokenKind.NUMBER, r"\b[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
        (TokenKind.OPERATOR, r"->|\?\?|==|!=|<=|>=|//|[-+*/%<>=]"),
    )


def _any(several: frozenset[str]) -> str:
    return rf"\b(?:{'|'.join(sorted(several))})\b"
