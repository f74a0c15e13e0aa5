# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import pytest

from dsl.diagnostics import render_all
from porting.config import ignored_keys
from porting.config.ignored_keys import MAX_DIAGNOSTICS, PRIVATE, account
from porting.config.reader import parse_config

BASE = {"architectures": ["A"], "model_type": "a", "hidden_size": 8, "rope_theta": 1e4}
READ = {
    "hidden_size",
    "num_hidden_layers",
    "rope_parameters.rope_theta",
    "rope_parameters.rope_type",
}


def accounted(**keys):
    return account(parse_config(json.dumps(BASE | keys, indent=1).encode()), READ)


def test_every_key_of_a_plain_config_is_accounted_for():
    result = accounted(
        use_cache=True, bos_token_id=1, torch_dtype="bfloat16", _name_or_path="x", nothing=None
    )
    assert result.unread == ()
    assert result.diagnostics == ()
    assert set(result.ignored) == {"use_cache", "bos_token_id", "dtype", "_name_or_path", "nothing"}
    assert set(result.used) == {
        "architectures", "model_type", "hidden_size", "rope_parameters.rope_theta", "rope_parameters.rope_type",
    }  # fmt: skip


def test_an_unknown_key_is_named_with_place_value_and_suggestion():
    result = accounted(num_hiden_layers=3)
    assert result.unread == ("num_hiden_layers",)
    text = render_all(result.diagnostics)
    assert "S425" in text
    assert "`num_hiden_layers` = 3" in text
    assert "did you mean `num_hidden_layers`?" in text
    assert "config.json:8:2" in text


@pytest.mark.parametrize("key", ["_remove_final_layer_norm", "_rope_type_labels", "_nonesuch"])
def test_a_key_that_begins_with_an_underscore_is_a_key_like_any(key):
    result = accounted(**{key: True})
    assert result.unread == (key,)
    assert [d.code for d in result.diagnostics] == ["S425"]


@pytest.mark.parametrize("key", PRIVATE)
def test_known_private_keys_are_ignored_with_a_reason_at_any_depth(key):
    inner = {"model_type": "b", key: 1}
    result = accounted(**{key: 1}, text_config=inner, vision_config=inner, other={key: 1})
    assert {path for path in result.ignored if path.endswith(key)} == {
        key, f"text_config.{key}", f"vision_config.{key}", f"other.{key}",
    }  # fmt: skip
    assert result.unread == ()


def test_an_unknown_rope_parameter_is_named_as_the_file_spells_it():
    result = accounted(rope_scaling={"type": "linear", "factor": 2.0})
    assert result.unread == ("rope_parameters.factor",)
    assert "`rope_scaling.factor` = 2.0" in result.diagnostics[0].message


@pytest.mark.parametrize(
    ("key", "harmless", "harmful"),
    [
        ("pretraining_tp", 1, 2),
        ("rope_interleaved", False, True),
        ("chunk_size_feed_forward", 0, 16),
        ("is_encoder_decoder", False, True),
        ("add_cross_attention", False, True),
    ],
)
def test_some_keys_are_ignored_at_some_values_alone(key, harmless, harmful):
    assert accounted(**{key: harmless}).ignored[key]
    assert [d.code for d in accounted(**{key: harmful}).diagnostics] == ["S426"]


@pytest.mark.parametrize(
    ("rope_type", "unread"), [("llama3", 0), ("linear", 0), ("dynamic", 1), ("longrope", 1)]
)
def test_the_longest_length_matters_to_some_rotations(rope_type, unread):
    scaling = {"rope_type": rope_type, "original_max_position_embeddings": 64}
    keys = accounted(max_position_embeddings=128, rope_scaling=scaling).unread
    assert keys.count("max_position_embeddings") == unread


def test_the_longest_length_matters_without_rotation():
    config = parse_config(
        json.dumps(
            {"architectures": ["A"], "model_type": "a", "max_position_embeddings": 8}
        ).encode()
    )
    assert account(config, ()).unread == ("max_position_embeddings",)


@pytest.mark.parametrize(
    "key",
    [
        "hidden_act",
        "attention_bias",
        "sliding_window",
        "layer_types",
        "tie_word_embeddings",
        "head_dim",
    ],
)
def test_keys_that_change_the_computation_are_never_ignored(key):
    assert accounted(**{key: 1}).unread == (key,)


def test_quantisation_is_never_ignored():
    result = accounted(quantization_config={"quant_method": "fp8"})
    assert result.unread == ("quantization_config.quant_method",)
    assert "quantised" in result.diagnostics[0].help


def test_a_thousand_unknown_keys_fit_on_a_screen():
    result = accounted(**{f"k{n}": n for n in range(1000)})
    assert len(result.unread) == 1000
    assert len(result.diagnostics) == MAX_DIAGNOSTICS + 1
    assert "994 more" in result.diagnostics[-1].message


def test_a_rope_type_that_is_no_name_is_unread():
    result = accounted(max_position_embeddings=8, rope_scaling={"rope_type": ["llama3"]})
    assert "max_position_embeddings" in result.unread


def test_the_longest_length_is_ignored_where_the_family_rotates_by_default():
    raw = {"architectures": ["A"], "model_type": "a", "max_position_embeddings": 8}
    config = parse_config(json.dumps(raw).encode())
    assert account(config, {"rope_parameters.rope_theta"}).unread == ()


def test_only_what_is_shown_of_many_unread_keys_is_looked_up(monkeypatch):
    asked = []
    monkeypatch.setattr(ignored_keys, "did_you_mean", lambda key, _: asked.append(key) or "")
    result = accounted(**{f"k{i}": 1 for i in range(5000)})
    assert len(result.unread) == 5000
    assert len(result.diagnostics) == MAX_DIAGNOSTICS + 1
    assert "4,994 more" in result.diagnostics[-1].message
    assert len(asked) <= MAX_DIAGNOSTICS
