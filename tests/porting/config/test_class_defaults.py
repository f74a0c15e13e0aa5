# SPDX-License-Identifier: Apache-2.0
"""An absent key means the class's default, null what the class does with None, and a key that no code reads nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dsl.diagnostics import Refused
from porting.config.class_defaults import Asked, asked, causal_class, completed
from porting.config.ignored_keys import account
from porting.config.reader import ModelConfig, parse_config
from porting.planning.library import family_for

TYPES = {
    "ApertusForCausalLM": "apertus",
    "Cohere2MoeForCausalLM": "cohere2_moe",
    "DbrxForCausalLM": "dbrx",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3_text",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "MptForCausalLM": "mpt",
    "Olmo3ForCausalLM": "olmo3",
    "Phi3ForCausalLM": "phi3",
    "PhiForCausalLM": "phi",
    "Qwen2ForCausalLM": "qwen2",
    "VaultGemmaForCausalLM": "vaultgemma",
}


def read(architecture: str, **keys: Any) -> ModelConfig:
    base = {"architectures": [architecture], "model_type": TYPES.get(architecture, "")}
    return parse_config(json.dumps(base | keys).encode())


def done(architecture: str, **keys: Any) -> ModelConfig:
    return completed(read(architecture, **keys), asked(family_for(architecture).family()))


def theta(config: ModelConfig) -> object:
    return config.values.get("rope_parameters.rope_theta")


def test_an_absent_key_means_the_class_s_default() -> None:
    config = done("LlamaForCausalLM", hidden_size=64)
    assert theta(config) == 10000.0
    assert config.values["rms_norm_eps"] == 1e-6
    assert config.values["hidden_size"] == 64
    assert config.assumed["rope_parameters.rope_theta"]
    assert not config.assumed["hidden_act"]


@pytest.mark.parametrize(
    ("architecture", "default"), [("MixtralForCausalLM", 1e6), ("PhiForCausalLM", 1e4)]
)
def test_the_default_of_the_rotation_is_the_type_s(architecture: str, default: float) -> None:
    assert theta(done(architecture)) == default
    assert theta(done(architecture, rope_theta=3e5)) == 3e5
    scaled = done(architecture, rope_scaling={"type": "linear", "factor": 2.0})
    assert theta(scaled) == default
    assert scaled.values["rope_parameters.rope_type"] == "linear"


def test_a_window_that_is_absent_is_the_class_s_and_null_is_none() -> None:
    assert done("MistralForCausalLM").values["sliding_window"] == 4096
    assert "sliding_window" not in done("MistralForCausalLM", sliding_window=None).values


def test_a_null_that_the_class_does_not_take_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        done("LlamaForCausalLM", rms_norm_eps=None, hidden_act=None)
    assert [d.code for d in caught.value.diagnostics] == ["S428", "S428"]
    assert "`rms_norm_eps` is null" in str(caught.value)


def test_a_null_that_the_family_has_no_meaning_for_is_told_from_a_missing_key() -> None:
    with pytest.raises(Refused) as caught:
        done("DbrxForCausalLM", n_layers=None)
    assert "`n_layers` is null, and the family has no meaning" in str(caught.value)


def test_a_null_theta_is_no_theta() -> None:
    with pytest.raises(Refused) as caught:
        done("LlamaForCausalLM", rope_theta=None)
    assert "`rope_theta` is null" in str(caught.value)
    assert theta(done("ApertusForCausalLM", rope_theta=None)) == 12e6
    rope = {"rope_type": "default", "rope_theta": 5e5}
    assert theta(done("LlamaForCausalLM", rope_theta=None, rope_parameters=rope)) == 5e5


@pytest.mark.parametrize("architecture", ["Gemma2ForCausalLM", "VaultGemmaForCausalLM"])
def test_softcaps_of_null_are_none(architecture: str) -> None:
    config = done(architecture, attn_logit_softcapping=None, final_logit_softcapping=None)
    assert not [key for key in config.values if "softcapping" in key]


def test_a_class_with_a_rotation_of_its_own_takes_no_theta_beside_none() -> None:
    config = done("ApertusForCausalLM", rope_theta=5e5, rope_scaling=None)
    assert theta(config) == 12e6
    assert config.values["rope_parameters.rope_type"] == "llama3"
    assert config.values["rope_parameters.factor"] == 8.0
    assert "rotation of its own" in config.dropped["rope_theta"]


def test_a_key_that_moved_is_not_given_its_default() -> None:
    longrope = {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
    config = done("Phi3ForCausalLM", original_max_position_embeddings=16, rope_scaling=longrope)
    assert config.values["rope_parameters.original_max_position_embeddings"] == 16
    assert "original_max_position_embeddings" not in config.values


def test_a_rotation_of_the_file_replaces_the_class_s() -> None:
    config = done("ApertusForCausalLM", rope_theta=5e5, rope_parameters={"rope_type": "default"})
    assert theta(config) == 5e5
    assert config.values["rope_parameters.rope_type"] == "default"
    assert "rope_parameters.factor" not in config.values


def test_a_flat_rotation_is_for_the_layers_that_the_class_gives_it_to() -> None:
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}
    former = done("Olmo3ForCausalLM", rope_scaling=yarn, rope_theta=3e5)
    assert former.values["rope_parameters.factor"] == 8.0
    assert theta(former) == 3e5
    assert former.values["rope_parameters.sliding_attention.rope_theta"] == 5e5
    new = done("Olmo3ForCausalLM", rope_parameters=yarn)
    assert "rope_parameters.factor" not in new.values
    assert new.values["rope_parameters.full_attention.rope_theta"] == 5e5
    assert "passes over a flat one" in new.dropped["rope_parameters.factor"]


def test_what_a_class_passes_over_of_a_scaling_is_left_out() -> None:
    keys = {"rope_theta": 3e5, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}
    deaf = done("Cohere2MoeForCausalLM", **keys)
    assert theta(deaf) == 3e5
    assert "rope_parameters.factor" not in deaf.values
    assert set(deaf.dropped) == {"rope_scaling"}
    spelt = {"type": "linear", "factor": 4.0}
    assert done("Gemma3ForCausalLM", rope_scaling=spelt).dropped.keys() == {"rope_scaling.type"}
    assert not done("LlamaForCausalLM", rope_scaling=spelt).dropped


def test_other_names_of_keys_are_the_class_s() -> None:
    wanted = (Asked(("num_local_experts",), needed=True),)
    config = completed(read("MixtralForCausalLM", num_experts=4), wanted)
    assert config.values["num_local_experts"] == 4
    assert config.origins["num_local_experts"] == "num_experts"


def test_kinds_of_layers_are_those_that_the_class_makes_of_their_number() -> None:
    kinds = done("Olmo3ForCausalLM", num_hidden_layers=5).values["layer_types"]
    window, whole = "sliding_attention", "full_attention"
    assert kinds == [window, window, window, whole, window]


def test_more_layers_than_a_model_has_are_no_list() -> None:
    assert "layer_types" not in done("Olmo3ForCausalLM", num_hidden_layers=2**40).values


def test_a_config_inside_of_another_has_its_own_class() -> None:
    config = done("MptForCausalLM", attn_config={"alibi": True})
    assert config.values["attn_config.alibi_bias_max"] == 8


def unread(architecture: str, **keys: Any) -> tuple[str, ...]:
    config = done(architecture, **keys)
    known = {key for ask in asked(family_for(architecture).family()) for key in ask.keys}
    return account(config, known).unread


SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 97, "intermediate_size": 96}
SIZES |= {"num_attention_heads": 4}


def test_a_key_that_no_code_reads_is_of_no_effect() -> None:
    keys = {"use_mrope": False, "pretraining_tp": 2, "moe_layer_freq": 1, "attn_type_list": [1, 1]}
    assert unread("Qwen2ForCausalLM", **SIZES, **keys) == ()


@pytest.mark.parametrize("key", ["is_causal", "attention_chunk_size", "per_layer_config"])
def test_a_key_that_common_code_reads_is_not(key: str) -> None:
    assert unread("LlamaForCausalLM", **SIZES, **{key: 3}) == (key,)


def test_a_misspelt_key_is_not_passed_over() -> None:
    assert unread("LlamaForCausalLM", **SIZES, rms_norm_esp=1e-5) == ("rms_norm_esp",)


def test_a_whole_number_may_be_the_size_that_the_file_lacks() -> None:
    lacking = {k: v for k, v in SIZES.items() if k != "hidden_size"}
    assert unread("PhiForCausalLM", **lacking, n_embd=64) == ("n_embd",)
    assert unread("PhiForCausalLM", **SIZES, n_embd=64) == ()


@pytest.mark.parametrize(
    ("model_type", "name", "causal"),
    [
        ("phimoe", "PhiMoEForCausalLM", "PhimoeForCausalLM"),
        ("llama", "LlamaForCausalLM", ""),
        ("llama", "LlamaForSequenceClassification", ""),
        ("bart", "BartForConditionalGeneration", ""),
        ("bert", "BertForMaskedLM", ""),
        ("llama4", "Llama4ForConditionalGeneration", ""),
        ("nobody", "XForCausalLM", ""),
    ],
)  # fmt: skip
def test_a_causal_model_by_another_name_is_that_of_its_type(
    model_type: str, name: str, causal: str
) -> None:
    raw = {"architectures": [name], "model_type": model_type}
    assert causal_class(parse_config(json.dumps(raw).encode())) == causal


def test_a_config_without_a_class_goes_by_its_type() -> None:
    config = parse_config(b'{"model_type": "llama"}')
    assert config.architecture == ""
    assert causal_class(config) == "LlamaForCausalLM"
