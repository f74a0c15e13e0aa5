# SPDX-License-Identifier: Apache-2.0
"""Every word and dtype of the language is in the table that colours, editors and hints are made from."""

from __future__ import annotations

import re

import pytest

from dsl.text.parse_tables import grammar_parser
from dsl.text.words import TokenKind, language_words, patterns
from dsl.types import DTYPES


def test_the_words_are_those_that_the_parser_reads() -> None:
    spelled = {terminal.pattern.value for terminal in grammar_parser().terminals}
    assert language_words().all == {word for word in spelled if re.fullmatch("[a-z]+", word)}


def test_a_word_is_of_one_kind() -> None:
    words = language_words()
    kinds = (words.declarations, words.keywords, words.operators, words.constants)
    assert sum(map(len, kinds)) == len(words.all)
    assert words.beginnings < words.declarations | words.keywords


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("declarations", "include"),
        ("declarations", "entry"),
        ("keywords", "unused"),
        ("keywords", "because"),
        ("keywords", "if"),
        ("operators", "in"),
        ("constants", "true"),
        ("beginnings", "entry"),
    ],
)
def test_kinds_of_words(kind: str, word: str) -> None:
    assert word in getattr(language_words(), kind)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_a_type_before_its_axes(dtype: str) -> None:
    pattern = dict(patterns())[TokenKind.TYPE]
    assert re.match(pattern, f"{dtype}[B]")
    assert not re.match(pattern, f"{dtype} = 1")
