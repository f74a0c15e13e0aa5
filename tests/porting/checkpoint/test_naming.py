# SPDX-License-Identifier: Apache-2.0
"""Names of tensors in a file: relative to the base model, or inside of another model."""

from __future__ import annotations

import pytest

from dsl.inference.inference import infer
from dsl.linking.program import Program
from dsl.stored_tensors import tensors as tensors_of
from porting.checkpoint.naming import as_named, base_of, renamed
from porting.planning.library import families, family_for

LLAMA = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 16} | {
    "intermediate_size": 12, "rms_norm_eps": 1e-5, "rope_parameters.rope_theta": 1e4,
}  # fmt: skip
GPT2 = {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 16, "n_positions": 16}
BERT = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 16} | {
    "intermediate_size": 12, "max_position_embeddings": 16, "type_vocab_size": 2,
    "hidden_act": "gelu", "is_decoder": True,
}  # fmt: skip


def names(program: Program, values: dict[str, object]) -> set[str]:
    made = infer(program.family(), program.blocks, values | {"dtype": "bf16"}).graph
    assert made is not None
    return {
        name
        for body, layers in made.bodies()
        for layer in layers
        for weight in body.weights
        for name, _ in tensors_of(weight.source, layer)
    }


def moved(held: set[str], old: str, new: str) -> set[str]:
    return {new + name.removeprefix(old) if name.startswith(old) else name for name in held}


@pytest.mark.parametrize(
    ("architecture", "values", "base"),
    [
        ("LlamaForCausalLM", LLAMA, "model."),
        ("GPT2LMHeadModel", GPT2, "transformer."),
        ("BertLMHeadModel", BERT, "bert."),
    ],
)
def test_names_relative_to_the_base_model_become_the_ports(architecture, values, base):
    program = family_for(architecture)
    own = names(program, values)
    assert as_named(program, own) == (program, ())
    relative = moved(own, base, "")
    assert relative != own
    changed, (note,) = as_named(program, relative)
    assert names(changed, values) == relative
    assert f"`{base}` is ``" in note


@pytest.mark.parametrize(
    ("base", "head"),
    [
        ("language_model.model.", "language_model.lm_head."),
        ("model.language_model.", "lm_head."),
        ("model.text_model.", "lm_head."),
        ("language_model.", "lm_head."),
    ],
)
def test_a_text_model_is_looked_for_inside_only_where_there_is_another(base, head):
    program = family_for("LlamaForCausalLM")
    inside = moved(moved(names(program, LLAMA), "model.", base), "lm_head.", head)
    assert names(as_named(program, inside, inside=True)[0], LLAMA) == inside
    if base.startswith("language_model.") or "text" in base:
        assert names(as_named(program, inside)[0], LLAMA) != inside


INSIDE = {"FuyuForCausalLM", "Gemma3ForConditionalGeneration", "GotOcr2ForConditionalGeneration"}
"""Families of a text model inside of another, whose tensors they name."""
ADDED = {"Llama4ForCausalLM", "MllamaForCausalLM"}
"""Classes for which transformers takes away the name of the model around them."""


def test_the_name_of_the_base_model_is_transformers():
    import transformers

    differ = set()
    for architecture in families():
        base = base_of(family_for(architecture))
        known = getattr(transformers, architecture).base_model_prefix
        differ |= {architecture} if base != known else set()
    assert differ == INSIDE | ADDED


def test_a_name_that_some_tensors_lack_stays_the_familys(tmp_path):
    program = family_for("LlamaForCausalLM")
    own = names(program, LLAMA)
    few = {"layers.0.mlp.up_proj.weight", "norm.weight"}
    assert as_named(program, own | few) == (program, ())
    assert as_named(program, set()) == (program, ())


def test_one_tensor_can_stand_for_another():
    program = family_for("GPT2LMHeadModel")
    changed = renamed(program, {"transformer.wte.weight": "lm_head.weight"})
    own = names(program, GPT2)
    assert names(changed, GPT2) == own - {"transformer.wte.weight"} | {"lm_head.weight"}
