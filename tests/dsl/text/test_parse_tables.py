# SPDX-License-Identifier: Apache-2.0
"""The tables that are shipped against a parser that lark makes of the grammar now: same trees, same refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lark import Lark
from lark.exceptions import UnexpectedInput, UnexpectedToken

from dsl.text.parse_tables import TABLES, grammar_parser, made_of, made_parser, tables_text
from tests.conftest import TESTS

ZOO = TESTS.parent / "model_zoo"
TEXTS = [
    *sorted(ZOO.glob("blocks/*.sohu")),
    *sorted(ZOO.glob("families/[a-d]*.sohu")),
    *sorted(ZOO.glob("ports/llama*.sohu")),
]
BROKEN = sorted(TESTS.glob("errors/S10*.sohu"))


@pytest.fixture(scope="module")
def made() -> Lark:
    return made_parser()


def test_the_tables_are_of_this_grammar_and_this_lark(request: pytest.FixtureRequest) -> None:
    # Their bytes depend on the order of sets: only what they are made of is compared, and below what they do.
    if request.config.getoption("--update-golden") and _shipped() != made_of():
        TABLES.write_text(tables_text(), encoding="utf-8")
    assert _shipped() == made_of(), "pytest --update-golden makes them anew"


def _shipped() -> object:
    return json.loads(TABLES.read_text(encoding="utf-8"))["made_of"]


@pytest.mark.parametrize("path", TEXTS, ids=[f"{p.parent.name}-{p.stem}" for p in TEXTS])
def test_a_text_has_the_same_tree(path: Path, made: Lark) -> None:
    text = path.read_text(encoding="utf-8")
    ours, theirs = grammar_parser().parse(text), made.parse(text)
    assert ours == theirs
    places = [[t.meta.__dict__ for t in tree.iter_subtrees_topdown()] for tree in (ours, theirs)]
    assert places[0] == places[1]


@pytest.mark.parametrize("path", BROKEN, ids=[p.stem for p in BROKEN])
def test_a_fault_is_found_at_the_same_place_with_the_same_expectations(
    path: Path, made: Lark
) -> None:
    text = path.read_text(encoding="utf-8")
    assert _fault(grammar_parser(), text) == _fault(made, text)


def _fault(parser: Lark, text: str) -> tuple[object, ...]:
    try:
        parser.parse(text)
    except UnexpectedToken as error:
        return type(error), error.pos_in_stream, frozenset(error.accepts)
    except UnexpectedInput as error:
        return type(error), error.pos_in_stream
    return ()


def test_tables_of_another_grammar_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "tables.json"
    other.write_text(json.dumps({"made_of": {"lark": "0", "grammar": ""}, "data": {}, "memo": {}}))
    monkeypatch.setattr("dsl.text.parse_tables.TABLES", other)
    grammar_parser.cache_clear()
    try:
        assert grammar_parser().parse("sohu 1.0\n") == made_parser().parse("sohu 1.0\n")
    finally:
        grammar_parser.cache_clear()
