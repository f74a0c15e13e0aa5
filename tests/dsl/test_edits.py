# SPDX-License-Identifier: Apache-2.0
"""The checker's power: seeded edits of the zoo that change a type must be caught, at the place where they were made.

`python -m benchmarks.edits` prints the full table and the survivors; this is a sample of it.
"""

from __future__ import annotations

import pytest

from benchmarks.seeded_edits import MAKERS, TYPED, Outcome, edits, outcome

SEED, EACH = 7, 8
BAR = 0.95


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [outcome(edit) for edit in edits(SEED, EACH)]


def test_every_kind_of_edit_is_made(outcomes: list[Outcome]) -> None:
    assert {o.edit.kind for o in outcomes} == set(MAKERS)


def test_edits_of_types_are_caught(outcomes: list[Outcome]) -> None:
    typed = [o for o in outcomes if o.edit.kind in TYPED]
    survivors = [(o.edit.file, o.edit.kind, o.edit.what) for o in typed if not o.caught]
    count = len(typed)
    assert len(survivors) <= (1 - BAR) * count, survivors


def test_diagnostics_point_at_the_edited_line(outcomes: list[Outcome]) -> None:
    caught = [o for o in outcomes if o.caught]
    elsewhere = [(o.edit.file, o.edit.kind, o.edit.what) for o in caught if not o.pointed]
    count = len(caught)
    assert len(elsewhere) <= (1 - BAR) * count, elsewhere
