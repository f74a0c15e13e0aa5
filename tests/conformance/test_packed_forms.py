# SPDX-License-Identifier: Apache-2.0
"""Every packed form of safetensors that people have: read as stored, judged by the rule against its definition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from device_model.engine.engine import Engine
from farm.oracles.tiny import tiny
from porting.checkpoint.section_beside import with_section
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.original.reference import Reference
from porting.planning.plan import Plan, plan
from porting.verdict.rows import sample_rows
from porting.verdict.validate import validate
from tests.packed_checkpoints import BY_LAYER, FORMS, quantised

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
MODELS: dict[str, dict[str, int]] = {
    "llama": SIZES | {"num_hidden_layers": 2},
    "mixtral": SIZES | {"num_hidden_layers": 1, "num_local_experts": 3},
}
JUDGED = ("fp8 a tensor, static", "nvfp4, modelopt", "gptq in act-order")
NUMERICS = [pytest.param(n, marks=getattr(pytest.mark, n)) for n in ("f32", "bf16")]
LIMIT = 1e-5


def planned(folder: Path) -> Plan:
    checkpoint = Checkpoint.open(folder)
    config = with_section(read_config(folder), checkpoint)
    return plan(resolve(str(folder)), config, checkpoint)


def assert_right(folder: Path, whole: dict[str, torch.Tensor]) -> Plan:
    """Compare the reference's weights with the whole ones, and a port's logits with the reference's."""
    port = planned(folder)
    assert port.config_keys.unread == ()
    assert port.tensors.unused == port.tensors.missing == ()
    reference = Reference.load(folder, "float64")
    state = reference._model.state_dict()
    compared = [name for name in whole if name in state]
    assert len(compared) > 5
    for name in compared:
        assert torch.equal(state[name].double(), whole[name].double()), name
    (row, *_) = sample_rows(97)
    truth = reference.logits([row.tolist()])[0].logits
    (out,) = Engine(port.graph, Checkpoint.open(folder), "f32").session().step([row])
    assert np.sqrt(np.mean((out - truth) ** 2) / np.mean(np.square(truth))) < LIMIT
    return port


@pytest.mark.f32
@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("form", FORMS)
def test_a_packed_form_is_what_its_definition_says(
    form: str, model_type: str, tmp_path: Path
) -> None:
    folder = tiny(tmp_path / "model", model_type, **MODELS[model_type])
    port = assert_right(folder, quantised(folder, FORMS[form]))
    assert any("read as they are stored" in note for note in port.notes)


@pytest.mark.f32
@pytest.mark.parametrize("forms", BY_LAYER)
@pytest.mark.parametrize("model_type", ["llama", "mixtral"])
def test_layers_are_in_different_forms(model_type: str, forms: str, tmp_path: Path) -> None:
    sizes = SIZES | {"num_hidden_layers": 3}
    folder = tiny(tmp_path / "model", model_type, **sizes)
    port = assert_right(folder, quantised(folder, *BY_LAYER[forms]))
    assert "in_layers(" in port.spec


BESIDE: dict[str, tuple[str, dict[str, object]]] = {
    "quantize_config.json": ("gptq of 3 bits", {"bits": 3, "group_size": 8, "desc_act": False}),
    "quant_config.json": (
        "awq for gemv",
        {"w_bit": 4, "q_group_size": 8, "zero_point": True, "version": "GEMV"},
    ),
    "hf_quant_config.json": (
        "fp8 a tensor, modelopt",
        {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}},
    ),
}


@pytest.mark.f32
@pytest.mark.parametrize("name", BESIDE)
def test_the_file_of_a_quantiser_beside_a_silent_config_is_read(name: str, tmp_path: Path) -> None:
    form, said = BESIDE[name]
    folder = tiny(tmp_path / "model", "llama", **MODELS["llama"])
    whole = quantised(folder, FORMS[form])
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / name).write_text(json.dumps(said))
    port = assert_right(folder, whole)
    assert any(name in note for note in port.notes)


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("form", JUDGED)
def test_a_packed_form_passes_the_rule(form: str, numerics: str, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model", "llama", **MODELS["llama"])
    quantised(folder, FORMS[form])
    graph = planned(folder).graph
    cases = validate(graph, Checkpoint.open(folder), folder, numerics=(numerics,)).cases
    assert cases
    assert [case for case in cases if not case.passed] == []
