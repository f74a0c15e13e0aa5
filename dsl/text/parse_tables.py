# SPDX-License-Identifier: Apache-2.0
"""The parser of the grammar, from tables that are made once: making them takes longer than reading a long text.

`tables.json` is generated, and a test compares it with the grammar. Another lark than the one that made it, or another
grammar, makes its own. What a tree means is not here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import lark
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from dsl.regular_file import read_shipped
from dsl.text.words import grammar

TABLES = Path(__file__).with_name("tables.json")


@lru_cache(maxsize=1)
def grammar_parser() -> Lark:
    """Return the parser of the language."""
    tables = json.loads(read_shipped(TABLES))
    if tables["made_of"] != made_of():
        return made_parser()
    # lark's own way for parsers that stand alone; the public one reads pickles.
    load: Callable[[object, object], Lark] = Lark._load_from_dict  # noqa: SLF001
    return load(_numbered(tables["data"]), _by_number(tables["memo"]))


def tables_text() -> str:
    """Return what `tables.json` holds, made from the grammar."""
    data, memo = made_parser().memo_serialize([TerminalDef, Rule])
    return json.dumps({"made_of": made_of(), "data": data, "memo": memo}, indent=None) + "\n"


def made_parser() -> Lark:
    """Return the parser, made from the grammar now."""
    return Lark(grammar(), parser="lalr", propagate_positions=True)


def made_of() -> dict[str, str]:
    """Return what tables depend on: the version of lark, and a digest of the grammar."""
    return {"lark": lark.__version__, "grammar": sha256(grammar().encode()).hexdigest()}


def _by_number(mapping: Mapping[str, Any]) -> dict[int, Any]:
    """Return a mapping whose keys are numbers again, which JSON has as text."""
    return {int(key): value for key, value in mapping.items()}


def _numbered(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return lark's data with the numbers of its parse table."""
    parser = data["parser"]
    table = parser["parser"]
    states = {state: _by_number(row) for state, row in _by_number(table["states"]).items()}
    numbered = {**table, "tokens": _by_number(table["tokens"]), "states": states}
    return {**data, "parser": {**parser, "parser": numbered}}
