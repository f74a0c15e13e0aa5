# SPDX-License-Identifier: Apache-2.0
"""What people write from habit gets a help that says what this language has in its place; sound texts are let alone."""

from __future__ import annotations

import pytest

from dsl.diagnostics import Diagnostic, Refused
from dsl.linking.static import FUNCTIONS
from dsl.ops import OPS
from dsl.source import Source
from dsl.text import habits
from dsl.text.parser import parse
from tests.dsl.snippets import family

# What is written in a family's body, and a part of the help.
WRITTEN = {
    "y = x ** 2": "pow(x, 2)",
    "y = x ^ 2": "pow(x, 2)",
    "y = x @ w": "matmul(x, w)",
    "for i in range(L) {\n}": "repeat i < L carry x",
    "for i in range(L):\n  x = silu(x)": "repeat i < L carry x",
    "while i < L {\n}": "repeat i < L carry x",
    "let y = x": "by `name = …` alone",
    "assert D > 1": "require",
    "if D > 1:\n  x = silu(x)": "braces",
    "if D > 1 {\n} elif D > 2 {\n}": "else if",
    "if D is 1 {\n}": "`==`",
    "if D is not 1 {\n}": "`!=`",
    "if D not in [1] {\n}": "not (… in …)",
    "if D > 1 && D < 3 {\n}": "`and`",
    "if D < 1 || D > 3 {\n}": "`or`",
    "if !D {\n}": "`not`",
    "x += x": "in full",
    "y = x.transpose(1, 2)": "by its name alone",
    "y = torch.silu(x)": "by its name alone",
    "y = silu(x) if D > 1 else x": "no `if`",
    "y = x[:, 1]": "slice",
    "y = silu(x) // look up": "`#`",
    "y = x * 1_000": "without `_`",
    'weight w: bf16[D] from f"w.{i}"': "before it",
    "weight w: bf16[D] from «w»": "straight quotes",
    "y = x × 2": "`*`",
    "y = x − 2": "`-`",
    "require D ≥ 2": "`>=`",
}


def fault(text: str) -> Diagnostic:
    with pytest.raises(Refused) as refused:
        parse(Source("habit.sohu", text))
    (diagnostic,) = refused.value.diagnostics
    return diagnostic


@pytest.mark.parametrize(("written", "help_"), WRITTEN.items())
def test_a_habit_gets_its_help(written: str, help_: str) -> None:
    diagnostic = fault(family(written))
    assert diagnostic.code in ("S101", "S102")
    assert help_ in diagnostic.help


@pytest.mark.parametrize("word", ["def", "fn", "import", "class"])
def test_a_declaration_of_another_language_is_named(word: str) -> None:
    diagnostic = fault(f"sohu 1.0\n\n{word} silu(x):\n  return x\n")
    assert diagnostic.message == f"`{word}` begins no statement"
    assert diagnostic.span is not None
    assert diagnostic.span.text == word
    assert diagnostic.help


@pytest.mark.parametrize(
    "text", ["", "\n", "# A comment.\n", 'use "a.sohu"\n', "A (b :) c\n", '{"a": [1}', "sohu\n"]
)
def test_a_text_without_its_first_line_is_told_of_it(text: str) -> None:
    diagnostic = fault(text)
    assert diagnostic.code == "S101"
    assert diagnostic.help == habits.FIRST_LINE


def test_names_that_are_words_elsewhere_are_names_here() -> None:
    body = "for = silu(x)\nlet, def = split(for, axis=2, sizes=[1, 1])\nis = let\nlambda = is"
    parse(Source("names.sohu", family(body)))


def test_what_helps_name_exists() -> None:
    assert set(OPS) >= {"matmul", "slice", "split", "silu"}
    assert "pow" in FUNCTIONS
