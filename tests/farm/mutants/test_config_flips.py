# SPDX-License-Identifier: Apache-2.0
"""Flipped config keys: what changes the original changes the port alike, or is refused."""

from __future__ import annotations

import pytest

from farm.mutants.config_flips import DEAD, FOLLOWED, flips


@pytest.mark.f32
def test_no_live_key_of_a_config_is_ignored() -> None:
    found = list(flips("qwen3"))
    assert [flip for flip in found if flip.faulty] == []
    verdicts = {flip.key: flip.verdict for flip in found}
    assert verdicts["rope_parameters.rope_theta"] == FOLLOWED
    assert verdicts["rms_norm_eps"] == FOLLOWED
    assert verdicts["hidden_act"] == FOLLOWED
    assert verdicts["use_cache"] == DEAD


@pytest.mark.f32
@pytest.mark.parametrize("model_type", ["gpt2", "gpt_oss", "llama4_text", "minicpm3"])
def test_no_live_key_of_other_kinds_is_ignored(model_type: str) -> None:
    found = list(flips(model_type))
    assert [flip for flip in found if flip.faulty] == []
    assert {FOLLOWED, DEAD} <= {flip.verdict for flip in found}
