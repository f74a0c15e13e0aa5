# SPDX-License-Identifier: Apache-2.0
"""A config in another layout is the program that transformers means by it, or is refused."""

from __future__ import annotations

import pytest

from farm.mutants import config_layouts
from farm.mutants.config_layouts import DIFFERS, LAYOUTS, REFUSED, SAME, UNREAD, compared, layouts
from farm.oracles.published_models import raw_config

# One of each kind of trouble: a composite, factors of pairs, a rotation of part of a head, experts, learned positions.
SAMPLE = (
    "gemma3--gemma3", "phi3--phi-3_5", "gptj--gptj", "deepseek-ai--DeepSeek-V3", "gpt2--gpt2",
    "llama--llama-2-7b-hf", "XiaomiMiMo--MiMo-V2-Flash",
)  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_a_published_config_is_what_transformers_makes_of_it(name: str) -> None:
    verdict, problem = compared(raw_config(name))
    assert verdict in (SAME, REFUSED), problem


@pytest.mark.parametrize("model_type", ["llama", "phi3"])
def test_layouts_mean_what_transformers_means(model_type: str) -> None:
    outcomes = {layout.layout: layout for layout in layouts(model_type)}
    assert set(LAYOUTS) - {"absent keys"} <= set(outcomes)
    assert [found for found in outcomes.values() if found.verdict == DIFFERS] == []


def test_what_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_config("mistral--mistral-2")
    assert compared(raw) == (SAME, "")
    assert compared({**raw, "no_such_key": 1})[0] == SAME
    assert compared({**raw, "is_causal": False})[0] == REFUSED
    assert compared({**raw, "hidden_size": "wide"})[0] in (REFUSED, UNREAD)
    read = config_layouts.open_config

    def wider(*arguments: object) -> object:
        config = read(*arguments)
        config.sliding_window = 7
        return config

    monkeypatch.setattr(config_layouts, "open_config", wider)
    verdict, problem = compared(raw)
    assert verdict == DIFFERS
    assert "7" in problem
