# SPDX-License-Identifier: Apache-2.0
"""Formats that are not read are named by their maker, each in one error."""

from __future__ import annotations

import json

import pytest

from dsl.diagnostics import Refused, render
from porting.checkpoint.foreign import MAKERS, check_layout, check_method
from porting.checkpoint.packed_forms import METHODS
from porting.checkpoint.tensors import SINGLE
from porting.config.reader import parse_config
from porting.pipeline import port
from tests.checkpoints import safetensors_bytes, tensor_entry

FOLDERS = {
    "diffusers": ["model_index.json", "unet"],
    "GGUF": ["model.Q4_K_M.gguf", "config.json"],
    "CTranslate2": ["config.json", "model.bin", "vocabulary.json"],
    "MLC LLM": ["mlc-chat-config.json", "params_shard_0.bin"],
    "TensorRT-LLM": ["config.json", "rank0.engine"],
    "NeMo": ["model.nemo"],
    "Megatron": ["config.json", "latest_checkpointed_iteration.txt", "iter_0000010"],
    "DeepSpeed": ["config.json", "global_step10", "zero_to_fp32.py"],
    "torch's distributed": ["__0_0.distcp", ".metadata"],
    "Mistral's own": ["params.json", "consolidated.safetensors", "tekken.json"],
    "Meta": ["params.json", "consolidated.00.pth", "tokenizer.model"],
    "TensorFlow": ["config.json", "tf_model.h5"],
    "Flax": ["config.json", "flax_model.msgpack"],
    "ONNX": ["config.json", "model.onnx", "model.onnx_data"],
    "OpenVINO": ["config.json", "openvino_model.xml", "openvino_model.bin"],
    "Core ML": ["model.mlpackage"],
    "LiteRT": ["model.tflite"],
    "ExecuTorch": ["model.pte"],
    "MLX": ["config.json", "weights.npz"],
    "before GGUF": ["ggml-model-q4_0.bin"],
    "pytorch_model.bin": ["config.json", "pytorch_model.bin"],
    "model.pt": ["config.json", "model.pt"],
    "model.pth": ["config.json", "model.pth"],
}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8}


def refused(folder, **options) -> Refused:
    with pytest.raises(Refused) as caught:
        port(str(folder), out=folder / "out", **options)
    return caught.value


@pytest.mark.parametrize("maker", FOLDERS)
@pytest.mark.parametrize("has_config", [True, False])
def test_a_folder_in_a_format_of_others_is_one_error_with_its_name(tmp_path, maker, has_config):
    for name in FOLDERS[maker]:
        (tmp_path / name).write_bytes(b"\x80\x04.")
    (tmp_path / "config.json").unlink(missing_ok=True)
    if has_config:
        # Most of them have one, of transformers or of their own.
        (tmp_path / "config.json").write_text(json.dumps({"bos_token": "<s>"}))
    (only,) = refused(tmp_path).diagnostics
    assert only.code in {"S521", "S578"}
    assert maker in render(only)
    assert only.help


def test_files_that_say_nothing_and_what_lies_beside_safetensors_are_left():
    check_layout(["config.json", "README.md", "tokenizer.json", "generation_config.json"])


@pytest.mark.parametrize("method", [*sorted(MAKERS), "something-new"])
@pytest.mark.parametrize("plan_only", [True, False])
def test_a_method_that_is_not_read_is_one_error_with_its_makers_name(tmp_path, method, plan_only):
    section = {"quant_method": method, "bits": 4, "nested": {"deep": [1]}}
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"quantization_config": section}))
    # Its tensors are of types that nothing reads: that is not what is wrong.
    content = safetensors_bytes({"a": tensor_entry("I16", [2], 0, 4)}, b"xxxx")
    (tmp_path / SINGLE).write_bytes(content)
    (only,) = refused(tmp_path, plan_only=plan_only).diagnostics
    assert only.code == "S578"
    assert MAKERS.get(method, method) in only.message
    assert only.help


@pytest.mark.parametrize("both", [True, False])
def test_mlx_is_not_told_as_a_type_of_its_tensors(tmp_path, both):
    section = {"group_size": 64, "bits": 4}
    more = {"quantization": section} | ({"quantization_config": section} if both else {})
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | more))
    content = safetensors_bytes({"a.weight": tensor_entry("U32", [1], 0, 4)}, b"xxxx")
    (tmp_path / SINGLE).write_bytes(content)
    (only,) = refused(tmp_path).diagnostics
    assert (only.code, "MLX" in only.message, "U32" in render(only)) == ("S578", True, False)


@pytest.mark.parametrize("key", [{"is_marlin_format": True}, {"checkpoint_format": "marlin"}])
def test_words_of_gptq_in_the_order_of_marlin_are_marlins(key):
    section = {"quant_method": "gptq", "bits": 4, "group_size": 128, **key}
    config = parse_config(json.dumps(LLAMA | {"quantization_config": section}).encode())
    with pytest.raises(Refused, match="Marlin"):
        check_method(config)


@pytest.mark.parametrize("method", [*METHODS, "mxfp4"])
def test_methods_that_are_read_pass(method):
    section = {"quant_method": method, "bits": 4, "group_size": 128}
    check_method(parse_config(json.dumps(LLAMA | {"quantization_config": section}).encode()))
    check_method(parse_config(json.dumps(LLAMA).encode()))
