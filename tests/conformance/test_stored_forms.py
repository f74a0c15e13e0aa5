# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in other forms than save_pretrained's, by the same rule: FP8 with block scales, mxfp4, stacked experts.

The truth is transformers' own reading of the same files: it takes the scales from the grid's size, so sizes are whole
blocks here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dsl.counting.footprint import footprint
from dsl.diagnostics import Refused, render_all
from dsl.symbolic import evaluate
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.planning.plan import Plan, plan
from porting.verdict.validate import validate

BLOCK = 8
KEPT = re.compile(r"norm|embed|lm_head|router|\.gate\.weight$")
MLA = {
    "moe_intermediate_size": 40,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "qk_head_dim": 24,
    "head_dim": 8,
    "v_head_dim": 24,
    "kv_lora_rank": 32,
    "q_lora_rank": 40,
}
FP8 = {"qwen3": {}, "mixtral": {}, "deepseek_v3": MLA}
NUMERICS = [pytest.param(n, marks=getattr(pytest.mark, n)) for n in ("f32", "bf16")]
Tensors = dict[str, torch.Tensor]


def rewrite(folder: Path, change: Callable[[Tensors], Tensors], **keys: object) -> Path:
    file, config = folder / "model.safetensors", folder / "config.json"
    save_file(change(load_file(file)), file, {"format": "pt"})
    config.write_text(json.dumps(json.loads(config.read_text()) | keys, indent=2))
    return folder


def in_fp8(tensors: Tensors) -> Tensors:
    made: Tensors = {}
    for name, weight in tensors.items():
        if weight.ndim != 2 or KEPT.search(name):
            made[name] = weight
            continue
        rows, columns = weight.shape
        blocks = weight.float().view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scales = blocks.abs().amax((1, 3)) / 448
        shown = (blocks / scales[:, None, :, None]).view(rows, columns)
        made[name] = shown.to(torch.float8_e4m3fn)
        made[f"{name}_scale_inv"] = scales
    return made


def quantisation(**more: object) -> dict[str, object]:
    said = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}
    return {"quantization_config": said | {"weight_block_size": [BLOCK, BLOCK]} | more}


def planned(folder: Path) -> Plan:
    return plan(resolve(str(folder)), read_config(folder), Checkpoint.open(folder))


def weights_bytes(made: Plan) -> int:
    return int(evaluate(footprint(made.graph).weights, dict.fromkeys(made.graph.mesh, 1)))


def failures(folder: Path, numerics: str) -> list[object]:
    cases = validate(
        planned(folder).graph, Checkpoint.open(folder), folder, numerics=(numerics,)
    ).cases
    assert cases
    return [case for case in cases if not case.passed]


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("model_type", FP8)
def test_fp8_with_block_scales(model_type: str, numerics: str, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model", model_type, **FP8[model_type])
    whole = weights_bytes(planned(folder))
    folder = rewrite(folder, in_fp8, **quantisation())
    assert failures(folder, numerics) == []
    made = planned(folder)
    assert 'scaled(\n    "f8e4m3"' in made.spec
    assert weights_bytes(made) < whole
    assert made.tensors.unused == made.tensors.missing == ()


@pytest.mark.f32
@pytest.mark.parametrize(("key", "value"), [("fmt", "e5m2"), ("weight_block_size", 8)])
def test_another_kind_of_fp8_is_refused(key: str, value: object, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model", "qwen3")
    rewrite(folder, in_fp8, **quantisation(**{key: value}))
    with pytest.raises(Refused) as caught:
        planned(folder)
    assert f"quantization_config.{key}" in render_all(caught.value.diagnostics)


@pytest.mark.f32
def test_a_lost_scale_is_named(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model", "qwen3")
    lost = "model.layers.2.mlp.up_proj.weight_scale_inv"
    rewrite(folder, lambda t: {k: v for k, v in in_fp8(t).items() if k != lost}, **quantisation())
    with pytest.raises(Refused) as caught:
        planned(folder)
    assert lost in render_all(caught.value.diagnostics)


def in_one_tensor(tensors: Tensors) -> Tensors:
    """Stack the experts of each layer, gates above the rows of `up`."""
    pattern = re.compile(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")
    parts: dict[str, dict[tuple[str, int], torch.Tensor]] = {}
    made: Tensors = {}
    for name, weight in tensors.items():
        found = pattern.fullmatch(name)
        if found is None:
            made[name] = weight
            continue
        parts.setdefault(found.group(1), {})[found.group(3), int(found.group(2))] = weight
    for at, found in parts.items():
        count = 1 + max(number for _, number in found)
        both = [torch.cat([found["gate", e], found["up", e]]) for e in range(count)]
        made[f"{at}.gate_up_proj"] = torch.stack(both)
        made[f"{at}.down_proj"] = torch.stack([found["down", e] for e in range(count)])
    return made


@pytest.mark.parametrize("numerics", NUMERICS)
def test_experts_in_one_tensor(numerics: str, tmp_path: Path) -> None:
    folder = rewrite(tiny(tmp_path / "model", "qwen3_moe"), in_one_tensor)
    assert failures(folder, numerics) == []


def in_mxfp4(tensors: Tensors) -> Tensors:
    """Give the experts any four-bit patterns, with scales at which they are about as large as before."""
    generator = torch.Generator().manual_seed(0)
    made: Tensors = {}
    for name, weight in tensors.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            made[name] = weight
            continue
        experts, width, rows = weight.shape
        shape = (experts, rows, width // 32)
        made[f"{name}_blocks"] = torch.randint(
            0, 256, (*shape, 16), generator=generator, dtype=torch.uint8
        )
        made[f"{name}_scales"] = torch.randint(
            121, 124, shape, generator=generator, dtype=torch.uint8
        )
    return made


@pytest.mark.parametrize("numerics", NUMERICS)
def test_experts_of_gpt_oss_in_mxfp4(numerics: str, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model", "gpt_oss", hidden_size=64, intermediate_size=96)
    whole = weights_bytes(planned(folder))
    said = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    rewrite(folder, in_mxfp4, quantization_config=said)
    assert failures(folder, numerics) == []
    made = planned(folder)
    assert whole is not None
    assert weights_bytes(made) < whole / 2
    assert made.tensors.unused == made.tensors.missing == ()
