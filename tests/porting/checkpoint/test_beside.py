# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dsl.diagnostics import Refused
from porting.checkpoint.beside import FILES, check_beside
from porting.checkpoint.tensors import Checkpoint
from porting.original.reference import Reference
from porting.pipeline import Stages, open_model
from tests.checkpoints import tiny_llama

STORED = sorted(name for name, row in FILES.items() if row.packed)
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": ".", "r": 4, "lora_alpha": 8}


def refusal(folder, is_quantised=False):
    with pytest.raises(Refused) as caught:
        check_beside(Checkpoint.open(folder), is_quantised=is_quantised)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic


def with_packed_tensor(folder):
    file = folder / "model.safetensors"
    more = {"model.layers.0.mlp.up_proj.qweight": np.zeros((4, 4), np.int32)}
    save_file(load_file(file) | more, file, metadata={"format": "pt"})


def test_an_adapter_beside_the_model_is_refused_with_the_way_to_port_both(tmp_path):
    folder = tiny_llama(tmp_path, dtype="float32")
    check_beside(Checkpoint.open(folder), is_quantised=False)
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))
    diagnostic = refusal(folder)
    assert diagnostic.code == "S529"
    assert diagnostic.place == "adapter_config.json"
    assert "--adapter FOLDER" in diagnostic.help


def test_it_is_refused_by_every_command_that_opens_a_model_and_by_the_judge(tmp_path):
    folder = tiny_llama(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    for opened in (
        lambda: open_model(str(folder), None, Stages(), lambda *_: None),
        lambda: Reference.load(folder, "float32"),
    ):
        with pytest.raises(Refused) as caught:
            opened()
        assert [d.code for d in caught.value.diagnostics] == ["S529"]


def test_weights_of_an_adapter_alone_change_nothing(tmp_path):
    folder = tiny_llama(tmp_path, dtype="float32")
    save_file({"a": np.ones(3, np.float32)}, folder / "adapter_model.safetensors")
    check_beside(Checkpoint.open(folder), is_quantised=False)
    before = Reference.load(folder, "float32").logits([[1, 2]])[0].logits
    (folder / "adapter_model.safetensors").unlink()
    after = Reference.load(folder, "float32").logits([[1, 2]])[0].logits
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", STORED)
def test_a_file_on_how_weights_are_stored_matters_where_they_are_and_the_config_is_silent(
    tmp_path, name
):
    folder = tiny_llama(tmp_path, dtype="float32")
    (folder / name).write_text('{"bits": 4}')
    check_beside(Checkpoint.open(folder), is_quantised=False)
    with_packed_tensor(folder)
    check_beside(Checkpoint.open(folder), is_quantised=True)
    diagnostic = refusal(folder)
    assert diagnostic.code == "S529"
    assert "quantization_config" in diagnostic.help


def test_a_distributed_checkpoint_that_transformers_would_read_instead_is_refused(tmp_path):
    folder = tiny_llama(tmp_path, dtype="float32")
    name = "shard-00000-model-00001-of-00001.safetensors"
    (folder / name).write_bytes((folder / "model.safetensors").read_bytes())
    diagnostic = refusal(folder)
    assert (diagnostic.code, diagnostic.place) == ("S529", name)
