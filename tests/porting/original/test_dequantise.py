# SPDX-License-Identifier: Apache-2.0
"""Stored forms written out: number by number by their definition, and beside transformers' own where it has one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dsl.diagnostics import Refused
from porting.original import definitions, dequantise
from porting.original.reference import Reference
from tests import four_bits
from tests.checkpoints import tiny_llama

SCALES = [torch.float32, torch.bfloat16, torch.float8_e8m0fnu]
ROW = [5, 9, 1, 44, 96, 17, 3]


def drawn(n: int, k: int, block: tuple[int, int], dtype: torch.dtype):
    """Return any FP8 numbers with scales of a type, the second and third as they would lie in a file."""
    random = torch.Generator().manual_seed(n * k)
    weight = torch.randn(n, k, generator=random).to(torch.float8_e4m3fn)
    shape = (-(-n // block[0]), -(-k // block[1]))
    scales = (torch.randn(shape, generator=random).exp() / 8).to(dtype)
    return weight, scales


def by_definition(weight, scales, block):
    out = np.zeros(tuple(weight.shape))
    numbers, factors = weight.double().numpy(), scales.double().numpy()
    for n, k in np.ndindex(out.shape):
        out[n, k] = numbers[n, k] * factors[n // block[0], k // block[1]]
    return out


@pytest.mark.parametrize("dtype", SCALES)
@pytest.mark.parametrize(
    ("shape", "block"), [((32, 48), (16, 16)), ((40, 56), (16, 16)), ((5, 7), (2, 3)), ((3, 4), (128, 128))]
)  # fmt: skip
def test_fp8_in_blocks_even_and_uneven(shape, block, dtype):
    weight, scales = drawn(*shape, block, dtype)
    whole = definitions.blocks(torch, "w", weight, scales, block)
    assert whole.dtype is torch.float64
    np.testing.assert_array_equal(whole.numpy(), by_definition(weight, scales, block))


def test_fp8_of_many_experts_has_its_blocks_in_each():
    parts = [drawn(5, 7, (2, 3), torch.float32) for _ in range(2)]
    weight, scales = (torch.stack(list(x)) for x in zip(*parts, strict=True))
    whole = definitions.blocks(torch, "w", weight, scales, (2, 3))
    for got, one in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(got.numpy(), by_definition(*one, (2, 3)))


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (3,)])
def test_scales_that_do_not_fit_are_refused(shape):
    weight = torch.zeros(40, 40).to(torch.float8_e4m3fn)
    with pytest.raises(Refused) as caught:
        definitions.blocks(torch, "w", weight, torch.ones(shape), (16, 16))
    assert [d.code for d in caught.value.diagnostics] == ["S551"]


@pytest.mark.parametrize("size", [8, [8], [8, 0], [8, "8"], {"a": 1}])
def test_a_block_that_is_no_two_sizes_is_refused(size):
    section = {"quant_method": "fp8", "weight_block_size": size}
    with pytest.raises(Refused) as caught:
        list(
            dequantise.shards(
                torch,
                section,
                ["w", "w_scale_inv"],
                lambda _: torch.ones(8, 8).to(torch.float8_e4m3fn),
                bool,
            )
        )
    assert [d.code for d in caught.value.diagnostics] == ["S551"]


def test_nothing_is_rounded_below_float64_and_float32_is_kept_where_it_is_enough():
    weight, scales = drawn(8, 8, (4, 4), torch.float32)
    tensors = {"w": weight, "w_scale_inv": scales, "v": weight, "v_scale_inv": scales.bfloat16()}
    section = {"quant_method": "fp8", "weight_block_size": [4, 4]}
    (some,) = dequantise.shards(torch, section, list(tensors), tensors.__getitem__, bool)
    assert set(some) == {"w", "v"}
    assert (some["w"].dtype, some["v"].dtype) == (torch.float64, torch.float32)
    np.testing.assert_array_equal(some["w"].numpy(), by_definition(weight, scales, (4, 4)))
    wide = by_definition(weight, scales.bfloat16(), (4, 4))
    np.testing.assert_array_equal(some["v"].double().numpy(), wide)


def in_fp8(folder, block, dtype=torch.float32):
    """Store the projections of a model in FP8, and return the weights that they stand for."""
    packed, exact = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        packed[name] = weight
        if not name.endswith("proj.weight"):
            continue
        packed[name], packed[f"{name}_scale_inv"] = drawn(*weight.shape, (block, block), dtype)
        exact[name] = by_definition(packed[name], packed[f"{name}_scale_inv"], (block, block))
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    config = folder / "config.json"
    said = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [block] * 2}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": said}))
    return exact


@pytest.mark.parametrize("block", [8, 12])
def test_the_float64_reference_of_fp8_has_exactly_these_weights(tmp_path, block):
    folder = tiny_llama(tmp_path)
    exact = in_fp8(folder, block)
    state = Reference.load(folder, "float64")._model.state_dict()
    assert len(exact) == 21
    for name, weight in exact.items():
        assert state[name].dtype is torch.float64
        np.testing.assert_array_equal(state[name].numpy(), weight)


def test_even_blocks_agree_with_transformers_own_reading(tmp_path):
    from transformers import AutoModelForCausalLM

    folder = tiny_llama(tmp_path, head_dim=8, num_attention_heads=4)
    in_fp8(folder, 8, torch.bfloat16)
    ours = Reference.load(folder, "float32")._model.state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert theirs.keys() == ours.keys()
    for name, weight in theirs.items():
        assert torch.equal(ours[name].double(), weight.double())


def test_gptq_in_act_order_is_read_by_the_index():
    numbers = four_bits.drawn(16, 32, 8)
    order = np.random.default_rng(1).permutation(32)
    stored = four_bits.Numbers(numbers.q[:, order], numbers.scales, numbers.zeros, 8)
    made = {name: torch.from_numpy(array) for name, array in four_bits.gptq(stored).items()}
    index = torch.from_numpy((order // 8).astype(np.int32))
    got = definitions.gptq(torch, made["qweight"], made["qzeros"], made["scales"], index, 1)
    np.testing.assert_array_equal(got.numpy(), numbers.weight()[:, order])
