# SPDX-License-Identifier: Apache-2.0
"""The judge loads a folder as it lies: what a user's own transformers would load, and nothing that a file chooses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device_model.engine.engine import Engine
from dsl.diagnostics import Refused
from dsl.inference.inference import infer
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.forbidden_keys import FORBIDDEN
from porting.config.ignored_keys import IGNORED, PRIVATE, account
from porting.config.reader import read_config
from porting.config.text_part import text_part
from porting.origin.resolve import resolve
from porting.original.reference import Reference
from porting.planning.library import find_family
from porting.planning.plan import STORED_DTYPE, plan, stored_dtype
from tests.checkpoints import tiny_llama

ROW = list(range(3, 40))


def change(folder: Path, *without: str, **keys: object) -> Path:
    config = folder / "config.json"
    raw = json.loads(config.read_text()) | keys
    config.write_text(json.dumps({key: raw[key] for key in raw if key not in without}))
    return folder


def logits(folder: Path, precision: str = "float32") -> np.ndarray:
    return Reference.load(folder, precision).logits([ROW])[0].logits


def codes(folder: Path) -> list[str]:
    with pytest.raises(Refused) as caught:
        Reference.load(folder, "float32")
    return [d.code for d in caught.value.diagnostics]


# Which class


def test_an_unknown_type_is_the_class_that_architectures_names(tmp_path):
    folder = tiny(tmp_path, "deepseek_v3")
    expected = logits(folder)
    change(folder, model_type="kimi_k2", auto_map={"AutoConfig": "configuration_deepseek.X"})
    np.testing.assert_array_equal(logits(folder), expected)


@pytest.mark.parametrize("name", ["NonesuchForCausalLM", "LlamaModel", "GenerationConfig", 7, None])
def test_an_unknown_type_without_a_causal_class_is_refused(tmp_path, name):
    folder = change(tiny_llama(tmp_path), model_type="nonesuch", architectures=[name])
    assert codes(folder) == ["S551"]


def test_a_known_type_decides_where_architectures_say_otherwise(tmp_path):
    folder = change(tiny_llama(tmp_path), architectures=["MistralForCausalLM"])
    model = Reference.load(folder, "float32")._model
    assert type(model).__name__ == "LlamaForCausalLM"


# What a config might choose


@pytest.mark.parametrize("inside", [False, True])
def test_no_config_chooses_an_implementation(tmp_path, inside):
    names = (f"{what}_implementation" for what in ("attn", "experts", "_attn", "_experts"))
    internal = ("_attn_implementation_internal", "_experts_implementation_internal")
    kernels = dict.fromkeys((*names, *internal), "evil/kernel")
    folder = tiny(tmp_path, "gemma3")
    inner = json.loads((folder / "config.json").read_text())["text_config"]
    expected = logits(folder)
    change(folder, **({"text_config": inner | kernels} if inside else kernels))
    model = Reference.load(folder, "float32")._model
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    assert {config._attn_implementation for config in configs} == {"eager"}
    np.testing.assert_array_equal(logits(folder), expected)


@pytest.mark.parametrize("key", FORBIDDEN)
def test_a_config_that_names_other_files_or_classes_is_refused_by_the_judge_too(tmp_path, key):
    assert codes(change(tiny_llama(tmp_path), **{key: "x.safetensors"})) == ["S427"]


def test_layers_of_an_inner_config_are_counted_before_they_are_made(tmp_path):
    folder = tiny(tmp_path, "gemma3")
    inner = json.loads((folder / "config.json").read_text())["text_config"]
    assert codes(change(folder, text_config=inner | {"num_hidden_layers": 2**40})) == ["S551"]


def test_a_method_of_storing_that_is_not_known_is_refused(tmp_path):
    folder = change(tiny_llama(tmp_path), quantization_config={"quant_method": "torchao"})
    assert codes(folder) == ["S551"]


# Other files


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe", b"[]", b'{"temperature": "hot", "num_beams": -1}', b'{"top_k": {"a": 1}}'],
)
def test_settings_of_sampling_cannot_keep_a_model_from_loading(tmp_path, content):
    folder = tiny_llama(tmp_path)
    expected = logits(folder)
    (folder / "generation_config.json").write_bytes(content)
    np.testing.assert_array_equal(logits(folder), expected)


# Keys that the port ignores, and those that it reads


def test_a_private_key_that_a_class_reads_reaches_judge_and_port(tmp_path):
    folder = tiny(tmp_path, "opt", dtype="float32")
    before = logits(folder, "float64")
    assert plan(resolve(str(folder)), read_config(folder), Checkpoint.open(folder)).graph
    made = tiny(tmp_path / "without", "opt", dtype="float32", _remove_final_layer_norm=True)
    after = logits(made, "float64")
    assert np.abs(after - before).max() > 0.1
    graph = plan(resolve(str(made)), read_config(made), Checkpoint.open(made)).graph
    (got,) = Engine(graph, Checkpoint.open(made), "f32").session().step([np.array(ROW)])
    assert np.sqrt(np.mean((got - after) ** 2) / np.mean(after**2)) < 1e-6


VALUES: tuple[object, ...] = (True, 1, 0.25)
OBJECT: dict[str, object] = {"0": "A"}
APART = frozenset(
    {
        *("model_type", "dtype", "cache_implementation"),
        *("output_attentions", "output_hidden_states", "_output_attentions"),
    }
)
"""Keys that say how the file is built, and those that transformers does not take beside some of the others."""


def ignored(folder: Path) -> frozenset[str]:
    """Return the keys that the port of a folder ignores."""
    config, checkpoint = text_part(read_config(folder)), Checkpoint.open(folder)
    program = find_family(config.architecture)
    values = dict(config.values) | {STORED_DTYPE: stored_dtype(checkpoint)}
    checked = infer(program.family(), program.blocks, values, checkpoint.tensors)
    return frozenset(account(config, {use.key for use in checked.uses}).ignored)


def accepted(raw: dict[str, object], more: dict[str, object]) -> dict[str, object]:
    """Return those of more keys that transformers takes in a config."""
    from transformers import AutoConfig

    try:
        AutoConfig.for_model(**(raw | more))
    except Exception:  # noqa: BLE001 - whatever its validators raise
        items = list(more.items())
        half = len(items) // 2
        parts = (dict(items[:half]), dict(items[half:]))
        return {} if not half else accepted(raw, parts[0]) | accepted(raw, parts[1])
    return more


def given(value: object) -> dict[str, object]:
    """Return every key that a port may ignore, with this value or one at which it is ignored."""
    return {
        name: row.values[0] if row.values else OBJECT if key.endswith(".*") else value
        for key, row in (IGNORED | PRIVATE).items()
        if (name := key.removesuffix(".*")) not in APART and "." not in name
    }


@pytest.mark.parametrize("model_type", ["llama", "opt", "gemma3_text"])
def test_what_the_port_ignores_makes_no_difference_to_the_original(tmp_path, model_type):
    folder = tiny(tmp_path, model_type, dtype="float32")
    raw = json.loads((folder / "config.json").read_text())
    expected = logits(folder)
    tried: set[str] = set()
    for value in VALUES:
        keys = accepted(raw, given(value))
        change(folder, **(raw | keys))
        paths = ignored(folder)
        left = {key: keys[key] for key in keys if is_ignored(key, paths)}
        assert len(left) > 60
        tried |= left.keys()
        (folder / "config.json").write_text(json.dumps(raw | left))
        np.testing.assert_array_equal(logits(folder), expected)
    assert {"_name_or_path", "_attn_implementation", "initializer_range", "use_cache"} <= tried


def is_ignored(key: str, paths: frozenset[str]) -> bool:
    return any(path == key or path.startswith(f"{key}.") for path in paths)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output_attentions", True),
        ("output_hidden_states", True),
        ("cache_implementation", "hybrid"),
        ("return_dict", True),
    ],
)
def test_more_outputs_and_other_caches_make_no_difference(tmp_path, key, value):
    folder = tiny_llama(tmp_path)
    expected = logits(folder)
    change(folder, **{key: value})
    assert key in ignored(folder)
    np.testing.assert_array_equal(logits(folder), expected)


def test_an_original_that_loads_and_does_not_run_is_refused(tmp_path):
    folder = tiny_llama(tmp_path)
    change(folder, return_dict=False)
    assert "return_dict" not in ignored(folder)
    with pytest.raises(Refused, match="cannot run this model") as caught:
        logits(folder)
    assert [d.code for d in caught.value.diagnostics] == ["S551"]


# With its own cache


def test_parts_of_a_row_with_the_own_cache_give_the_whole_row(tmp_path):
    reference = Reference.load(tiny(tmp_path, "gemma3_text"), "float64")
    whole = reference.logits([ROW])[0].logits
    for cuts in ([], [5, 20], range(1, len(ROW)), [0, 7, 7, 99]):
        got = reference.cached(ROW, list(cuts))
        assert got.dtype == np.float64
        assert np.abs(got - whole).max() < 1e-12


def test_the_parts_are_really_fed_apart(tmp_path):
    reference = Reference.load(tiny(tmp_path, "moshi"), "float64")
    whole = reference.logits([ROW])[0].logits
    assert np.abs(reference.cached(ROW, []) - whole).max() < 1e-12
    assert np.abs(reference.cached(ROW, [20]) - whole)[20:].max() > 1e-3


def test_a_model_without_a_cache_says_so(tmp_path):
    reference = Reference.load(tiny(tmp_path, "openai-gpt"), "float64")
    with pytest.raises(Refused, match="keeps no cache") as caught:
        reference.cached(ROW, [5])
    assert [d.code for d in caught.value.diagnostics] == ["S553"]


def test_the_reason_is_told_where_the_code_with_a_cache_raises(tmp_path):
    reference = Reference.load(tiny(tmp_path, "bart"), "float64")
    with pytest.raises(Refused, match="with its own cache: IndexError") as caught:
        reference.cached(ROW, [5])
    assert [d.code for d in caught.value.diagnostics] == ["S553"]
