# SPDX-License-Identifier: Apache-2.0
"""Work spread over processes: everything comes back once, whatever happens to one of them."""

from __future__ import annotations

import os

import pytest

from farm.matrix import workers
from farm.matrix.workers import outcomes


def doubled(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    if number == 5:
        os._exit(1)
    return 2 * number


def test_rounds_outlive_mistakes_and_dead_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ITEMS_PER_WORKER", 4)
    found = dict(outcomes(doubled, list(range(10)), 2))
    assert set(found) == set(range(10))
    assert {n: x for n, x in found.items() if n not in (3, 5)} == {
        n: 2 * n for n in range(10) if n not in (3, 5)
    }
    assert isinstance(found[3], ValueError)
    assert isinstance(found[5], Exception)


def test_one_job_runs_here() -> None:
    assert list(outcomes(abs, [-1, 2], 1)) == [(-1, 1), (2, 2)]
