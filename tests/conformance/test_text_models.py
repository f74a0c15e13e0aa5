# SPDX-License-Identifier: Apache-2.0
"""Every model that is ported as text computes over text what transformers computes with the whole model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device_model.engine.engine import Engine
from dsl.diagnostics import Refused
from porting.checkpoint.tensors import SINGLE, Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.original.reference import Reference
from porting.planning.plan import Plan, plan
from porting.planning.text_models import text_models
from porting.verdict.twin import twin_of
from tests.composites import composite, config_of

ROW = list(range(3, 43))
MODELS = text_models().models


def made(folder: Path, name: str) -> Path:
    row = MODELS[name]
    composite(folder, name, row.type, row.text)
    if row.type == "kimi_k25":  # saved, and loaded, under a name that no published file has
        rename(
            folder,
            lambda key: key.replace("language_model.model.blocks", "language_model.model.layers"),
        )
    return folder


def rename(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / SINGLE
    save_file({change(k): v for k, v in load_file(path).items()}, path, metadata={"format": "pt"})


def planned(folder: Path) -> Plan:
    return plan(resolve(str(folder)), read_config(folder), Checkpoint.open(folder))


def error(folder: Path) -> float:
    """Return how far the port is from transformers' float64 over one row."""
    graph = planned(folder).graph
    (got,) = Engine(graph, Checkpoint.open(folder), "f32").session().step([np.array(ROW)])
    truth = Reference.load(folder, "float64").logits([ROW])[0].logits
    return float(np.sqrt(np.mean((got - truth) ** 2) / np.mean(truth**2)))


def test_the_table_says_what_configs_of_transformers_say_where_a_file_is_silent():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    said, ours = {}, {}
    for name, row in MODELS.items():
        config = CONFIG_MAPPING[row.type]()
        tied = bool(getattr(config, "tie_word_embeddings", False))
        said[name] = (config.get_text_config().model_type, row.tied if row.tied == "text" else tied)
        ours[name] = (row.text, row.tied)
    assert ours == said


def test_a_type_with_a_causal_class_of_its_own_has_that_one():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    classes = text_models().classes
    named = {kind: CAUSAL[kind] for kind in classes if kind in CAUSAL}
    assert {kind: classes[kind] for kind in named} == named
    assert set(classes) - set(named) == {
        "kimi_k2", "mllama_text_model", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_vl",
        "qwen2_vl_text", "qwen3_vl_moe_text", "qwen3_vl_text",
    }  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_row_of_the_table_is_what_the_whole_model_computes_over_text(tmp_path, name):
    folder = made(tmp_path, name)
    result = planned(folder)
    left = [n for names in result.tensors.left.values() for n in names]
    assert result.notes[0] == f"ported as text: of {MODELS[name].type} the text model alone"
    assert left
    assert not any(
        "language_model." in n or "text_model." in n for n in left if "layers.1." not in n
    )
    assert error(folder) < 1e-5


@pytest.mark.parametrize(
    "name", ["Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"]
)
def test_older_files_have_one_config_for_all(tmp_path, name):
    folder = made(tmp_path, name)
    config = config_of(folder)
    inner = config.pop("text_config")
    turned = inner.pop("rope_parameters")
    kept = (
        "architectures",
        "model_type",
        "vision_config",
        "dtype",
        "image_token_id",
        "video_token_id",
    )
    sections = {"type": "mrope", "mrope_section": turned["mrope_section"]}
    old = {**inner, **{k: config[k] for k in kept}, "rope_theta": turned["rope_theta"]}
    (folder / "config.json").write_text(json.dumps({**old, "rope_scaling": sections}))
    assert error(folder) < 1e-5


def test_a_name_of_remote_code_is_that_of_the_type(tmp_path):
    folder = made(tmp_path, "Kimi_K25ForConditionalGeneration")
    config = config_of(folder)
    config["architectures"] = ["KimiK25ForConditionalGeneration"]
    config["text_config"]["model_type"] = "kimi_k2"
    (folder / "config.json").write_text(json.dumps(config))
    assert error(folder) < 1e-5


@pytest.mark.parametrize(
    "name", ["Llama4ForConditionalGeneration", "LightOnOcrForConditionalGeneration"]
)
def test_the_twin_is_of_the_text_model_alone(tmp_path, name):
    folder = made(tmp_path / "model", name)
    twin = twin_of(planned(folder).spec, folder, tmp_path / "twin")
    names = set(twin.checkpoint.tensors)
    assert "model.norm.weight" in names
    assert not any("language_model" in tensor for tensor in names)


def test_a_class_whose_logits_are_not_those_of_its_text_class_is_refused(tmp_path):
    folder = composite(tmp_path, "LlavaForConditionalGeneration", "llava", "cohere")
    with pytest.raises(Refused) as caught:
        planned(folder)
    assert [d.code for d in caught.value.diagnostics] == ["S404"]


def test_what_stands_beside_may_be_missing_or_of_another_size_and_the_text_model_may_not(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    folder = made(tmp_path, "LlavaForConditionalGeneration")
    path = folder / SINGLE
    whole = load_file(path)
    kept = {k: v for k, v in whole.items() if not k.startswith("vision_tower")}
    kept["multi_modal_projector.linear_1.weight"] = torch.zeros(3)
    save_file(kept, path, metadata={"format": "pt"})
    assert error(folder) < 1e-5
    kept.pop("language_model.model.layers.1.mlp.up_proj.weight")
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(Refused) as caught:
        Reference.load(folder, "float64")
    assert [d.code for d in caught.value.diagnostics] == ["S551"]


def test_more_parameters_beside_the_text_model_than_any_has_are_not_made(tmp_path, monkeypatch):
    folder = made(tmp_path, "LlavaForConditionalGeneration")
    monkeypatch.setattr("porting.original.loading.MOST_BESIDE", 1000)
    with pytest.raises(Refused) as caught:
        Reference.load(folder, "float64")
    assert "stand beside the text model" in caught.value.diagnostics[0].message


@pytest.mark.parametrize("key", ["num_hidden_layers", "depth"])
def test_layers_of_a_tower_are_counted_before_they_are_made(tmp_path, key):
    folder = made(tmp_path, "LlavaForConditionalGeneration")
    config = config_of(folder)
    config["vision_config"][key] = 2**40
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused) as caught:
        Reference.load(folder, "float64")
    assert [d.code for d in caught.value.diagnostics] == ["S551"]
