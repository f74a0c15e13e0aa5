# SPDX-License-Identifier: Apache-2.0
"""What the zoo's programs say of weights and states, against what transformers makes of the same configs.

The configs in `tests/data/configs` hold the values of the models' public config.json files as known to us; no file was
downloaded. Weights: the model that transformers builds on the `meta` device in bfloat16, under the names and in the
shapes that `save_pretrained` would write. States: transformers' own cache after some tokens through a tiny model.

DeepSeek's `e_score_correction_bias` is a buffer, not a parameter, and transformers keeps it in float32 whatever the
model's dtype when it loads weights (`_keep_in_fp32_modules_strict`), as the published checkpoint does; a model built
from a config alone has it in bfloat16. The programs declare it f32, and it is counted so here.
"""

from __future__ import annotations

import json
import re
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest

from dsl.counting.footprint import footprint
from dsl.graph import Graph, TensorRef
from dsl.inference.inference import check, infer
from dsl.linking.program import port_of
from dsl.source import Source
from dsl.stored_tensors import tensors
from dsl.symbolic import Dim, evaluate
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from porting.config import ignored_keys
from porting.config.reader import ModelConfig, parse_config, read_config
from porting.planning.library import family_for
from porting.planning.plan import limit_of
from tests.checkpoints import TINY, tiny, tiny_llama
from tests.conftest import TESTS, Golden

CONFIGS = TESTS / "data" / "configs"
MODELS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "qwen3-235b-a22b": 235_093_634_560,
    "gemma-3-27b-text": 27_009_346_304,
    "deepseek-v3-671b": 671_026_419_200,
}
KEPT_IN_F32 = "e_score_correction_bias"


@cache
def config_of(name: str) -> ModelConfig:
    return parse_config((CONFIGS / f"{name}.json").read_bytes())


def bound(config: ModelConfig) -> Graph:
    program = family_for(config.architecture)
    checked = infer(program.family(), program.blocks, dict(config.values) | {"dtype": "bf16"})
    keys = ignored_keys.account(config, {use.key for use in checked.uses})
    assert [*checked.diagnostics, *keys.diagnostics] == []
    assert checked.graph is not None
    return checked.graph


def value(graph: Graph, formula: Dim, **at: int) -> int:
    exact = evaluate(formula, dict.fromkeys(graph.mesh, 1) | at)
    assert exact.denominator == 1
    return int(exact)


@cache
def on_meta(name: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    raw = json.loads((CONFIGS / f"{name}.json").read_text())
    config = AutoConfig.for_model(**raw)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def own_tensors(model: Any) -> dict[str, Any]:
    """The parameters and saved buffers of a model, each once: a tied head is the embedding."""
    distinct: dict[int, tuple[str, Any]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        distinct.setdefault(id(tensor), (name, tensor))
    return dict(distinct.values())


@pytest.mark.parametrize("name", MODELS)
def test_weight_bytes_and_parameters_are_those_of_transformers(name: str) -> None:
    graph = bound(config_of(name))
    prints = footprint(graph)
    own = own_tensors(on_meta(name))
    sizes = {k: 4 if k.endswith(KEPT_IN_F32) else t.itemsize for k, t in own.items()}
    assert value(graph, prints.weights) == sum(t.numel() * sizes[k] for k, t in own.items())
    assert value(graph, prints.parameters) == sum(t.numel() for t in own.values())
    assert value(graph, prints.parameters) == MODELS[name]


@pytest.mark.parametrize("name", MODELS)
def test_tensors_are_those_that_save_pretrained_writes(name: str) -> None:
    from transformers.core_model_loading import revert_weight_conversion

    model = on_meta(name)
    written = revert_weight_conversion(model, own_tensors(model))
    stored = {name: tuple(tensor.shape) for name, tensor in written.items()}
    read: dict[str, int] = {}
    for body, layers in bound(config_of(name)).bodies():
        for weight in body.weights:
            for layer in layers:
                for tensor, ref in tensors(weight.source, layer):
                    shape = stored[tensor]
                    assert len(shape) == len(ref.shape)
                    fits = [w is None or w == s for w, s in zip(ref.shape, shape, strict=True)]
                    assert all(fits), (tensor, shape, ref.shape)
                    read[tensor] = read.get(tensor, 0) + prod(d for d in ref.read)
    assert read == {name: prod(shape) for name, shape in stored.items()}


SHARDS = {
    "colwise": ((0, "tp"),),
    "rowwise": ((1, "tp"),),
    "replicated_with_grad_allreduce": (),
}


@pytest.mark.parametrize("name", MODELS)
def test_sharding_is_that_of_transformers_plan(name: str) -> None:
    model = on_meta(name)
    modules = {
        re.sub(r"\.\d+\.", ".*.", m.removeprefix("model.")) for m, _ in model.named_modules()
    }
    plan = {
        m: s for m, s in model.config.base_model_tp_plan.items() if s in SHARDS and m in modules
    }
    agreed = set()
    for body, _ in bound(config_of(name)).bodies():
        for weight in body.weights:
            if not isinstance(weight.source, TensorRef):
                continue
            name = weight.source.name.removeprefix("model.").replace("{i}", "*")
            module = name.rsplit(".", 1)[0]
            if module in plan:
                axes = enumerate(weight.type.axes)
                shards = tuple((i, s) for i, axis in axes for s in axis.shards)
                assert shards == SHARDS[plan[module]], module
                agreed.add(module)
    assert agreed == set(plan)


@pytest.mark.parametrize("name", MODELS)
def test_bytes_on_one_chip_are_the_formula_s_share(name: str) -> None:
    graph = bound(config_of(name))
    weights = footprint(graph).weights
    whole = value(graph, weights)
    share = value(graph, weights, **dict.fromkeys(graph.mesh, 2))
    assert whole / 2 ** len(graph.mesh) < share < whole


@pytest.mark.parametrize("name", MODELS)
def test_ports_of_the_zoo_are_what_the_families_give(name: str, golden: Golden) -> None:
    config = config_of(name)
    program = family_for(config.architecture)
    values = dict(config.values) | {"dtype": "bf16"}
    checked = infer(program.family(), program.blocks, values)
    header = (
        f"Port of {name}, from the values of its public config; without a checkpoint.",
        f"Family {program.family().name.id}.",
    )
    limit = limit_of(config, checked.uses)
    spec = format_file(port_of(program, checked.uses, header, checked.entries.values(), limit))
    golden(spec, f"../model_zoo/ports/{name}.sohu")
    file = parse(Source(f"{name}.sohu", spec))
    again = check(file.families[0], {b.name.id: b for b in file.blocks})
    assert again.diagnostics == ()
    assert again.graph is not None
    assert footprint(again.graph) == footprint(bound(config))


STATES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    **{kind: (kind, {}) for kind in TINY},
    "mixtral in a window": ("mixtral", {"sliding_window": 11}),
    "mistral without a window": ("mistral", {"sliding_window": None}),
    "qwen2, windows in the last layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "qwen3 in a window of one token": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 2, "max_window_layers": 2},
    ),
    "qwen3_moe in a window": ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 10}),
    "deepseek_v3 without a query latent": ("deepseek_v3", {"q_lora_rank": None}),
}


@pytest.mark.parametrize("kind", STATES)
def test_state_bytes_are_those_of_transformers_cache(kind: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model_type, overrides = STATES[kind]
    make = tiny_llama if model_type == "llama" else lambda at, **o: tiny(at, model_type, **o)
    folder = make(tmp_path / "model", **overrides)
    graph = bound(read_config(folder))
    state = footprint(graph).state
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    batch, passed, past = 3, 0, None
    for tokens in (1, 7, 1, 1, 1, 5, 20):
        ids = torch.ones(batch, tokens, dtype=torch.long)
        with torch.no_grad():
            past = model(input_ids=ids, past_key_values=past, use_cache=True).past_key_values
        passed += tokens
        held = [t for layer in past.layers for t in (layer.keys, layer.values)]
        actual = sum(t.numel() * t.itemsize for t in held)
        assert value(graph, state, B=batch, C=passed) == actual, f"after {passed} tokens"
