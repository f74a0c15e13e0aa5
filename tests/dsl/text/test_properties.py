# SPDX-License-Identifier: Apache-2.0
"""Properties of parsing and formatting, on programs drawn from the grammar."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings

from dsl.source import Source
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from tests.strategies import laid_out, scattered

drawn = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def parsed(text: str):
    return parse(Source("drawn.sohu", text))


@drawn
@given(laid_out())
def test_formatting_and_parsing_gives_the_same_program(text: str) -> None:
    file = parsed(text)
    formatted = format_file(file)
    again = parsed(formatted)
    assert again == file
    assert format_file(again) == formatted


@drawn
@given(scattered())
def test_formatting_keeps_meaning_and_comments(text: str) -> None:
    file = parsed(text)
    formatted = format_file(file)
    again = parsed(formatted)
    assert again.declarations == file.declarations
    assert Counter(c.text for c in again.comments) == Counter(c.text for c in file.comments)
    assert format_file(again) == formatted
