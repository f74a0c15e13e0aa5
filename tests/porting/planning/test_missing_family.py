# SPDX-License-Identifier: Apache-2.0
"""What is said of an architecture that no family claims."""

from __future__ import annotations

import json

from dsl.diagnostics import render
from porting.config.reader import parse_config
from porting.planning import missing_family

LLAMA_LIKE = {
    "architectures": ["NewForCausalLM"],
    "model_type": "new",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "vocab_size": 99,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    "use_cache": True,
}


def config(**more: object):
    return parse_config(json.dumps(LLAMA_LIKE | more, indent=2).encode())


def test_the_nearest_family_needs_nothing_that_the_config_lacks():
    found = missing_family.nearest(config())
    assert found is not None
    assert "hidden_size" in found.read
    assert found.unread == ()
    assert not {"mixtral", "minimax_m2", "deepseek_v3"} & {found.family}


def test_experts_are_near_to_experts():
    found = missing_family.nearest(config(num_local_experts=8, num_experts_per_tok=2))
    assert found is not None
    assert {"num_local_experts", "num_experts_per_tok"} <= set(found.read)


def test_a_refusal_names_what_is_missing_the_nearest_family_and_the_keys():
    (found,) = missing_family.refusal(config(model_type="bamba", mamba_d_state=16)).diagnostics
    text = render(found)
    assert "state-space" in text
    assert "`mamba_d_state`" in text
    assert "write model_zoo/families/bamba.sohu after model_zoo/families/" in text


def test_a_family_that_exists_is_to_be_extended():
    (found,) = missing_family.refusal(config(model_type="gemma3")).diagnostics
    assert found.help.startswith("extend model_zoo/families/gemma3.sohu")


def test_a_config_that_nobody_reads_has_no_nearest_family():
    data = {"architectures": ["X"], "model_type": "x", "frobnication": 3}
    assert missing_family.nearest(parse_config(json.dumps(data).encode())) is None
