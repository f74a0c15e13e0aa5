# SPDX-License-Identifier: Apache-2.0
"""The canonical layout: every text of the tree has it, and what it looks like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dsl.source import Source
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from porting.planning.library import ZOO
from tests.conftest import TESTS

ROOT = TESTS.parent
# Texts with a fault of syntax have no layout; those beneath other folders are not ours.
FILES = sorted(
    path
    for folder in (ZOO, TESTS, ROOT / "dsl", ROOT / "benchmarks")
    for path in folder.rglob("*.sohu")
    if not re.match(r"S1\d\d_", path.name)
)


def formatted(text: str) -> str:
    return format_file(parse(Source("test.sohu", text)))


def body(*lines: str) -> str:
    return "\n".join(["sohu 1.0", "", 'family f for "F" {', *(f"  {x}" for x in lines), "}", ""])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_text_of_the_tree_is_canonical(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    file = parse(Source(path.name, text))
    assert format_file(file) == text
    assert parse(Source(path.name, format_file(file))) == file


def test_runs_are_aligned() -> None:
    assert formatted(body(
        'weight a: bf16[D] from "a"', 'weight long: f32[D, F @tp] from "b"', "state k: bf16[C]",
        "state keys: bf16[C]", "x = a",
    )) == body(
        'weight a:    bf16[D]       from "a"', 'weight long: f32[D, F @tp] from "b"',
        "state k:    bf16[C]", "state keys: bf16[C]", "x = a",
    )  # fmt: skip


def test_a_blank_line_or_a_comment_ends_a_run() -> None:
    for between in ("", "# why"):
        text = body('weight a: bf16[D] from "a"', between, 'weight long: bf16[D] from "b"')
        assert formatted(text) == text.replace("\n  \n", "\n\n")


def test_one_blank_line_is_kept_of_many() -> None:
    text = body("x = a", "y = b").replace("a\n", "a\n\n\n\n")
    assert formatted(text) == body("x = a", "y = b").replace("a\n", "a\n\n")


def test_no_blank_line_stands_at_the_edges_of_a_body() -> None:
    text = body("", "", "x = a", "", "")
    assert formatted(text) == body("x = a")


def test_comments_keep_their_places() -> None:
    text = (
        '# head\nsohu 1.0  # version\n\n# above\nfamily f for "F" {  # open\n  # first\n'
        "  x = a   # short\n  longer = b  # aligned\n\n  # last\n}  # closed\n\n# end\n"
    )  # fmt: skip
    assert formatted(text) == text.replace("x = a   #", "x = a       #")


def test_an_empty_else_is_left_out() -> None:
    assert formatted(body("if a {", "  x = b", "} else { }")) == body("if a {", "  x = b", "}")


def test_else_if_is_a_chain_and_a_lone_if_in_else_is_not() -> None:
    chain = body("if a {", "  x = b", "} else if c {", "  x = d", "} else {", "  x = e", "}")
    assert formatted(chain) == chain
    nested = body("if a {", "  x = b", "} else {", "  if c {", "    x = d", "  }", "}")
    assert formatted(nested) == nested


def test_long_calls_break_once() -> None:
    arguments = ", ".join(f"argument_{i}=value_{i}" for i in range(8))
    text = formatted(body(f"x = y + call({arguments})"))
    assert max(map(len, text.splitlines())) <= 100
    assert text.splitlines()[3].endswith("x = y + call(")
    assert formatted(text) == text


def test_groups_are_printed_where_they_matter() -> None:
    for line in ("x = (a + b) * c", "x = a - (b - c)", "x = -(a + b)", "x = (a == b) == c",
                 "x = not (a and b)", "x = a // (b * c)", "x = (not a) + b"):  # fmt: skip
        assert formatted(body(line)) == body(line)
    assert formatted(body("x = ((a) * (b)) + (c)")) == body("x = a * b + c")


def test_sizes_are_printed_without_spaces() -> None:
    assert formatted(body("input x: bf16[ H * E @tp , C+1 ]")) == body(
        "input x: bf16[H*E @tp, C + 1]"
    )


def test_trailing_commas_go() -> None:
    assert formatted(body("x = f(a, b,)", "y = [1, 2,]")) == body("x = f(a, b)", "y = [1, 2]")
