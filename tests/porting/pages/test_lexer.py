# SPDX-License-Identifier: Apache-2.0
"""The Pygments lexer: found by its name, true to the text, of one mind with the parser about texts of the zoo."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pygments.token import Token

from dsl.text.parse_tables import grammar_parser
from dsl.text.words import language_words
from porting.pages.highlight import _PLAIN, _SHOWN, tokens
from porting.pages.lexer import TYPES, SohuLexer
from porting.planning.library import ZOO
from tests.test_architecture import ROOT

PATHS = sorted(ZOO.rglob("*.sohu"))
WORDS = {Token.Keyword, Token.Keyword.Declaration, Token.Keyword.Constant, Token.Operator.Word}
NAMES = {Token.Name, Token.Name.Constant, Token.Name.Function, Token.Keyword.Type}


@pytest.mark.parametrize("path", PATHS[::9], ids=lambda path: path.stem)
def test_the_parser_sees_the_same_words_names_and_values(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    words = language_words().all
    parsed = {
        token.start_pos: "word" if token.value in words else token.type
        for token in grammar_parser().lex(text)
        if token.value in words or token.type in {"NAME", "NUMBER", "STRING"}
    }
    lexed = {at: _as_parsed(type_) for at, type_, _ in split(text)}
    axes = {at for at, kind in parsed.items() if text[:at].rstrip().endswith("@")}
    assert {at: lexed.get(at) for at in parsed if at not in axes} == {
        at: kind for at, kind in parsed.items() if at not in axes
    }


def _as_parsed(type_: object) -> str:
    if type_ in WORDS:
        return "word"
    if type_ in NAMES:
        return "NAME"
    return {Token.Literal.Number: "NUMBER", Token.Literal.String.Double: "STRING"}.get(type_, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        'weight "open\n\x00@ 1.5e-3 é',
        '"{',
        '"{i\n"',
        '\r\n"a\r\n',
        "@\n",
        "x.{",
        "\f#\u2028",
    ],
)
def test_what_is_split_is_the_text(text: str) -> None:
    assert "".join(token for _, _, token in split(text)) == text
    assert "".join(token for _, token in tokens(text)) == text


def split(text: str) -> list[tuple[int, object, str]]:
    return list(SohuLexer().get_tokens_unprocessed(text))


def test_pygments_finds_it_where_the_project_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    plugins = project["project"]["entry-points"]["pygments.lexers"]
    assert EntryPoint("sohu", plugins["sohu"], "pygments.lexers").load() is SohuLexer
    assert SohuLexer.aliases == ["sohu"]
    assert SohuLexer.filenames == ["*.sohu"]


def test_every_kind_that_a_page_shows_has_a_colour() -> None:
    style = (ROOT / "porting/pages/templates/page.css").read_text(encoding="utf-8")
    shown = {_SHOWN.get(kind, kind) for kind in TYPES} - _PLAIN
    assert {kind.value for kind in shown if f".t-{kind.value} " not in style} == set()
