# SPDX-License-Identifier: Apache-2.0
"""How the tensors of a quantised checkpoint store each weight, by their names, shapes and formats alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsl.diagnostics import Refused
from dsl.types import DTYPES
from porting.checkpoint.packed_forms import known_keys, method_of
from porting.checkpoint.packed_layouts import M, Said, W, layouts_of
from porting.checkpoint.packed_rest import check_agreement, rest_of
from porting.checkpoint.safetensors_header import TensorInfo
from porting.config.reader import ModelConfig, parse_config
from porting.config.text_part import text_part

PUBLISHED = Path(__file__).parents[3] / "farm" / "oracles" / "published"
AT = "model.layers.0.mlp.up_proj."
FP8 = {"quant_method": "fp8"}
BLOCKS = FP8 | {"weight_block_size": [128, 128]}
NUMBER = ("column", ("column", f"{W}_scale"))


def config(section: dict[str, object]) -> ModelConfig:
    raw = {"architectures": ["A"], "model_type": "a", "quantization_config": section}
    return parse_config(json.dumps(raw).encode())


def tensors(**parts: tuple[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    return {
        f"{AT}{name}": TensorInfo(f"{AT}{name}", DTYPES[dtype], shape, "", 0, 0)
        for name, (dtype, shape) in parts.items()
    }


def source(section: dict[str, object], **parts: tuple[str, tuple[int, ...]]) -> object:
    said = config(section)
    (layout,) = layouts_of(tensors(**parts), Said.of(said, method_of(said))).values()
    return layout.source


@pytest.mark.parametrize(
    ("section", "shape", "blocks"),
    [
        (BLOCKS, (5, 4), (128, 128)),
        (BLOCKS, (1, 1), (128, 128)),
        (FP8, (5, 4), (128, 128)),
        (FP8, (36, 16), (16, 32)),
        (FP8, (576, 1), (1, 0)),
        (FP8, (1, 1), (0, 0)),
        (FP8, (576, 16), (1, 32)),
        (FP8 | {"weight_block_size": [64, 32]}, (9, 16), (64, 32)),
    ],
)
def test_blocks_are_those_of_the_config_or_of_the_grid(section, shape, blocks):
    made = source(section, weight=("f8e4m3", (576, 512)), weight_scale_inv=("f32", shape))
    assert made == ("scaled", "f8e4m3", W, f"{W}_scale_inv", *blocks)


@pytest.mark.parametrize(
    ("shape", "scales", "blocks"),
    [
        ((), NUMBER, (0, 0)),
        ((1,), ("column", f"{W}_scale"), (0, 0)),
        ((576,), ("column", f"{W}_scale"), (1, 0)),
    ],
)
def test_scales_without_a_grid(shape, scales, blocks):
    made = source(FP8, weight=("f8e4m3", (576, 512)), weight_scale=("f32", shape))
    assert made == ("scaled", "f8e4m3", W, scales, *blocks)


def test_formats_of_scales_are_stated():
    for dtype in ("bf16", "f16", "e8m0", "u8"):
        made = source(BLOCKS, weight=("f8e4m3", (256, 256)), weight_scale_inv=(dtype, (2, 2)))
        assert made[3] == ("stored", dtype, f"{W}_scale_inv")


@pytest.mark.parametrize(("bits", "group"), [(2, 32), (3, 32), (4, 64), (8, 128)])
def test_rules_for_some_modules_are_read_from_shapes(bits, group):
    section = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 128,
        "dynamic": {"+:.*up.*": {"bits": bits}},
    }
    made = source(
        section,
        qweight=("i32", (256 * bits // 32, 64)),
        qzeros=("i32", (256 // group, 2 * bits)),
        scales=("bf16", (256 // group, 64)),
        g_idx=("i32", (256,)),
    )
    ends = (group, 1) if bits == 4 else (group, 1, bits)
    assert made[-len(ends) :] == ends
    assert made[1] == "bf16"


def test_words_are_as_wide_as_the_group_of_the_config_that_fits():
    groups = {
        f"group_{bits}": {"weights": {"num_bits": bits, "type": "int", "group_size": 32}}
        for bits in (8, 4)
    }
    section = {"quant_method": "compressed-tensors", "config_groups": groups}
    for bits in (4, 8):
        made = source(
            section,
            weight_packed=("i32", (64, 256 * bits // 32)),
            weight_scale=("bf16", (64, 8)),
        )
        names = (f"{M}weight_packed", f"{M}weight_scale", "", "")
        assert made == ("integers", "bf16", bits, *names, 32)


@pytest.mark.parametrize("name", ["logit", "weight"])
def test_a_scale_beside_whole_numbers_of_16_bits_is_no_packed_weight(name):
    said = config(FP8)
    held = tensors(**{name: ("bf16", (4, 4)), f"{name}_scale": ("f32", ())})
    assert layouts_of(held, Said.of(said, "fp8")) == {}


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (FP8 | {"modules_to_not_convert": [AT[:-1]]}, "modules_to_not_convert"),
        (FP8 | {"ignore": ["lm_head", AT[:-1]]}, "ignore"),
        (BLOCKS, "weight_block_size"),
    ],
)
def test_a_config_that_contradicts_the_file_is_refused(section, says):
    said = config(section)
    held = tensors(weight=("f8e4m3", (256, 256)), weight_scale=("f32", ()))
    with pytest.raises(Refused) as caught:
        check_agreement(said, layouts_of(held, Said.of(said, "fp8")))
    (problem,) = caught.value.diagnostics
    assert problem.code == "S537"
    assert says in problem.message
    assert f"{AT}weight" in problem.message


def test_modules_that_are_left_out_by_part_of_a_name_are_no_contradiction():
    said = config(FP8 | {"modules_to_not_convert": ["gate", "up_proj", "lm_head"]})
    held = tensors(weight=("f8e4m3", (256, 256)), weight_scale=("f32", ()))
    check_agreement(said, layouts_of(held, Said.of(said, "fp8")))


def test_what_may_be_left_is_small_and_beside_packed_weights():
    said = config(FP8)
    packed = tensors(weight=("f8e4m3", (256, 256)), weight_scale=("f32", ()))
    layouts = layouts_of(packed, Said.of(said, "fp8"))
    scale = tensors(input_scale=("f32", ()))
    assert set(rest_of(packed | scale, layouts)) == {"*.input_scale"}
    assert rest_of(packed | tensors(input_scale=("f32", (256,))), layouts) == {}
    assert rest_of(scale, {}) == {}


@pytest.mark.parametrize(
    ("key", "value", "known"),
    [
        ("activation_scheme", "static", True),
        ("fmt", "e5m2", False),
        ("format", "marlin-24", False),
        ("sparsity_config", {"format": "dense"}, True),
        ("sparsity_config", {"format": "sparse-24-bitmask"}, False),
        ("transform_config", {"a": 1}, False),
        ("config_groups", {"g": {"weights": {"num_bits": 8}}}, True),
        ("config_groups", {"g": {"weights": {"num_bits": 3}}}, False),
        ("config_groups", {"g": {"weights": {"dynamic": True}}}, False),
        ("kv_cache_scheme", {"num_bits": 8}, True),
    ],
)
def test_what_a_config_may_say(key, value, known):
    said = config({"quant_method": "compressed-tensors", key: value})
    named = [name for name in said.values if name.startswith(f"quantization_config.{key}")]
    assert named
    assert (set(named) <= set(known_keys(said, method_of(said)))) is known


def test_a_section_beside_the_text_model_is_that_of_its_weights():
    raw = {"architectures": ["A"], "model_type": "a", "text_config": {"model_type": "b", "n": 1}}
    parsed = parse_config(json.dumps(raw | {"quantization_config": BLOCKS}).encode())
    part = text_part(parsed)
    assert method_of(part) == "fp8"
    assert set(part.values) == {
        "model_type",
        "n",
        *(f"quantization_config.{key}" for key in BLOCKS),
    }


def test_every_section_of_a_published_config_is_understood():
    for path in sorted(PUBLISHED.glob("*.json")):
        data = path.read_bytes()
        part = text_part(parse_config(data)) if b"quantization_config" in data else None
        method = method_of(part) if part is not None else ""
        if part is None or (not method and "gpt_oss" in part.model_type):
            continue
        keys = {key for key in part.values if key.startswith("quantization_config.")}
        assert keys
        assert keys <= set(known_keys(part, method)), path.name
