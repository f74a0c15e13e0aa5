# SPDX-License-Identifier: Apache-2.0
"""Which rows are judged: enough of them, across every length that is affordable, without special tokens."""

from __future__ import annotations

import numpy as np
import pytest

from porting.original.lengths import config_lengths, config_tokens
from porting.verdict.feeding import RAGGED_LENGTHS
from porting.verdict.rows import BUDGET, TOKENS, Length, Row, Size, Wanted, sample_rows, select

SMALL = Size(parameters=10_000, heads=2, vocabulary=101)


def length(at: int) -> Length:
    return Length(at, "window of attention", at + at // 16 + 24)


def test_a_small_model_has_a_thousand_tokens() -> None:
    rows = select(SMALL, [], None, Wanted()).rows
    assert sum(map(len, rows)) >= TOKENS
    assert [len(row) for row in rows[:4]] == list(RAGGED_LENGTHS)


@pytest.mark.parametrize("at", [11, 127, 512, 1000, 4096])
def test_every_affordable_length_is_crossed(at: int) -> None:
    selection = select(SMALL, [length(at)], None, Wanted())
    assert [x.length for x in selection.crossed] == [at]
    assert max(map(len, selection.rows)) > at
    assert selection.dear == ()


def test_one_row_crosses_all() -> None:
    selection = select(SMALL, [length(512), length(4096)], None, Wanted())
    assert len([row for row in selection.rows if len(row) > 128]) == 1
    assert [x.length for x in selection.crossed] == [512, 4096]


def test_what_is_too_dear_is_named() -> None:
    large = Size(parameters=int(BUDGET / 2 / 400), heads=2, vocabulary=101)
    selection = select(large, [length(100), length(512)], None, Wanted())
    assert [x.length for x in selection.crossed] == [100]
    assert [x.length for x in selection.dear] == [512]
    assert sum(map(len, selection.rows)) < 600


def test_no_row_is_longer_than_the_positions() -> None:
    selection = select(
        SMALL, [Length(40, "the last row of a table of positions", 40)], 40, Wanted()
    )
    assert max(map(len, selection.rows)) == 40
    assert [x.length for x in selection.crossed] == [40]


def test_random_rows_leave_out_special_tokens_and_own_rows_stay() -> None:
    own = Row("own tokens 1", np.array([1, 2, 3]))
    wanted = Wanted(own=(own,), texts=((1, 5, 500),), special=frozenset(range(50)))
    rows = select(SMALL, [], None, wanted).rows
    drawn = {int(t) for row in rows if row.name.startswith("random") for t in row.tokens}
    assert min(drawn) >= 50
    assert own in rows
    assert next(row for row in rows if row.name == "text 1").tokens.tolist() == [1, 5]


def test_two_draws_differ_and_one_is_the_same_each_time() -> None:
    first, again, other = (
        select(SMALL, [], None, Wanted(seed=seed)).rows[4].tokens for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_the_first_rows_are_those_of_every_command() -> None:
    special = frozenset({3, 4})
    rows = select(SMALL, [], None, Wanted(special=special)).rows
    for row, tokens in zip(rows, sample_rows(101, special), strict=False):
        assert (row.tokens == tokens).all()


def test_lengths_of_a_config_are_read_by_their_names() -> None:
    config = {
        "sliding_window": 1000,
        "attention_chunk_size": None,
        "max_window_layers": 3,
        "use_sliding_window": True,
        "chunk_size_feed_forward": 64,
        "max_position_embeddings": 8192,
        "rope_parameters": {"original_max_position_embeddings": 512, "rope_type": "yarn"},
        "id2label": {0: "a"},
    }
    assert set(config_lengths(config)) == {1000, 512}
    dynamic = {"max_position_embeddings": 64, "rope_parameters": {"rope_type": "dynamic"}}
    assert config_lengths(dynamic) == {64: "max_position_embeddings"}


def test_special_tokens_of_a_config_are_found_at_every_level() -> None:
    config = {"pad_token_id": 0, "eos_token_id": [1, 2], "text_config": {"image_token_id": 9}}
    assert config_tokens(config) == {0, 1, 2, 9}


def test_a_row_that_no_memory_holds_is_not_allowed() -> None:
    wide = Size(parameters=10, heads=32, vocabulary=101)
    assert wide.allows(wide.longest)
    assert not wide.allows(wide.longest + 1)
    assert not wide.allows(10**30)
