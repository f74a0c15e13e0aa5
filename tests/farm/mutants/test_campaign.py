# SPDX-License-Identifier: Apache-2.0
"""The page on the harness: shares, survivors with reasons, gaps without."""

from __future__ import annotations

import pytest

from farm.mutants import campaign
from farm.mutants.campaign import Measured, as_markdown, gaps, share_caught
from farm.mutants.config_flips import DEAD, SILENT, Flip
from farm.mutants.detection import Finding

CAUGHT = Finding("llama", "theta lost", "prefill", "random 48", 0.1, 0.999, "rope", True)
SURVIVOR = Finding("llama", "norm forgotten", "", "", 1e-7, 1.0, "", False)
FLIPS = (Flip("llama", "use_cache", False, DEAD), Flip("llama", "eps", 1.0, SILENT, 0.2))
MEASURED = [Measured("llama", (CAUGHT, SURVIVOR), FLIPS)]


def test_gaps_are_survivors_without_a_reason_and_keys_ignored_in_silence() -> None:
    assert list(gaps(MEASURED)) == [
        "llama: norm forgotten is not noticed",
        "llama: eps = 1.0: silent",
    ]
    assert share_caught(MEASURED) == 0.5


def test_a_reason_explains_a_survivor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "_reasons", lambda: {"norm forgotten": {"llama": "it has none"}})
    assert list(gaps(MEASURED)) == ["llama: eps = 1.0: silent"]
    assert "it has none" in as_markdown(MEASURED, {})


def test_the_page_counts_and_shows_what_a_correlation_would_miss() -> None:
    page = as_markdown(MEASURED, {"mixtral": "RuntimeError: no"})
    assert "the rule catches 1 (50.0 %)" in page
    assert "| theta lost | 1 | 1 | 0 | 1 |" in page
    assert "**not explained**" in page
    assert "| llama | eps | 1.0 | silent |" in page
    assert "| mixtral | RuntimeError: no |" in page
