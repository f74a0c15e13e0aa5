# SPDX-License-Identifier: Apache-2.0
"""What the oracles of the farm leave out: other values of a type's keys, by the rule, and files as they used to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsl.graph import Node
from dsl.inference.inference import infer
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import parse_config, read_config
from porting.config.text_part import text_part
from porting.origin.resolve import resolve
from porting.planning.library import family_for
from porting.planning.plan import plan
from porting.verdict.feeding import MODES
from porting.verdict.validate import validate

# Behind the first token, which no rotation turns, every sequence is a long one.
LONG = {
    "rope_type": "longrope",
    "rope_theta": 6000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.3, 1.9],
    "long_factor": [1.1, 2.5, 7.0],
    "attention_factor": 1.2,
}
PLAIN = {"rope_type": "default", "rope_theta": 6000.0}
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "cohere without norms of queries, with biases": (
        "cohere",
        {"use_qk_norm": False, "attention_bias": True, "tie_word_embeddings": False},
    ),
    "cohere_compass_text without rotation in layers without a window": (
        "cohere_compass_text",
        {"rope_parameters": {"sliding_attention": PLAIN, "full_attention": None}},
    ),
    "gemma as its first files call the activation": ("gemma", {"hidden_act": "gelu"}),
    "gemma2 with a head of its own": ("gemma2", {"tie_word_embeddings": False}),
    "gemma2 without bounds": (
        "gemma2",
        {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "glm without biases": ("glm", {"attention_bias": False}),
    "mimo_v2_flash with values as they are": ("mimo_v2_flash", {"attention_value_scale": None}),
    "laguna with a gate for each value": ("laguna", {"gating": "per-element"}),
    "laguna with a gate for each head": ("laguna", {"gating": "per-head"}),
    "longcat_flash with yarn": (
        "longcat_flash",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 6000.0,
                "factor": 4.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "persimmon without norms of queries": ("persimmon", {"qk_layernorm": False}),
    "phi3 beyond its first length": (
        "phi3",
        {"rope_parameters": LONG, "original_max_position_embeddings": 1},
    ),
    "phi3 without a window": (
        "phi3",
        {"rope_parameters": PLAIN, "sliding_window": None, "tie_word_embeddings": True},
    ),
}


@pytest.mark.f32
@pytest.mark.parametrize("variant", VARIANTS)
def test_port_follows_the_rule(variant: str, tmp_path: Path) -> None:
    model_type, overrides = VARIANTS[variant]
    directory = tiny(tmp_path / "model", model_type, **overrides)
    checkpoint = Checkpoint.open(directory)
    planned = plan(resolve(str(directory)), read_config(directory), checkpoint)
    cases = validate(planned.graph, checkpoint, directory, numerics=("f32",)).cases
    assert {case.mode for case in cases} == {mode.name for mode in MODES}
    assert [case for case in cases if not case.passed] == []


def layers_of(directory: Path) -> list[tuple[object, ...]]:
    planned = plan(resolve(str(directory)), read_config(directory), Checkpoint.open(directory))
    return [
        (layers, tuple((node.op, node.attrs) for node in body.steps if isinstance(node, Node)))
        for body, layers in planned.graph.bodies()
    ]


OLD: dict[str, dict[str, object]] = {
    "gemma2": {
        "cache_implementation": "hybrid",
        "hidden_act": "gelu_pytorch_tanh",
        "sliding_window_size": 11,
    },
    "cohere2": {
        "cache_implementation": "hybrid",
        "layer_switch": 2,
        "order_of_interleaved_layers": "local_attn_first",
        "position_embedding_type": "rope_gptj",
        "rotary_pct": 1.0,
        "sliding_window_pattern": 2,
        "use_embedding_sharing": True,
        "use_gated_activation": True,
        "use_parallel_block": True,
        "use_parallel_embedding": True,
    },
}


@pytest.mark.f32
@pytest.mark.parametrize("model_type", OLD)
def test_files_without_layer_types_give_equal_programs(model_type: str, tmp_path: Path) -> None:
    directory = tiny(tmp_path, model_type)
    new = layers_of(directory)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    del config["layer_types"]
    path.write_text(json.dumps(config | OLD[model_type] | {"rope_theta": theta}))
    assert layers_of(directory) == new


@pytest.mark.f32
def test_a_config_of_gemma_3_may_leave_out_what_is_gemma_3_s_default() -> None:
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}
    outer |= {"mm_tokens_per_image": 256, "vision_config": {"model_type": "siglip_vision_model"}}
    config = text_part(parse_config(json.dumps(outer | {"text_config": text}).encode()))
    program = family_for(config.architecture)
    uses = infer(program.family(), program.blocks, config.values).uses
    bound = {use.name: use.value for use in uses}
    assert (bound["H"], bound["K"], bound["E"], bound["V"]) == (8, 4, 256, 262208)
    assert (bound["theta"], bound["local_theta"], bound["factor"]) == (1e6, 1e4, 8.0)
