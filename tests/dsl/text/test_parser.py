# SPDX-License-Identifier: Apache-2.0
"""Texts to trees: what is found, what is said of what is wrong, and where."""

from __future__ import annotations

import pytest

from dsl.diagnostics import Diagnostic, Refused
from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.parser import HUMAN, parse, terminals

KEYWORDS = {
    *("SOHU", "USE", "FAMILY", "FOR", "CONFIG", "DIMS", "MESH", "ENTRY", "BLOCK", "INPUT", "WEIGHT"),
    *("FROM", "STATE", "OUTPUT", "REPEAT", "CARRY", "IF", "ELSE", "REQUIRE", "RETURN", "TRUE", "FALSE"),
    "INCLUDE", "PART", "UNUSED", "BECAUSE",
}  # fmt: skip


def fault(text: str) -> Diagnostic:
    """Return the one thing that is wrong with a text."""
    with pytest.raises(Refused) as refused:
        parse(Source("test.sohu", text))
    (diagnostic,) = refused.value.diagnostics
    return diagnostic


def place(text: str) -> str:
    """Return the text of the line up to the place of the fault, and the fault in brackets."""
    span = fault(text).span
    assert span is not None
    row, column = span.source.position(span.start)
    return f"{row + 1}: {span.source.line(row)[:column]}[{span.text}]"


def statement(line: str) -> sx.Statement:
    """Return the statement that a line is."""
    file = parse(Source("test.sohu", f'sohu 1.0\nfamily f for "F" {{\n{line}\n}}\n'))
    (item,) = file.families[0].items
    assert isinstance(item, sx.Statement)
    return item


def expression(text: str) -> sx.Expr:
    found = statement(f"x = {text}")
    assert isinstance(found, sx.Assign)
    return found.value


def body(*lines: str) -> str:
    return "\n".join(["sohu 1.0", 'family f for "F" {', *(f"  {line}" for line in lines), "}"])


def test_every_terminal_has_a_human_name() -> None:
    assert {
        name for name in terminals() - KEYWORDS if not name.startswith("__IGNORE")
    } <= HUMAN.keys()
    assert {name.lower() for name in KEYWORDS} == {name.lower() for name in terminals() & KEYWORDS}


def test_no_human_name_is_left_over() -> None:
    assert HUMAN.keys() - {"$END"} <= terminals()


@pytest.mark.parametrize(
    ("written", "grouped"),
    [
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a // b % c", "(a // b) % c"),
        ("-a * b", "(-a) * b"),
        ("not a == b", "not (a == b)"),
        ("a or b and c", "a or (b and c)"),
        ("a and not b in c", "a and (not (b in c))"),
        ("a + b < c * d", "(a + b) < (c * d)"),
        ("f(a + b)[c]"[:8], "f((a + b))"),
    ],
)
def test_precedence(written: str, grouped: str) -> None:
    assert expression(written) == expression(grouped)
    assert expression(written) != expression("(((z)))")


@pytest.mark.parametrize(
    "word", ["inputs", "stateful", "ifs", "repeats", "input_", "truest", "in1"]
)
def test_a_name_may_begin_with_a_keyword(word: str) -> None:
    assert statement(f"{word} = x") == statement(f"{word} = (x)")


def test_a_keyword_begins_its_statement() -> None:
    assert fault(body("state = 3")).code == "S101"


def test_spans_cover_what_was_written() -> None:
    found = statement('weight w: bf16[H*E @tp, D] from "a.{i}"')
    assert isinstance(found, sx.WeightSyntax)
    assert found.span.text == 'weight w: bf16[H*E @tp, D] from "a.{i}"'
    assert [a.size.span.text for a in found.type.axes] == ["H*E", "D"]
    assert found.type.axes[0].shards[0].span.text == "tp"
    assert found.source.span.text == '"a.{i}"'


def test_an_operator_has_a_place_of_its_own() -> None:
    found = expression("a +  b")
    assert isinstance(found, sx.Binary)
    assert found.operator_span.text == "+"


def test_equality_ignores_places_and_groups() -> None:
    assert expression("f( a,b )") == expression("f(a, (b))")


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (("weight w: bf16[D]", "x = y"), "3:   weight w: bf16[D[]]"),
        (("repeat i < L {", "}"), "3:   repeat i < L [{]"),
        (("repeat i < L carry {", "}"), "3:   repeat i < L carry [{]"),
        (("if a = b {", "}"), "3:   if a [=]"),
        (("x = f(a, b c)",), "3:   x = f(a, b [c]"),
        (("x = f(a", "y = b"), "3:   x = f[(]"),
        (("x = a]",), "3:   x = a[]]"),
        (("x = a ! b",), "3:   x = a [!]"),
        (("x = 'a'",), "3:   x = [']"),
        (('x = "a',), '3:   x = ["]'),
        (("x = a +", "output y: bf16[] = x"), "3:   x = a [+]"),
        (("x = a +  # and", "# what", "weight y: bf16[] from z"), "3:   x = a [+]"),
        (("x = (a,", "input y: bf16[]"), "3:   x = [(]"),
        (("statte k: bf16[C]",), "3:   [statte]"),
        (("x = y", "requir a == b"), "4:   [requir]"),
        (("} els {", "}"), "3:   } [els]"),
        (("input x bf16[B]",), "3:   input x [bf16]"),
        (("input x: bf16",), "3:   input x: bf1[6]"),
        (("dims { B batch }",), "3:   dims { B [batch]"),
        (("x = 99999999999999999999",), "3:   x = [99999999999999999999]"),
    ],
)
def test_the_place_of_a_fault(lines: tuple[str, ...], where: str) -> None:
    text = body(*lines)
    if lines[0].startswith("}"):
        text = body("if a {", *lines).replace("  } els", "} els")
        where = "4: } [els]"
    assert place(text) == where


def test_what_was_found_instead_is_shown_on_its_line() -> None:
    found = fault(body("weight w: bf16[D]", "x = y"))
    assert [(x.span.text, x.text) for x in found.labels] == [("x", "found this instead")]


def test_an_open_bracket_is_shown_with_what_came_first() -> None:
    found = fault(body("x = f(a", "y = b"))
    assert found.message == "`(` is never closed"
    assert [x.text for x in found.labels] == ["`}` comes first"]


def test_the_brace_that_indentation_misses_is_the_open_one() -> None:
    found = fault(body("repeat i < L carry x {", "  x = silu(x)", "y = x"))
    assert found.span is not None
    assert found.span.source.position(found.span.start)[0] == 2


def test_indentation_does_not_matter_where_braces_match() -> None:
    parse(Source("test.sohu", 'sohu 1.0\n   family f for "F" {\n config {\nD = d\n}\n}'))


@pytest.mark.parametrize(
    ("lines", "help_"),
    [
        (("if a = b {", "}"), "write `==` to compare"),
        (("x = y;",), "statements need no separator"),
        (("x = 'a'",), 'strings are written "like this"'),
        (("wieght w: bf16[] from x",), "did you mean `weight`?"),
        (("weight w: bf16[] form x",), "did you mean `from`?"),
        (("repeat i < L cary x {", "}"), "did you mean `carry`?"),
    ],
)
def test_the_help_names_the_fix(lines: tuple[str, ...], help_: str) -> None:
    assert fault(body(*lines)).help == help_


def test_comments_are_found_wherever_they_stand() -> None:
    file = parse(Source("c.sohu", '# a\nsohu 1.0 # b\n# c\nfamily f for "#F" { # d\n} # e\n#f'))
    assert [(c.text, c.trailing) for c in file.comments] == [
        ("# a", False), ("# b", True), ("# c", False), ("# d", True), ("# e", True), ("#f", False),
    ]  # fmt: skip
    assert file.families[0].architectures[0].value == "#F"


def test_numbers_are_ascii() -> None:
    assert fault(body("x = y * \u0663")).code == "S102"
