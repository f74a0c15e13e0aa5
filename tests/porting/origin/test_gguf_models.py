# SPDX-License-Identifier: Apache-2.0
"""Whole models as .gguf files: the port computes what the original does, and mistakes of a conversion fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_model.engine.engine import Engine
from dsl.diagnostics import Refused
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.original.reference import Reference
from porting.pipeline import port, validate_port
from porting.planning.plan import plan
from porting.report.model import Verdict
from tests.gguf_models import KINDS, write

TOKENS = np.random.default_rng(5).integers(3, 100, 24)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "cache"))


def relative(got: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - truth) ** 2) / np.mean(truth**2)))


@pytest.mark.parametrize("storage", ["F32", "Q8_0"])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_port_computes_what_the_original_does(tmp_path, name, storage):
    folder, path = tmp_path / "folder", tmp_path / "m.gguf"
    write(KINDS[name], folder, path, storage)
    check(folder, path)


def check(folder: Path, path: Path) -> None:
    """Compare a file's port and its judge with the folder of the same model."""
    origin = resolve(str(path))
    checkpoint = Checkpoint.open(origin.directory)
    graph = plan(origin, read_config(origin.directory), checkpoint).graph
    got = Engine(graph, checkpoint, "f32").session().step([TOKENS])[0]
    rows = [TOKENS.tolist()]
    truth = Reference.load(folder, "float64").logits(rows)[0].logits
    assert relative(got, truth) < 1e-5
    judge = Reference.load(origin.original, "float64").logits(rows)[0].logits
    assert relative(judge, truth) < 1e-6


Change = Callable[[dict[str, np.ndarray]], None]


def unordered(tensors: dict[str, np.ndarray]) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name].reshape(4, 2, 8, 64).swapaxes(1, 2).reshape(64, 64)


def rounded(tensors: dict[str, np.ndarray]) -> None:
    for name, value in tensors.items():
        bits = (value.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
        tensors[name] = bits.view(np.float32)


def one_scale(tensors: dict[str, np.ndarray]) -> None:
    """Raise one block's scale by its last bit."""
    tensors["model.layers.1.mlp.down_proj.weight"][5, 32:64] *= np.float32(1 + 2**-10)


def turned(tensors: dict[str, np.ndarray]) -> None:
    name = "model.layers.1.self_attn.o_proj.weight"
    tensors[name] = tensors[name].T.copy()


def swapped(tensors: dict[str, np.ndarray]) -> None:
    gate, up = (f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up"))
    tensors[gate], tensors[up] = tensors[up], tensors[gate]


def lower_norms(tensors: dict[str, np.ndarray]) -> None:
    for name, value in tensors.items():
        if name.endswith("norm.weight"):
            tensors[name] = value + np.float32(1)


def exchanged(tensors: dict[str, np.ndarray]) -> None:
    """Exchange two experts, whose router then chooses the wrong one."""
    one, other = (f"model.layers.0.block_sparse_moe.experts.{n}.w1.weight" for n in (0, 1))
    tensors[one], tensors[other] = tensors[other], tensors[one]


def change_weights(folder: Path, change: Change) -> None:
    from safetensors.numpy import save_file

    checkpoint = Checkpoint.open(folder)
    tensors = {name: checkpoint.read(name).astype(np.float32) for name in checkpoint.tensors}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("llama", unordered),
        ("llama", rounded),
        ("llama", one_scale),
        ("llama", turned),
        ("llama", swapped),
        ("gemma3", lower_norms),
        ("mixtral", exchanged),
    ],
)
def test_a_mistake_in_the_converted_weights_fails(tmp_path, name, change):
    path, out = tmp_path / "m.gguf", tmp_path / "port"
    write(KINDS[name], tmp_path / "folder", path, "Q8_0")
    port(str(path), out=out, validated=False)
    folder = resolve(str(path)).directory
    change_weights(folder, lambda _: None)
    assert validate_port(out, numerics=("f32",)).verdict is Verdict.PASS
    change_weights(folder, change)
    assert validate_port(out, numerics=("f32",)).verdict is Verdict.FAIL


def test_a_mistake_in_the_converted_config_fails(tmp_path):
    path, out = tmp_path / "m.gguf", tmp_path / "port"
    write(KINDS["llama"], tmp_path / "folder", path, "F16")
    config = resolve(str(path)).directory / "config.json"
    values = json.loads(config.read_text())
    assert values["rope_parameters"]["rope_theta"] == 20000.0
    values["rope_parameters"]["rope_theta"] = 10000.0
    config.write_text(json.dumps(values))
    port(str(path), out=out, validated=False)
    assert validate_port(out, numerics=("f32",)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("gemma3", {"attention.key_length": 128, "attention.value_length": 128}, "takes 128"),
        ("nemotron", {"rope.dimension_count": 16}, "drops `nemotron.rope.dimension_count` = 16"),
        ("gemma2", {"attn_logit_softcapping": 20.0}, "drops `gemma2.attn_logit_softcapping`"),
    ],
)
def test_what_llama_cpp_takes_otherwise_is_refused(tmp_path, name, keys, words):
    kind = replace(KINDS[name], keys=KINDS[name].keys | keys)
    if "takes" in words:
        kind = replace(kind, settings=kind.settings | {"head_dim": 128})
    write(kind, tmp_path / "folder", tmp_path / "m.gguf")
    with pytest.raises(Refused, match=words):
        resolve(str(tmp_path / "m.gguf"))


def test_silence_that_is_taken_otherwise_is_refused(tmp_path):
    kind = replace(KINDS["nemotron"], keys={"rope.freq_base": 10000.0})
    write(kind, tmp_path / "folder", tmp_path / "m.gguf")
    with pytest.raises(Refused, match=r"no `nemotron\.rope\.dimension_count`: llama\.cpp takes 16"):
        resolve(str(tmp_path / "m.gguf"))


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 20000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def with_factors(tmp_path: Path) -> tuple[Path, Path]:
    """Write a model of Llama 3's scaled rotation, whose parameters the file holds as factors alone."""
    kind = replace(KINDS["llama"], settings={"head_dim": 16, "rope_parameters": LLAMA3})
    turns = 8192 * 20000.0 ** -(np.arange(0, 16, 2) / 16) / (2 * np.pi)
    smooth = np.clip((turns - 1) / 3, 0, 1)
    factors = (1 / ((1 - smooth) / 8 + smooth)).astype(np.float32)
    folder, path = tmp_path / "folder", tmp_path / "m.gguf"
    write(kind, folder, path, extra={"rope_freqs.weight": factors})
    return folder, path


def test_the_reference_divides_the_frequencies_of_a_scaled_rotation(tmp_path):
    folder, path = with_factors(tmp_path)
    rows = [TOKENS.tolist()]
    truth = Reference.load(folder, "float64").logits(rows)[0].logits
    judge = Reference.load(path, "float64").logits(rows)[0].logits
    assert relative(judge, truth) < 1e-6


def test_a_mistake_in_a_recovered_rotation_fails(tmp_path):
    _, path = with_factors(tmp_path)
    out = tmp_path / "port"
    port(str(path), out=out, validated=False)
    assert validate_port(out, numerics=("f32",)).verdict is Verdict.PASS
    spec = out / "model.sohu"
    text = spec.read_text()
    assert text.count("8.0") == 1
    spec.write_text(text.replace("8.0", "4.0"))
    assert validate_port(out, numerics=("f32",)).verdict is Verdict.FAIL


def test_factors_that_do_not_fit_the_rotation_are_refused(tmp_path):
    factors = {"rope_freqs.weight": np.ones(4, np.float32)}
    write(KINDS["llama"], tmp_path / "folder", tmp_path / "m.gguf", extra=factors)
    with pytest.raises(Refused, match="does not fit the model's rotation"):
        Reference.load(tmp_path / "m.gguf", "float64")


def test_the_reference_refuses_tensors_that_its_reader_drops(tmp_path):
    extra = {"blk.0.extra.weight": np.ones(4, np.float32)}
    write(KINDS["llama"], tmp_path / "folder", tmp_path / "m.gguf", extra=extra)
    with pytest.raises(Refused, match=r"reader drops 1 tensors: blk\.0\.extra\.weight"):
        Reference.load(tmp_path / "m.gguf", "float64")


THETA = 20000.0
LINEAR = {"rope_theta": THETA, "rope_type": "linear", "factor": 3.0}
LONG, SHORT = np.linspace(1, 9, 8, dtype=np.float32), np.linspace(1, 2, 8, dtype=np.float32)
# The original's rotation, the file's keys of it, and its tensors.
SCALED = {
    "linear": ("llama", {"rope_type": "linear", "factor": 4.0}, {"type": "linear", "factor": 4.0}, {}),
    "factor alone": ("qwen3", {"rope_type": "linear", "factor": 2.0}, {"factor": 2.0}, {}),
    "none": ("qwen2", {"rope_type": "default"}, {"type": "none", "factor": 8.0, "finetuned": 1}, {}),
    "yarn": (
        "qwen2",
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
        {"type": "yarn", "factor": 4.0, "original_context_length": 128},
        {},
    ),
    "yarn with settings": (
        "llama",
        {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "attention_factor": 0.75 * (1 + 0.1 * np.log(8.0)),
        },
        {
            "type": "yarn",
            "factor": 8.0,
            "original_context_length": 64,
            "yarn_beta_fast": 16.0,
            "yarn_beta_slow": 2.0,
            "attn_factor": 0.75,
        },
        {},
    ),
    "longrope": (
        "phi3",
        {
            "rope_type": "longrope",
            "long_factor": LONG.tolist(),
            "short_factor": SHORT.tolist(),
            "original_max_position_embeddings": 16,
        },
        {"original_context_length": 16, "attn_factor": float(np.sqrt(1 + np.log(512 / 16) / np.log(16)))},
        {"rope_factors_long.weight": LONG, "rope_factors_short.weight": SHORT},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SCALED))
def test_the_keys_of_a_scaled_rotation_are_read(tmp_path, name):
    base, rotation, keys, tensors = SCALED[name]
    original = {"original_max_position_embeddings": 16} if base == "phi3" else {}
    kind = replace(
        KINDS[base],
        settings={
            **KINDS[base].settings,
            **original,
            "rope_parameters": {"rope_theta": THETA, **rotation},
        },
        keys={
            **KINDS[base].keys,
            "rope.freq_base": THETA,
            **{f"rope.scaling.{key}": value for key, value in keys.items()},
        },
    )
    folder, path = tmp_path / "folder", tmp_path / "m.gguf"
    write(kind, folder, path, extra=tensors)
    check(folder, path)


@pytest.mark.parametrize(
    ("name", "settings", "keys"),
    [
        ("llama", {"rope_parameters": LINEAR}, {"rope.scale_linear": 3.0}),
        ("phi3", {"sliding_window": 8}, {"attention.sliding_window": 8}),
        ("phi3", {"sliding_window": None}, {"attention.sliding_window": 0}),
        ("llama", {}, {"expert_count": 0, "expert_used_count": 0}),
        ("gemma3", {}, {"attention.sliding_window_pattern": 6}),
        ("gemma2", {}, {"attention.sliding_window_pattern": [True, False]}),
    ],
)
def test_other_keys_that_the_reader_drops_are_read(tmp_path, name, settings, keys):
    base = KINDS[name]
    kind = replace(base, settings=base.settings | settings, keys=base.keys | keys)
    write(kind, tmp_path / "folder", tmp_path / "m.gguf")
    check(tmp_path / "folder", tmp_path / "m.gguf")


def test_a_scaled_rotation_of_gemma3_is_that_of_full_attention(tmp_path):
    rotation = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    base = KINDS["gemma3"]
    scaling = {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    kind = replace(
        base, settings=base.settings | {"rope_parameters": rotation}, keys=base.keys | scaling
    )
    write(kind, tmp_path / "folder", tmp_path / "m.gguf")
    check(tmp_path / "folder", tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("keys", "tensors", "words"),
    [
        ({"type": "ntk", "factor": 2.0}, {}, "scales its rotation by ntk"),
        ({"type": "yarn"}, {}, "scales its rotation by yarn"),
        ({"type": "longrope"}, {}, "scales its rotation by longrope"),
        ({"factor": "x"}, {}, r"no number in `llama\.rope\.scaling\.factor`"),
        ({"attn_factor": 0.5}, {}, "without a use for it"),
        ({"attn_factor": "x"}, {}, "no number in"),
        ({"type": "linear", "factor": 2.0, "attn_factor": 0.5}, {}, "without a use for it"),
        ({"yarn_log_multiplier": 0.1}, {}, r"drops `llama\.rope\.scaling\.yarn_log_multiplier`"),
        ({"yarn_ext_factor": 0.5}, {}, r"drops `llama\.rope\.scaling\.yarn_ext_factor`"),
        ({}, {"rope_factors_short.weight": SHORT}, "factors of a rotation"),
        ({}, {"rope_factors_long.weight": LONG}, "scales its rotation by longrope"),
    ],
)
def test_rotations_that_are_not_read_are_refused(tmp_path, keys, tensors, words):
    scaling = {f"rope.scaling.{key}": value for key, value in keys.items()}
    kind = replace(KINDS["llama"], keys=KINDS["llama"].keys | scaling)
    write(kind, tmp_path / "folder", tmp_path / "m.gguf", extra=tensors)
    with pytest.raises(Refused, match=f"S574.*{words}"):
        resolve(str(tmp_path / "m.gguf"))


def test_windows_in_other_layers_than_transformers_has_them_are_refused(tmp_path):
    base = KINDS["gemma2"]
    pattern = {"attention.sliding_window_pattern": [False, True]}
    write(replace(base, keys=base.keys | pattern), tmp_path / "folder", tmp_path / "m.gguf")
    with pytest.raises(Refused, match=r"S574.*drops `gemma2\.attention\.sliding_window_pattern`"):
        resolve(str(tmp_path / "m.gguf"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(tmp_path, value):
    base = KINDS["llama"]
    write(
        replace(base, keys=base.keys | {"rope.freq_base": value}),
        tmp_path / "folder",
        tmp_path / "m.gguf",
    )
    with pytest.raises(Refused, match=r"S574.*`rope_theta`"):
        resolve(str(tmp_path / "m.gguf"))


def test_a_file_of_the_name_mistral_has_no_window(tmp_path):
    write(KINDS["llama"], tmp_path / "folder", tmp_path / "m.gguf", title="mistral")
    check(tmp_path / "folder", tmp_path / "m.gguf")
    config = read_config(resolve(str(tmp_path / "m.gguf")).directory)
    assert config.values["model_type"] == "llama"


@pytest.mark.parametrize("key", ["attention.scale", "logit_scale"])
def test_settings_that_llama_cpp_takes_otherwise_if_missing_are_required(tmp_path, key):
    base = KINDS["granite"]
    kind = replace(base, keys={k: v for k, v in base.keys.items() if k != key})
    write(kind, tmp_path / "folder", tmp_path / "m.gguf")
    with pytest.raises(Refused, match=f"S574.*has no `granite.{key}`"):
        resolve(str(tmp_path / "m.gguf"))
