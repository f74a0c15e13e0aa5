# SPDX-License-Identifier: Apache-2.0
"""Adapters that are not read, or whose base is not at hand: each is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dsl.diagnostics import Refused
from porting.origin import hub
from porting.origin.lora_settings import NO_EFFECT, USED, read_settings
from porting.origin.resolve import resolve
from tests.peft_adapters import EMBED, NORM, RANK, Q, adapter, drawn, embedding, linear, model


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", [None, "org/name", "/nonesuch", "../..", "a b"])
def test_a_base_that_is_not_at_hand_is_named_and_never_fetched(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "fetch", None)
    folder = adapter(tmp_path / "a", linear(Q, 32, 32), base_model_name_or_path=name)
    monkeypatch.chdir(folder)
    with pytest.raises(Refused, match=r"S546|S511"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "its method is IA3; LORA is read"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
        ({"peft_type": "LOKR"}, "LOKR"),
        ({"peft_type": None}, "names no `peft_type`"),
        ({"task_type": "SEQ_CLS"}, "trained for SEQ_CLS"),
        ({"task_type": {}}, "trained for {}"),
        ({"task_type": ["CAUSAL_LM"]}, "not for a causal language model"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the base's weights"),
        ({"init_lora_weights": ["x"]}, "changes the base's weights"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "`target_parameters`"),
        ({"layer_replication": [[0, 1]]}, "`layer_replication`"),
        ({"lora_bias": True}, "`lora_bias` = true is not read"),
        ({"trainable_token_indices": [1]}, "`trainable_token_indices`"),
        ({"alora_invocation_tokens": [1]}, "`alora_invocation_tokens`"),
        ({"unheard_of": 3}, "`unheard_of` = 3 is not read"),
        ({"r": 0}, "`r` is 0"),
        ({"r": True}, "`r` is a boolean"),
        ({"r": 2.5}, "`r` is a number"),
        ({"lora_alpha": "x"}, "`lora_alpha` is a string"),
        ({"lora_alpha": -1}, "`lora_alpha` is -1"),
        ({"use_dora": "yes"}, "`use_dora` is a string"),
        ({"target_modules": [3]}, "`target_modules` is a list of other than names"),
        ({"modules_to_save": "lm_head"}, "`modules_to_save` is a string"),
        ({"rank_pattern": {"(a+)+": 3}}, "may take too long"),
        ({"rank_pattern": {"a*b*c*d*": 3}}, "may take too long"),
        ({"alpha_pattern": {"a**": 3}}, "is no pattern"),
        ({"alpha_pattern": [3]}, "`alpha_pattern` is a list"),
        ({"alpha_pattern": {"q_proj": None}}, "`alpha_pattern` has null"),
        ({"target_modules": ["v_proj"]}, "which `target_modules` does not name"),
        ({"use_dora": True}, "disagree about magnitudes"),
        ({"r": 4}, "fits `model.layers.0.self_attn.q_proj` and its rank"),
    ],
)
def test_what_is_not_read_is_refused_by_name(tmp_path, settings, words):
    base = model(tmp_path / "base")
    folder = adapter(tmp_path / "a", linear(Q, 32, 32), **settings)
    with pytest.raises(Refused) as caught:
        resolve(str(base), adapter=str(folder))
    assert caught.value.diagnostics[0].code == "S545"
    assert words in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "it has no tensors"),
        ({f"{Q}.lora_A.weight": drawn(3, 32)}, "lacks one of its two matrices"),
        ({f"{Q}.lora_A.default.weight": drawn(3, 32)}, "which its settings do not name"),
        ({f"{Q}.oft_R": drawn(3, 32)}, "nothing is known of its tensor"),
        (linear("model.layers.9.self_attn.q_proj", 32, 32), "no weight of its own"),
        (linear("score", 32, 32), "no weight of its own for `score`"),
        (linear(Q, 31, 32), "fits"),
        (linear(NORM, 32, 32), "not a matrix"),
        ({f"{NORM}.weight": drawn(32)}, "which its settings do not name"),
        ({f"{EMBED}.weight": drawn(102, 32)}, "the base was resized"),
        ({f"{Q}.lora_A.weight": np.zeros((3, 32), np.int32), f"{Q}.lora_B.weight": drawn(32, 3)}, "i32[3, 32]"),
        (embedding(101, 32) | {f"{EMBED}.lora_magnitude_vector": drawn(32)}, "disagree"),
    ],
)  # fmt: skip
def test_tensors_without_a_place_are_refused_by_name(tmp_path, tensors, words):
    base = model(tmp_path / "base")
    folder = adapter(tmp_path / "a", tensors)
    with pytest.raises(Refused) as caught:
        resolve(str(base), adapter=str(folder))
    assert caught.value.diagnostics[0].code == "S545"
    assert words in caught.value.diagnostics[0].message


def test_embeddings_of_another_training_are_refused_where_the_head_is_tied(tmp_path):
    base = model(tmp_path / "base", tie_word_embeddings=True)
    folder = adapter(tmp_path / "a", {f"{EMBED}.weight": drawn(101, 32)})
    with pytest.raises(Refused, match=r"S545.*where head and embedding are one"):
        resolve(str(base), adapter=str(folder))


def test_an_adapter_on_packed_weights_is_refused(tmp_path):
    base = model(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    section = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": section}))
    with pytest.raises(Refused, match=r"S545.*port it on the unpacked model"):
        resolve(str(base), adapter=str(adapter(tmp_path / "a", linear(Q, 32, 32))))


def test_pickled_adapters_and_folders_without_one_are_refused(tmp_path):
    base = model(tmp_path / "base")
    folder = adapter(tmp_path / "a", linear(Q, 32, 32))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(Refused, match=r"S545.*only adapter_model\.bin, which is pickled"):
        resolve(str(base), adapter=str(folder))
    with pytest.raises(Refused, match=r"S545.*there is no adapter_config\.json"):
        resolve(str(base), adapter=str(base))
    with pytest.raises(Refused, match=r"S545.*is an adapter itself"):
        resolve(str(adapter(folder, {}, base_model_name_or_path=str(base))), adapter=str(folder))


# Fields of LoraConfig in PEFT 0.21.2 that make another model where they are set.
OTHER_MODELS = {
    "alora_invocation_tokens", "arrow_config", "ensure_weight_tying", "kasa_config", "layer_replication", "lora_bias",
    "lora_ga_config", "megatron_config", "monteclora_config", "target_parameters", "trainable_token_indices",
    "use_bdlora", "use_qalora", "velora_config",
}  # fmt: skip


@pytest.mark.parametrize("key", sorted(OTHER_MODELS))
def test_settings_of_other_methods_are_refused_where_they_say_something(tmp_path, key):
    folder = adapter(tmp_path / "a", linear(Q, 32, 32), **{key: None})
    assert read_settings(folder).rank == RANK
    adapter(folder, linear(Q, 32, 32), **{key: [1]})
    with pytest.raises(Refused, match=f"S545.*`{key}`"):
        read_settings(folder)
    assert key not in USED | NO_EFFECT
