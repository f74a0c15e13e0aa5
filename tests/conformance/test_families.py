# SPDX-License-Identifier: Apache-2.0
"""The farm's rows beyond Llama: random checkpoints of every family's variants, by the rule, in every mode.

Windows are shorter than the rows, so that every mode runs past them. Routers are scaled so that no token's experts are
a matter of rounding (see `tests.checkpoints`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dsl.graph import Node
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.planning.plan import plan
from porting.report.model import Case
from porting.verdict.feeding import MODES, RAGGED_LENGTHS
from porting.verdict.validate import validate
from tests.checkpoints import TINY, tiny

YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
SCALED_GEMMA = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
WINDOWS = {"use_sliding_window": True, "sliding_window": 9}
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    **{model_type: (model_type, {}) for model_type in TINY},
    "mistral, tied, without a window": (
        "mistral",
        {"sliding_window": None, "tie_word_embeddings": True},
    ),
    "mixtral in a window, stored in f32": ("mixtral", {"sliding_window": 13, "dtype": "float32"}),
    "qwen2, windows in the last layers": ("qwen2", WINDOWS | {"max_window_layers": 1}),
    "qwen3, yarn, attention bias": ("qwen3", {"rope_parameters": YARN, "attention_bias": True}),
    "qwen3_moe in a window, shares as they are": (
        "qwen3_moe",
        WINDOWS | {"norm_topk_prob": False, "decoder_sparse_step": 2, "mlp_only_layers": []},
    ),
    "gemma3, scaled rope, capped logits": (
        "gemma3_text",
        {"rope_parameters": SCALED_GEMMA, "final_logit_softcapping": 3.0},
    ),
    "deepseek_v3 without a query latent, pairs halves apart": (
        "deepseek_v3",
        {
            "q_lora_rank": None,
            "rope_interleave": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "attention_bias": True,
        },
    ),
}
NUMERICS = [pytest.param(n, marks=getattr(pytest.mark, n)) for n in ("f32", "bf16")]


def validated(directory: Path, numerics: str) -> tuple[Case, ...]:
    origin = resolve(str(directory))
    checkpoint = Checkpoint.open(directory)
    planned = plan(origin, read_config(directory), checkpoint)
    return validate(planned.graph, checkpoint, directory, numerics=(numerics,)).cases


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_port_follows_the_rule(variant: str, numerics: str, tmp_path: Path) -> None:
    model_type, overrides = VARIANTS[variant]
    cases = validated(tiny(tmp_path / "model", model_type, **overrides), numerics)
    assert {case.mode for case in cases} == {mode.name for mode in MODES}
    assert [case for case in cases if not case.passed] == []


def layers_of(directory: Path) -> list[tuple[object, ...]]:
    planned = plan(resolve(str(directory)), read_config(directory), Checkpoint.open(directory))
    return [
        (layers, tuple((node.op, node.attrs) for node in body.steps if isinstance(node, Node)))
        for body, layers in planned.graph.bodies()
    ]


@pytest.mark.f32
def test_old_and_new_layout_of_gemma3_keys_give_equal_programs(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    layers = {"num_hidden_layers": 7, "layer_types": [*kinds, *kinds, kinds[0]]}
    new = tiny(tmp_path / "new", "gemma3_text", rope_parameters=SCALED_GEMMA, **layers)
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(new / "model.safetensors", old)
    raw = json.loads((new / "config.json").read_text())
    del raw["rope_parameters"], raw["layer_types"]
    raw |= {"rope_theta": 1000000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    raw |= {"rope_local_base_freq": 10000.0, "sliding_window_pattern": 3}
    (old / "config.json").write_text(json.dumps(raw))
    assert layers_of(old) == layers_of(new)


@pytest.mark.f32
def test_every_window_is_shorter_than_the_rows() -> None:
    windows = [c["sliding_window"] for c in TINY.values() if "sliding_window" in c]
    windows += [v["sliding_window"] for _, v in VARIANTS.values() if v.get("sliding_window")]
    assert 2 * max(windows) < RAGGED_LENGTHS[0]
