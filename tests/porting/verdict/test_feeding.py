# SPDX-License-Identifier: Apache-2.0
"""Modes as data: every row is fed whole and in order, and long rows slowly across every switch."""

from __future__ import annotations

import pytest

from porting.verdict.feeding import BEYOND, MODES, PREFILL, RAGGED_LENGTHS, Feeding, Mode

LENGTHS = [*RAGGED_LENGTHS, 1112, 128]
SWITCHES = [11, 512, 1024]
each = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


def ends(feeding: Feeding, row: int) -> list[int]:
    return [end for piece in feeding.pieces() for r, _, end in piece if r == row]


@each
@pytest.mark.parametrize("lengths", [LENGTHS, [40, 17, 1, 33], [20, 5, 1, 20, 20]])
def test_rows_are_fed_from_start_to_end(mode: Mode, lengths: list[int]) -> None:
    for feeding in mode.feedings(lengths, SWITCHES):
        assert [sum(sizes) for sizes in zip(*feeding.steps, strict=True)] == [
            lengths[row] for row in feeding.rows
        ]


def test_prefill_feeds_every_row_once() -> None:
    rows = [row for feeding in PREFILL.feedings(LENGTHS, SWITCHES) for row in feeding.rows]
    assert sorted(rows) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("switch", [512, 1024])
def test_tokens_go_one_by_one_across_a_switch(switch: int) -> None:
    (mode,) = (mode for mode in MODES if mode.name == "token by token")
    long = next(f for f in mode.feedings(LENGTHS, SWITCHES) if f.rows == (4,))
    stops = ends(long, 4)
    assert set(range(switch - 1, switch + BEYOND + 1)) <= set(stops)
    assert len(stops) < 40


@pytest.mark.parametrize("switch", [512, 1024])
def test_some_chunk_holds_a_switch(switch: int) -> None:
    (mode,) = (mode for mode in MODES if mode.name.startswith("chunks"))
    long = next(f for f in mode.feedings(LENGTHS, SWITCHES) if f.rows == (4,))
    pieces = [(start, end) for piece in long.pieces() for _, start, end in piece]
    assert any(start < switch < end and end - start == 7 for start, end in pieces)


def test_short_switches_need_no_long_row() -> None:
    for mode in MODES[1:3]:
        assert [f.rows for f in mode.feedings(LENGTHS, [11])] == [(0,)]
