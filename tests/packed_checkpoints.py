# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the packed forms of the world's quantisers, written number by number from the formats' definitions.

Each form gives, of a linear layer's weight, the tensors that store it and the numbers in float64 that these stand for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

KEPT = re.compile(r"norm|embed|lm_head|router|\.gate\.weight$|wte|wpe")
E2M1 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
GROUP = 8
Tensors = dict[str, torch.Tensor]
Made = tuple[Tensors, torch.Tensor]


@dataclass(frozen=True)
class Form:
    """What a config says, and how one weight is stored: parts by what follows the module's name.

    `rest` adds a scale of the cache; `kept` are modules that stay whole.
    """

    section: Mapping[str, object]
    store: Callable[[torch.Tensor], Made]
    rest: bool = False
    kept: str = "$none"


def fp8(weight: torch.Tensor, rows: int, columns: int, dtype: torch.dtype) -> Made:
    """Return elements and scales [blocks of rows, blocks of columns]; the last blocks may be cut off."""
    n, k = weight.shape
    grid = torch.zeros(-(-n // rows), -(-k // columns))
    for i, j in np.ndindex(*grid.shape):
        block = weight[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        grid[i, j] = block.float().abs().max() / 448
    if dtype is torch.float8_e8m0fnu:
        grid = 2 ** torch.ceil(torch.log2(grid))
    scales = grid.to(dtype)
    wide = scales.double().repeat_interleave(rows, 0)[:n].repeat_interleave(columns, 1)[:, :k]
    values = (weight.double() / wide).clamp(-448, 448).float().to(torch.float8_e4m3fn)
    return {"weight": values, "scales": scales}, values.double() * wide


def in_blocks(rows: int, columns: int, dtype: torch.dtype, name: str) -> Callable[..., Made]:
    def store(weight: torch.Tensor) -> Made:
        parts, whole = fp8(weight, rows, columns, dtype)
        return {"weight": parts["weight"], name: parts["scales"]}, whole

    return store


def by_tensor(shape: tuple[int, ...], name: str, more: Tensors) -> Callable[..., Made]:
    def store(weight: torch.Tensor) -> Made:
        parts, whole = fp8(weight, *weight.shape, torch.float32)
        return {"weight": parts["weight"], name: parts["scales"].reshape(shape)} | more, whole

    return store


def by_row(dtype: torch.dtype, shape: tuple[int, ...], name: str) -> Callable[..., Made]:
    def store(weight: torch.Tensor) -> Made:
        parts, whole = fp8(weight, 1, weight.shape[1], dtype)
        return {"weight": parts["weight"], name: parts["scales"].reshape(shape)}, whole

    return store


def int8(weight: torch.Tensor) -> Made:
    scales = (weight.float().abs().amax(1, keepdim=True) / 127).bfloat16()
    values = torch.round(weight.double() / scales.double()).clamp(-128, 127)
    return {"weight": values.to(torch.int8), "weight_scale": scales}, values * scales.double()


def llm_int8(weight: torch.Tensor) -> Made:
    largest = weight.float().abs().amax(1)
    values = torch.round(127 * weight.double() / largest.double()[:, None])
    parts = {"weight": values.to(torch.int8), "SCB": largest}
    return parts, values * (largest.double() / 127)[:, None]


NF4 = np.array(
    [-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
     0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0],
    np.float32,
)  # fmt: skip


def in_table(weight: torch.Tensor, block: int, *, nested: bool, name: str = "nf4") -> Made:
    """Store as bitsandbytes' four bits: blocks run through the matrix, and the upper half of a byte is first."""
    flat = weight.double().flatten().numpy()
    starts = range(0, len(flat), block)
    sizes = np.array([np.abs(flat[at : at + block]).max() for at in starts], np.float32)
    said: dict[str, object] = {"quant_type": name, "blocksize": block, "dtype": "bfloat16"}
    said["shape"] = list(weight.shape)
    parts = {"quant_map": torch.from_numpy(NF4), "absmax": torch.from_numpy(sizes)}
    exact = sizes.astype(np.float64)
    if nested:
        offset = float(sizes.mean())
        scale = np.float32(np.abs(sizes - offset).max())
        table = np.linspace(-1, 1, 256, dtype=np.float32)
        index = np.abs(((sizes - offset) / scale)[:, None] - table).argmin(1)
        exact = table.astype(np.float64)[index] * float(scale) + offset
        said |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
        parts["absmax"] = torch.from_numpy(index.astype(np.uint8))
        parts |= {
            "nested_absmax": torch.tensor([scale]),
            "nested_quant_map": torch.from_numpy(table),
        }
    wide = np.repeat(exact, block)[: len(flat)]
    index = np.abs((flat / wide)[:, None] - NF4).argmin(1)
    state = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    made = {f"weight.{part}": tensor for part, tensor in parts.items()}
    made[f"weight.quant_state.bitsandbytes__{name}"] = state
    made["weight"] = torch.from_numpy((index[0::2] << 4 | index[1::2]).astype(np.uint8))[:, None]
    return made, torch.from_numpy(NF4.astype(np.float64)[index] * wide).reshape(weight.shape)


def four_bit_floats(
    weight: torch.Tensor, scales: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return nibbles, two a byte, and their values, of a weight [N, K] and scales [N, K / columns]."""
    each = weight.shape[1] // scales.shape[1]
    wide = scales.double().repeat_interleave(each, 1)
    ratio = (weight.double() / wide).numpy()
    size = np.abs(np.abs(ratio)[..., None] - E2M1).argmin(-1)
    pattern = torch.from_numpy(size + 8 * (ratio < 0))
    values = torch.from_numpy(E2M1[size] * np.where(ratio < 0, -1, 1))
    return (pattern[:, 0::2] | pattern[:, 1::2] << 4).to(torch.uint8), values * wide


def nvfp4(weight: torch.Tensor, *, divides: bool) -> Made:
    blocks = weight.float().reshape(len(weight), -1, 16)
    factor = torch.tensor(float(weight.abs().max()) / (6 * 448))
    scales = (blocks.abs().amax(-1) / 6 / factor).to(torch.float8_e4m3fn)
    if not divides:
        packed, whole = four_bit_floats(weight, scales.double() * factor.double())
        parts = {"weight": packed, "weight_scale": scales, "weight_scale_2": factor}
        return parts | {"input_scale": torch.tensor(0.01)}, whole
    inverse = (1 / factor).reshape(1)
    packed, whole = four_bit_floats(weight, scales.double() / inverse.double())
    parts = {"weight_packed": packed, "weight_scale": scales, "weight_global_scale": inverse}
    return parts | {"input_global_scale": torch.tensor([90.0])}, whole


def mx(weight: torch.Tensor, bits: int, name: str) -> Made:
    largest = weight.float().reshape(len(weight), -1, 32).abs().amax(-1)
    exponents = torch.floor(torch.log2(largest)) - (2 if bits == 4 else 8)
    scales = (exponents + 127).to(torch.uint8)
    if bits == 4:
        packed, whole = four_bit_floats(weight, 2.0 ** exponents.double())
        return {name: packed, "weight_scale": scales}, whole
    wide = (2.0 ** exponents.double()).repeat_interleave(32, 1)
    values = (weight.double() / wide).clamp(-448, 448).float().to(torch.float8_e4m3fn)
    return {name: values, "weight_scale": scales}, values.double() * wide


@dataclass(frozen=True)
class Integers:
    """Whole numbers [N, K], and of each group scales and zero points [N, G]; `index` is the group of each column."""

    q: np.ndarray
    scales: torch.Tensor
    zeros: np.ndarray
    index: np.ndarray

    def whole(self) -> torch.Tensor:
        factors = self.scales.double().numpy()[:, self.index]
        return torch.from_numpy((self.q - self.zeros[:, self.index]) * factors)


def integers(
    weight: torch.Tensor,
    bits: int,
    group: int,
    dtype: torch.dtype = torch.float16,
    *,
    symmetric: bool = False,
    act_order: bool = False,
) -> Integers:
    """Round a weight to whole numbers of some bits."""
    n, k = weight.shape
    group = k if group == -1 else group
    index = np.arange(k) // group
    if act_order:
        index = np.random.default_rng(k).permutation(index)
    values, top = weight.double().numpy(), 2**bits - 1
    scales, zeros = np.zeros((n, k // group)), np.zeros((n, k // group), int)
    for g in range(k // group):
        part = values[:, index == g]
        low, high = np.minimum(part.min(1), -1e-3), np.maximum(part.max(1), 1e-3)
        if symmetric:
            scales[:, g] = 2 * np.maximum(-low, high) / top
            zeros[:, g] = 1 << (bits - 1)
        else:
            scales[:, g] = (high - low) / top
            zeros[:, g] = np.clip(np.rint(-low / scales[:, g]), 1, top)
    stored = torch.from_numpy(scales).to(dtype)
    ratio = values / stored.double().numpy()[:, index]
    q = np.clip(np.rint(ratio) + zeros[:, index], 0, top).astype(int)
    return Integers(q, stored, zeros, index)


def words(numbers: np.ndarray, bits: int) -> torch.Tensor:
    """Pack the last axis, one number after the other, the lowest bit first; the last word is filled with zeros."""
    n, k = numbers.shape
    out = np.zeros((n, -(-k * bits // 32)), np.uint32)
    for column, bit in np.ndindex(k, bits):
        word, at = divmod(column * bits + bit, 32)
        out[:, word] |= (numbers[:, column] >> bit & 1).astype(np.uint32) << np.uint32(at)
    return torch.from_numpy(out.view(np.int32))


def gptq(weight: torch.Tensor, bits: int, group: int, added: int = 1, **how: bool) -> Made:
    made = integers(weight, bits, group, **how)
    return {
        "qweight": words(made.q, bits).T.contiguous(),
        "qzeros": words(made.zeros.T - added, bits),
        "scales": made.scales.T.contiguous(),
        "g_idx": torch.from_numpy(made.index.astype(np.int32)),
    }, made.whole()


def awq_rows(weight: torch.Tensor, group: int, multiple: int) -> Made:
    """Store as for AWQ's `gemv` kernels; a row's zero points fill a multiple of some words."""
    made = integers(weight, 4, group)
    count = made.zeros.shape[1]
    width = math.ceil(count / 8 / multiple) * multiple * 8
    pad = ((0, 0), (0, width - count))
    scales = torch.from_numpy(np.pad(made.scales.numpy(), pad))
    parts = {"qweight": words(made.q, 4), "qzeros": words(np.pad(made.zeros, pad), 4)}
    return parts | {"scales": scales}, made.whole()


def packed(weight: torch.Tensor, bits: int, group: int, **how: bool) -> Made:
    """Store as compressed-tensors' `pack-quantized`."""
    made = integers(weight, bits, group, torch.bfloat16, **how)
    parts = {
        "weight_packed": words(made.q, bits),
        "weight_scale": made.scales,
        "weight_shape": torch.tensor(weight.shape),
    }
    if not how.get("symmetric"):
        parts["weight_zero_point"] = words(made.zeros.T, bits).T.contiguous()
    if how.get("act_order"):
        parts["weight_g_idx"] = torch.from_numpy(made.index.astype(np.int32))
    return parts, made.whole()


def compressed(format_: str, **weights: object) -> dict[str, object]:
    """Return a section as compressed-tensors writes it."""
    usual = {
        "num_bits": 8,
        "type": "float",
        "strategy": "tensor",
        "symmetric": True,
        "dynamic": False,
    }
    inputs = {"num_bits": 8, "type": "float", "dynamic": True, "strategy": "token"}
    group = {
        "targets": ["Linear"],
        "weights": usual | {"group_size": None, "actorder": None} | weights,
        "input_activations": inputs,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quantization_status": "compressed",
    }


DYNAMIC = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}
STATIC = DYNAMIC | {"activation_scheme": "static", "weight_block_size": None}
MODELOPT = {"quant_method": "modelopt", "producer": {"name": "modelopt", "version": "0.31.0"}}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemv"}
INT = {"type": "int", "num_bits": 4, "strategy": "group", "group_size": GROUP}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
SCALE = {"input_scale": torch.tensor(0.02)}
FORMS: dict[str, Form] = {
    "fp8 in blocks, bf16 scales": Form(
        DYNAMIC | {"weight_block_size": [16, 16]},
        in_blocks(16, 16, torch.bfloat16, "weight_scale_inv"),
    ),
    "fp8 in uneven blocks, e8m0 scales": Form(
        DYNAMIC | {"weight_block_size": [24, 40], "scale_fmt": "ue8m0"},
        in_blocks(24, 40, torch.float8_e8m0fnu, "weight_scale_inv"),
    ),
    "fp8 a tensor, static": Form(
        STATIC, by_tensor((), "weight_scale_inv", {"activation_scale": torch.tensor(0.01)})
    ),
    "fp8 a tensor, dynamic": Form(
        {"quant_method": "fp8", "activation_scheme": "dynamic"}, by_tensor((), "weight_scale", {})
    ),
    "fp8 a tensor, compressed-tensors": Form(
        compressed("float-quantized"), by_tensor((1,), "weight_scale", SCALE)
    ),
    "fp8 a row, compressed-tensors": Form(
        compressed("float-quantized", strategy="channel"),
        by_row(torch.bfloat16, (-1, 1), "weight_scale"),
    ),
    "fp8 in blocks, compressed-tensors": Form(
        compressed("float-quantized", strategy="block", block_structure=[16, 24]),
        in_blocks(16, 24, torch.bfloat16, "weight_scale"),
    ),
    "fp8 a tensor, modelopt": Form(
        MODELOPT | {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
        by_tensor((), "weight_scale", SCALE),
        rest=True,
    ),
    "fp8 a row, modelopt": Form(
        MODELOPT | {"quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"},
        by_row(torch.float32, (-1,), "weight_scale"),
    ),
    "fp8 a row, fbgemm": Form(
        {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0},
        by_row(torch.float32, (-1, 1), "weight_scale"),
    ),
    "mxfp8, modelopt": Form(MODELOPT | {"quant_algo": "MXFP8"}, lambda w: mx(w, 8, "weight")),
    "mxfp4, quark": Form(
        {"quant_method": "quark", "export": {"weight_format": "real_quantized"}},
        lambda w: mx(w, 4, "weight"),
    ),
    "mxfp4, compressed-tensors": Form(
        compressed("mxfp4-pack-quantized", num_bits=4, strategy="group", group_size=32),
        lambda w: mx(w, 4, "weight_packed"),
    ),
    "nvfp4, modelopt": Form(MODELOPT | {"quant_algo": "NVFP4"}, lambda w: nvfp4(w, divides=False)),
    "nvfp4, compressed-tensors": Form(
        compressed("nvfp4-pack-quantized", num_bits=4, strategy="tensor_group", group_size=16),
        lambda w: nvfp4(w, divides=True),
    ),
    "int8 a row, compressed-tensors": Form(
        compressed("int-quantized", type="int", strategy="channel"), int8
    ),
    "int4 in groups, compressed-tensors": Form(
        compressed("pack-quantized", **INT), lambda w: packed(w, 4, GROUP, symmetric=True)
    ),
    "int4 with zero points, compressed-tensors": Form(
        compressed("pack-quantized", **INT | {"symmetric": False}), lambda w: packed(w, 4, GROUP)
    ),
    "int4 in act-order, compressed-tensors": Form(
        compressed("pack-quantized", **INT | {"actorder": "group"}),
        lambda w: packed(w, 4, GROUP, symmetric=True, act_order=True),
    ),
    "int4 a row, compressed-tensors": Form(
        compressed("pack-quantized", **INT | {"strategy": "channel", "group_size": None}),
        lambda w: packed(w, 4, -1, symmetric=True),
    ),
    "int8 in words, compressed-tensors": Form(
        compressed("pack-quantized", **INT | {"num_bits": 8}),
        lambda w: packed(w, 8, GROUP, symmetric=True),
    ),
    "gptq in act-order": Form(
        GPTQ | {"desc_act": True}, lambda w: gptq(w, 4, GROUP, symmetric=True, act_order=True)
    ),
    "gptq of 2 bits": Form(GPTQ | {"bits": 2}, lambda w: gptq(w, 2, GROUP)),
    "gptq of 3 bits": Form(GPTQ | {"bits": 3}, lambda w: gptq(w, 3, GROUP, symmetric=True)),
    "gptq of 8 bits": Form(GPTQ | {"bits": 8}, lambda w: gptq(w, 8, GROUP, symmetric=True)),
    "gptq of 8 bits with zero points": Form(
        GPTQ | {"bits": 8, "sym": False, "checkpoint_format": "gptq_v2"},
        lambda w: gptq(w, 8, GROUP, added=0),
    ),
    "awq for gemv": Form(AWQ, lambda w: awq_rows(w, GROUP, 1)),
    "awq for gemv in groups of 32": Form(AWQ | {"group_size": 32}, lambda w: awq_rows(w, 32, 4)),
    "nf4, bitsandbytes": Form(BNB, lambda w: in_table(w, 64, nested=False)),
    "nested nf4, bitsandbytes": Form(BNB, lambda w: in_table(w, 32, nested=True)),
    "int8, bitsandbytes": Form({"quant_method": "bitsandbytes", "load_in_8bit": True}, llm_int8),
}


def quantised(folder: Path, *forms: Form) -> dict[str, torch.Tensor]:
    """Store a folder's linear layers in a form, or each layer in the next of several; return all weights whole."""
    made: Tensors = {}
    whole: Tensors = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        at = re.search(r"\.layers\.(\d+)\.", name)
        form = forms[int(at.group(1)) % len(forms)] if at else forms[0]
        if weight.ndim != 2 or KEPT.search(name) or re.search(form.kept, name) or form is WHOLE:
            made[name] = whole[name] = weight
            continue
        parts, whole[name] = form.store(weight)
        base = name.removesuffix("weight")
        made |= {f"{base}{part}": tensor.contiguous().clone() for part, tensor in parts.items()}
        if form.rest and name.endswith("k_proj.weight"):
            made[f"{base}k_scale"] = torch.tensor(1.0)
    save_file(made, folder / "model.safetensors", {"format": "pt"})
    config = folder / "config.json"
    said = json.loads(config.read_text()) | {"quantization_config": forms[-1].section}
    config.write_text(json.dumps(said))
    return whole


WHOLE = Form({}, lambda weight: ({"weight": weight}, weight))
_RULES = GPTQ | {"sym": False, "dynamic": {r"+:.*\.2\..*": {"bits": 8, "group_size": 16}}}
_MIXED = MODELOPT | {"quant_algo": "MIXED_PRECISION"}
_ROWS = FORMS["fp8 a row, fbgemm"]
BY_LAYER = {
    "as Llama 3.1 405B": (WHOLE, _ROWS, replace(_ROWS, kept=r"mlp|w[123]\.")),
    "whole and fp8": (WHOLE, FORMS["fp8 a row, fbgemm"], FORMS["fp8 a row, fbgemm"]),
    "whole, gptq of 4 and 8 bits": (
        WHOLE,
        Form(_RULES, lambda w: gptq(w, 4, GROUP)),
        Form(_RULES, lambda w: gptq(w, 8, 16, symmetric=True)),
    ),
    "whole, fp8 a tensor, nvfp4": (
        WHOLE,
        FORMS["fp8 a tensor, modelopt"],
        Form(_MIXED, lambda w: nvfp4(w, divides=False)),
    ),
}
"""Folders whose layers are in different forms, under the same names."""
