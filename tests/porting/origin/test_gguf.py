# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from dsl.diagnostics import Refused
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin import conversions, gguf
from porting.origin.gguf_rope import llama3_scaling
from tests.checkpoints import gguf_bytes, gguf_string, tiny_llama

PLAIN = {
    "attention_bias": False,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def original(tmp_path):
    return tiny_llama(tmp_path / "original", **PLAIN)


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Order the rows of a projection as llama.cpp's converter does."""
    shape = weight.shape
    return (
        weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
    )


def write_gguf(folder, path, *, extra_tensors=(), without=(), **extra_keys):
    """Write a checkpoint as llama.cpp's converter would, in float32."""
    from gguf import GGUFWriter

    config = read_config(folder).values
    checkpoint = Checkpoint.open(folder)
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(512)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters.rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_key_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(config["vocab_size"])
    for key, value in extra_keys.items():
        writer.add_key_value(key.replace("__", "."), *value)
    renamed = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for i in range(config["num_hidden_layers"]):
        renamed |= {f"model.layers.{i}.{a}": f"blk.{i}.{b}" for a, b in parts.items()}
    for name in checkpoint.tensors:
        if name in without:
            continue
        value = checkpoint.read(name).astype(np.float32)
        if "q_proj" in name:
            value = permuted(value, config["num_attention_heads"])
        if "k_proj" in name:
            value = permuted(value, config["num_key_value_heads"])
        writer.add_tensor(f"{renamed[name.removesuffix('.weight')]}.weight", value)
    for name, value in extra_tensors:
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_converted_file_equals_its_original(original, tmp_path):
    converted = gguf.convert(write_gguf(original, tmp_path / "m.gguf"))
    ours, theirs = Checkpoint.open(converted.directory), Checkpoint.open(original)
    assert set(ours.tensors) == set(theirs.tensors)
    for name in theirs.tensors:
        np.testing.assert_array_equal(ours.read(name), theirs.read(name))
    config, expected = read_config(converted.directory).values, read_config(original).values
    same = (
        "architectures",
        "model_type",
        "rms_norm_eps",
        "head_dim",
        "tie_word_embeddings",
        "dtype",
        "vocab_size",
    )
    for key in (*same, *(key for key in expected if key.startswith("rope_parameters"))):
        assert config[key] == expected[key], key
    assert converted.notes[0] == "read from GGUF (F32), every value kept: bf16"


def test_a_second_conversion_comes_from_the_cache(original, tmp_path, monkeypatch):
    path = write_gguf(original, tmp_path / "m.gguf")
    first = gguf.convert(path)
    monkeypatch.setattr(gguf, "_build", None)
    shutil.copy(path, tmp_path / "same.gguf")
    assert gguf.convert(tmp_path / "same.gguf") == first
    assert first.directory.name == first.sha256
    assert [x.name for x in first.directory.parent.iterdir()] == [first.sha256]


def test_an_unfinished_conversion_is_done_again(original, tmp_path):
    path = write_gguf(original, tmp_path / "m.gguf")
    first = gguf.convert(path)
    (first.directory / conversions.RECORD).unlink()
    (first.directory / "model.safetensors").write_bytes(b"")
    assert gguf.convert(path) == first
    assert Checkpoint.open(first.directory).tensors


def test_a_failed_conversion_leaves_nothing(original, tmp_path):
    path = write_gguf(original, tmp_path / "m.gguf", without=("model.norm.weight",))
    with pytest.raises(Refused, match=r"1 tensors are missing: model\.norm\.weight") as caught:
        gguf.convert(path)
    assert caught.value.diagnostics[0].code == "S574"
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_tensors_that_would_be_dropped_are_refused(original, tmp_path):
    bias = ("blk.0.attn_q.bias", np.ones(64, np.float32))
    path = write_gguf(original, tmp_path / "m.gguf", extra_tensors=[bias])
    with pytest.raises(Refused, match=r"have no place in the model: blk\.0\.attn_q\.bias"):
        gguf.convert(path)


@pytest.mark.parametrize(
    "keys", [{"llama__rope__scaling__type": "ntk"}, {"llama__attention__value_length": 4}]
)
def test_settings_that_would_be_dropped_are_refused(original, tmp_path, keys):
    from gguf import GGUFValueType

    typed = {
        k: (v, GGUFValueType.STRING if isinstance(v, str) else GGUFValueType.UINT32)
        for k, v in keys.items()
    }
    with pytest.raises(Refused, match="S574"):
        gguf.convert(write_gguf(original, tmp_path / "m.gguf", **typed))


def llama3_factors(theta: float, head_dim: int, factor: float) -> np.ndarray:
    """Compute what llama.cpp's converter stores, one frequency at a time."""
    out = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * np.pi * theta ** (i / head_dim)
        if wavelength < 8192 / 4:
            out.append(1.0)
        elif wavelength > 8192:
            out.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_scaling_is_recovered_from_its_factors(factor):
    found = llama3_scaling(llama3_factors(500000.0, 64, factor), 500000.0, 64)
    assert found == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_factors_of_another_rule_are_not_guessed():
    factors = llama3_factors(500000.0, 64, 8.0)
    factors[20] *= 1.001
    assert llama3_scaling(factors, 500000.0, 64) is None


def test_rope_factors_become_llama3_scaling(original, tmp_path):
    factors = llama3_factors(20000.0, 16, 8.0)
    path = write_gguf(original, tmp_path / "m.gguf", extra_tensors=[("rope_freqs.weight", factors)])
    config = read_config(gguf.convert(path).directory)
    assert config.values["rope_parameters.rope_type"] == "llama3"
    assert config.values["rope_parameters.factor"] == 8.0
    assert config.values["rope_parameters.rope_theta"] == 20000.0


def test_unknown_rope_factors_are_refused(original, tmp_path):
    factors = np.linspace(1, 2, 8, dtype=np.float32)
    path = write_gguf(original, tmp_path / "m.gguf", extra_tensors=[("rope_freqs.weight", factors)])
    with pytest.raises(Refused, match="in a way that is not known"):
        gguf.convert(path)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [("general.architecture", 4, b"\1\0\0\0")],
        [("general.architecture", 8, gguf_string("llama")), ("llama.block_count", 4, b"\xff" * 4)],
        [("general.architecture", 8, gguf_string("nonesuch"))],
        [("general.architecture", 8, gguf_string("llama"))],
    ],
)
def test_what_is_not_a_model_is_refused(tmp_path, keys):
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes(keys, [("t", [8], 0, 0)], b"\0" * 32))
    with pytest.raises(Refused) as caught:
        gguf.convert(path)
    assert caught.value.diagnostics[0].code in {"S573", "S574"}


def test_nothing_beside_the_file_is_read(original, tmp_path):
    folder = tmp_path / "hostile"
    folder.mkdir()
    path = write_gguf(original, folder / "m.gguf")
    (folder / "config.json").write_text("not JSON")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.E", None]}})
    )
    assert gguf.convert(path).directory.is_dir()


def test_a_cache_that_cannot_be_written_is_refused(original, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "file"))
    with pytest.raises(Refused, match="S575"):
        gguf.convert(write_gguf(original, tmp_path / "m.gguf"))


def test_the_cache_is_in_the_users_cache_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("SOHU_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert conversions.cache_folder("gguf") == tmp_path / "sohu" / "gguf"
