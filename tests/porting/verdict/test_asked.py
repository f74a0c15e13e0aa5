# SPDX-License-Identifier: Apache-2.0
"""Rows that people ask for: prompts and tokens of theirs, text where there is a tokenizer, none where there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsl.diagnostics import Refused
from porting.origin.resolve import resolve
from porting.text.tokenizer import load_tokenizer
from porting.verdict.asked import TEXT_TOKENS, OwnRows, own_rows, wanted_rows


def test_the_demo_is_judged_on_text_with_its_special_tokens() -> None:
    folder = resolve("demo").directory
    wanted = wanted_rows(folder, own_rows(["Paris is"], []))
    codec = load_tokenizer(folder)
    assert [row.name for row in wanted.own] == ["own prompt 1"]
    assert wanted.own[0].tokens.tolist() == codec.encode_chat("Paris is")
    plain, chat = wanted.texts
    assert plain[:3] == tuple(codec.encode("The quick brown"))
    assert chat[0] == codec.encode_chat("x")[0] != codec.encode("x")[0]
    assert max(len(plain), len(chat)) <= TEXT_TOKENS
    assert len(set(plain) | set(chat)) > 80


def test_a_folder_without_a_tokenizer_has_no_text(tmp_path: Path) -> None:
    assert wanted_rows(tmp_path, OwnRows()).texts == ()
    with pytest.raises(Refused):
        wanted_rows(tmp_path, own_rows(["Paris is"], []))


@pytest.mark.parametrize("tokens", [[[1.5]], [], [[[1]]], [["a"]], [[1, 2], [3]], 7, [2**63]])
def test_what_is_no_row_of_tokens_is_refused(tokens: object) -> None:
    with pytest.raises(Refused) as caught:
        own_rows([], [tokens])  # type: ignore[list-item]  # as a caller might
    assert caught.value.diagnostics[0].code == "S532"


def test_one_row_or_several() -> None:
    rows = own_rows([], [[1, 2], [[3, 4], [5, 6]]]).tokens
    assert [row.tolist() for row in rows] == [[1, 2], [3, 4], [5, 6]]
