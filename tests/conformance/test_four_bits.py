# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that GPTQ and AWQ quantised to four bits, by the rule.

They are written number by number; the truth is transformers in float64 with the weights that the numbers stand for.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from device_model.engine.engine import Engine
from dsl.counting.footprint import footprint
from dsl.diagnostics import Refused, render_all
from dsl.symbolic import evaluate
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.original.reference import Reference
from porting.planning.plan import Plan, plan
from porting.verdict.rows import sample_rows
from porting.verdict.validate import validate
from tests import four_bits

GROUP = 8
KEPT = re.compile(r"norm|embed|lm_head|router|\.gate\.weight$|wte|wpe")
NUMERICS = [pytest.param(n, marks=getattr(pytest.mark, n)) for n in ("f32", "bf16")]
GPTQ = {
    "quant_method": "gptq",
    "bits": 4,
    "group_size": GROUP,
    "desc_act": False,
    "sym": True,
    "lm_head": False,
    "checkpoint_format": "gptq",
    "pack_dtype": "int32",
    "meta": {"damp_percent": 0.05, "quantizer": ["gptqmodel:2.0.0"], "uri": "https://…"},
}
AWQ = {
    "quant_method": "awq",
    "bits": 4,
    "group_size": GROUP,
    "zero_point": True,
    "version": "gemm",
    "modules_to_not_convert": None,
}
# The section of each kind, whether its zero points are all in the middle, and the scales' format.
KINDS: dict[str, tuple[dict[str, object], bool, torch.dtype]] = {
    "gptq": (GPTQ, True, torch.float16),
    "gptq with zero points": (GPTQ | {"sym": False}, False, torch.bfloat16),
    "gptq_v2": (GPTQ | {"sym": False, "checkpoint_format": "gptq_v2"}, False, torch.float16),
    "gptq in one group": (GPTQ | {"group_size": -1}, True, torch.float32),
    "awq": (AWQ, False, torch.float16),
}
CASES = [
    ("llama", "gptq"),
    ("llama", "gptq in one group"),
    ("llama", "awq"),
    ("qwen2", "gptq with zero points"),
    ("mixtral", "gptq_v2"),
    ("mixtral", "awq"),
    ("gpt_bigcode", "gptq with zero points"),
    ("gpt_bigcode", "awq"),
    ("gpt_neox", "gptq"),
    ("gpt2", "gptq with zero points"),
    ("deepseek_v3", "awq"),
    ("deepseek_v3", "gptq"),
]
# With these random weights two groups of experts are 0.002 apart at one of 48 positions, and bf16 takes the other one:
# with whole weights too, whose bits are the same (below).
FLIPS = {("deepseek_v3", "awq", "bf16")}
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
SIZES: dict[str, dict[str, int]] = {
    "gpt_neox": {"hidden_size": 64, "num_attention_heads": 4},
    "gpt_bigcode": {"n_embd": 64, "n_head": 4},
    "deepseek_v3": MLA,
}
CONV = {"gpt2"}
Tensors = dict[str, torch.Tensor]


def section(kind: str) -> dict[str, object]:
    return KINDS[kind][0]


def quantised(tensors: Tensors, kind: str, model_type: str = "llama") -> tuple[Tensors, Tensors]:
    """Return a checkpoint's tensors in four bits, and the same weights whole."""
    said, symmetric, dtype = KINDS[kind]
    packed: Tensors = {}
    whole: Tensors = {}
    for name, weight in tensors.items():
        if weight.ndim != 2 or KEPT.search(name):
            packed[name] = whole[name] = weight
            continue
        group = int(str(said["group_size"]))
        # Both formats keep a Conv1D's weight as that of a linear layer.
        turned = model_type in CONV
        linear = weight.T if turned else weight
        group = linear.shape[1] if group == -1 else group
        numbers = four_bits.nearest(linear.double().numpy(), group, symmetric=symmetric)
        added = 0 if said.get("checkpoint_format") == "gptq_v2" else 1
        is_awq = said["quant_method"] == "awq"
        made = four_bits.awq(numbers) if is_awq else four_bits.gptq(numbers, added)
        base = name.removesuffix("weight")
        packed |= {f"{base}{part}": torch.from_numpy(array) for part, array in made.items()}
        scales = packed[f"{base}scales"].to(dtype)
        packed[f"{base}scales"] = scales
        # Scales have at most 11 bits, so these are numbers of float32.
        same = torch.from_numpy(
            four_bits.Numbers(numbers.q, scales.double().numpy().T, numbers.zeros, group).weight()
        ).float()
        whole[name] = same.T.contiguous() if turned else same
    return packed, whole


def written(folder: Path, tensors: Tensors, **keys: object) -> Path:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | keys, indent=2))
    return folder


def made(tmp_path: Path, model_type: str, kind: str, **keys: object) -> tuple[Path, Path]:
    """Return the folder of a model in four bits, and that of the same model whole."""
    folder = tiny(tmp_path / "packed", model_type, **SIZES.get(model_type, {}))
    whole = shutil.copytree(folder, tmp_path / "whole")
    tensors = quantised(load_file(folder / "model.safetensors"), kind, model_type)
    written(whole, tensors[1])
    return written(folder, tensors[0], quantization_config=section(kind) | keys), whole


def planned(folder: Path) -> Plan:
    return plan(resolve(str(folder)), read_config(folder), Checkpoint.open(folder))


def weights_bytes(made: Plan) -> int:
    return int(evaluate(footprint(made.graph).weights, dict.fromkeys(made.graph.mesh, 1)))


def refused(folder: Path) -> str:
    with pytest.raises(Refused) as caught:
        planned(folder)
    return render_all(caught.value.diagnostics)


def ruled() -> Iterator[object]:
    for model_type, kind in CASES:
        for numerics in ("f32", "bf16"):
            if (model_type, kind, numerics) not in FLIPS:
                yield pytest.param(model_type, kind, numerics, marks=getattr(pytest.mark, numerics))


@pytest.mark.parametrize(("model_type", "kind", "numerics"), [*ruled()])
def test_four_bits(model_type: str, kind: str, numerics: str, tmp_path: Path) -> None:
    folder, whole = made(tmp_path, model_type, kind)
    port = planned(folder)
    assert port.tensors.unused == port.tensors.missing == ()
    assert f"{section(kind)['quant_method']}(" in port.spec
    cases = validate(port.graph, Checkpoint.open(folder), folder, numerics=(numerics,)).cases
    assert cases
    assert [case for case in cases if not case.passed] == []
    if numerics == "f32":
        rows = [row.tolist() for row in sample_rows(97)[:1]]
        truth, own = (Reference.load(at, "float64").logits(rows)[0] for at in (whole, folder))
        assert np.array_equal(own.logits, truth.logits)


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(("model_type", "kind"), CASES)
def test_the_bits_are_those_of_whole_weights(
    model_type: str, kind: str, numerics: str, tmp_path: Path
) -> None:
    (row, *_) = sample_rows(97)
    packed, whole = (
        Engine(planned(at).graph, Checkpoint.open(at), numerics).session().step([row])[0]
        for at in made(tmp_path, model_type, kind)
    )
    assert np.array_equal(packed, whole)


@pytest.mark.f32
def test_a_port_in_four_bits_is_small(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model", "llama", intermediate_size=512)
    before = weights_bytes(planned(folder))
    tensors = load_file(folder / "model.safetensors")
    written(folder, quantised(tensors, "gptq")[0], quantization_config=GPTQ)
    after = weights_bytes(planned(folder))
    assert before is not None
    assert after is not None
    plain = sum(t.nbytes for n, t in tensors.items() if t.ndim != 2 or KEPT.search(n))
    packed = Checkpoint.open(folder).tensors.values()
    assert after == sum(t.nbytes for t in packed)
    assert after - plain < 0.6 * (before - plain)


REFUSALS = [
    ("gptq", "bits", 5),
    ("gptq", "desc_act", "yes"),
    ("gptq", "group_size", 0),
    ("gptq", "group_size", "128"),
    ("gptq", "checkpoint_format", "marlin"),
    ("gptq", "format", "gptq_v2"),
    ("gptq", "checkpoint_format", ["gptq"]),
    ("gptq", "is_marlin_format", True),
    ("gptq", "pack_dtype", "int8"),
    ("gptq", "hadamard", True),
    ("awq", "version", "gemv_fast"),
    ("awq", "zero_point", False),
    ("awq", "bits", 8),
]


@pytest.mark.f32
@pytest.mark.parametrize(("kind", "key", "value"), REFUSALS)
def test_another_kind_is_refused(kind: str, key: str, value: object, tmp_path: Path) -> None:
    folder, _ = made(tmp_path, "llama", kind, **{key: value})
    assert f"quantization_config.{key}" in refused(folder)


@pytest.mark.f32
@pytest.mark.parametrize("kind", ["gptq", "awq"])
@pytest.mark.parametrize("group", [5, 16, 7 * 10**30])
def test_groups_that_do_not_divide_a_row_are_refused(group: int, kind: str, tmp_path: Path) -> None:
    folder, _ = made(tmp_path, "llama", kind, group_size=group)
    assert re.search("S209|S421", refused(folder))


AT = "model.layers.1.mlp.down_proj."
WRONG = {
    "rows are missing": (f"{AT}qweight", lambda t: t[:-1].clone(), "S562"),
    "columns are missing": (f"{AT}qzeros", lambda t: t[:, :-1].clone(), "S562"),
    "a rank is missing": (f"{AT}scales", lambda t: t.flatten(), "S562"),
    "scales are integers": (f"{AT}scales", lambda t: t.int(), "S563"),
    "words are long": (f"{AT}qweight", lambda t: t.long(), "S563"),
    "words are floats": (f"{AT}qzeros", lambda t: t.float(), "S563"),
    "the order is short": (f"{AT}g_idx", lambda t: t[1:].clone(), "S562"),
}


@pytest.mark.f32
@pytest.mark.parametrize("wrong", WRONG)
def test_tensors_that_do_not_fit_are_refused(wrong: str, tmp_path: Path) -> None:
    folder, _ = made(tmp_path, "llama", "gptq")
    name, change, code = WRONG[wrong]
    tensors = load_file(folder / "model.safetensors")
    written(folder, tensors | {name: change(tensors[name])})
    said = refused(folder)
    assert code in said
    assert name in said


@pytest.mark.f32
@pytest.mark.parametrize("part", ["qweight", "qzeros", "scales", "g_idx"])
def test_a_lost_part_is_named(part: str, tmp_path: Path) -> None:
    folder, _ = made(tmp_path, "llama", "gptq")
    tensors = load_file(folder / "model.safetensors")
    del tensors[f"{AT}{part}"]
    assert f"{AT}{part}" in refused(written(folder, tensors))


@pytest.mark.f32
@pytest.mark.parametrize(
    ("part", "message"), [("g_idx", "belongs to group"), ("qzeros", "stored as -1")]
)
def test_what_the_values_say_is_refused_when_they_are_read(
    part: str, message: str, tmp_path: Path
) -> None:
    folder, _ = made(tmp_path, "llama", "gptq")
    tensors = load_file(folder / "model.safetensors")
    name = f"{AT}{part}"
    wrong = tensors[name] + 1 if part == "g_idx" else torch.full_like(tensors[name], -1)
    written(folder, tensors | {name: wrong})
    with pytest.raises(Refused, match=message) as caught:
        Engine(planned(folder).graph, Checkpoint.open(folder))
    assert caught.value.diagnostics[0].code == "S565"
