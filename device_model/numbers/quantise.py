# SPDX-License-Identifier: Apache-2.0
"""Bring weights and rows of activations to a low-precision operand: the plain-numpy meaning.

Weights are quantised once, a panel of rows at a time, and stay packed; rows of activations each alone. A row or block
with something that is not finite has no scale, and every product with it is NaN.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from device_model.numbers.formats import (
    E8M0_NAN,
    F32_BIAS,
    FORMATS,
    MX_BLOCK,
    decode,
    encode,
    encode_blocks,
)
from device_model.numbers.numerics import STORAGE, Array, wide
from device_model.numbers.packed import FOUR_BITS, Packed, in_pairs
from device_model.numbers.precision import INTEGERS, Operand, Scale

PANEL_ELEMENTS = 1 << 16
"""Elements of a weight that are quantised at a time: what a core's cache holds."""


def largest(operand: Operand) -> np.float32:
    """Return the largest number of an operand's format."""
    if operand.is_integer:
        return np.float32((1 << (INTEGERS[operand.format] - 1)) - 1)
    to = FORMATS[operand.format]
    return np.float32(decode(np.array(to.largest), to))


def rows(x: Array, operand: Operand) -> tuple[Array, Array | None]:
    """Return rows [M, K] in float32 as an operand holds them, and a scale for each where it is not part of them."""
    values = wide(x)
    if operand.scale is Scale.BLOCK:
        scales, codes = _blocks(values, operand)
        exponents = np.repeat(scales.astype(np.int32), MX_BLOCK, axis=1)[:, : values.shape[1]]
        missing = exponents == E8M0_NAN
        exponents = np.where(missing, 0, exponents - F32_BIAS)
        scaled = np.ldexp(decode(codes, FORMATS[operand.format]), exponents)
        return np.where(missing, np.float32(np.nan), scaled), None
    codes, found = _grouped(values, operand, values.shape[1])
    if operand.scale is Scale.NONE:
        return _numbers(codes, operand), None
    return _numbers(codes, operand), found[:, 0]


def weight(array: Array, operand: Operand, dtype: np.dtype[Any]) -> Packed:
    """Return a floating weight [..., N, K] packed; elements with scales of their own widen to `dtype`."""
    *outer, n, k = (int(size) for size in array.shape)
    count = prod(outer) * n
    flat = array.reshape(count, k)
    four_bits = operand.format if operand.format in FOUR_BITS else ""
    group = {Scale.BLOCK: MX_BLOCK, Scale.GROUP: operand.group}.get(operand.scale, max(k, 1))
    values = np.empty((count, -(-k // 2) if four_bits else k), np.uint8)
    has_exponents = operand.scale is Scale.BLOCK
    scales = np.empty((count, -(-k // group)), np.uint8 if has_exponents else np.float32)
    step = max(1, PANEL_ELEMENTS // max(k, 1))
    for start in range(0, count, step):
        panel = wide(flat[start : start + step])
        if has_exponents:
            found, codes = _blocks(panel, operand)
        else:
            codes, found = _grouped(panel, operand, group)
        scales[start : start + step] = found
        values[start : start + step] = (
            in_pairs(codes.view(np.uint8) & np.uint8(15)) if four_bits else codes.view(np.uint8)
        )
    per_channel = operand.scale in (Scale.ROW, Scale.NONE)
    return Packed(
        (values if four_bits else values.view(STORAGE[operand.format])).reshape(*outer, n, -1),
        scales.reshape((*outer, n) if per_channel else (*outer, n, -1)),
        rows=1,
        columns=group,
        dtype=dtype,
        four_bits=four_bits,
        width=k,
        per_channel=per_channel,
    )


def _numbers(codes: Array, operand: Operand) -> Array:
    if operand.is_integer:
        return codes.astype(np.float32)
    return decode(codes, FORMATS[operand.format])


def _blocks(values: Array, operand: Operand) -> tuple[Array, Array]:
    """Return exponents [M, blocks] and patterns [M, K]; a last block that is short is as if filled with zeros."""
    k = values.shape[1]
    padded = np.pad(values, ((0, 0), (0, -k % MX_BLOCK)))
    with np.errstate(invalid="ignore", over="ignore"):
        scales, codes = encode_blocks(padded, FORMATS[operand.format], operand.rounding)
    return scales, codes[:, :k]


def _grouped(values: Array, operand: Operand, group: int) -> tuple[Array, Array]:
    """Return patterns or integers [M, K] and float32 scales [M, groups]."""
    k = values.shape[1]
    count = -(-k // max(group, 1))
    if operand.scale is Scale.NONE:
        ones = np.ones((len(values), count), np.float32)
        return encode(values, FORMATS[operand.format], operand.overflow), ones
    padded = np.pad(values, ((0, 0), (0, count * group - k))) if k % group else values
    blocks = padded.reshape(len(values), count, group)
    top = np.abs(blocks).max(axis=2)
    finite = np.isfinite(top)
    scales = np.where(finite, top, np.float32(0)) / largest(operand)
    scales = np.where(scales == 0, np.float32(1), scales)
    scaled = np.where(finite[..., None], blocks, np.float32(0)) / scales[..., None]
    flat = scaled.reshape(len(values), -1)[:, :k]
    scales = np.where(finite, scales, np.float32(np.nan))
    if operand.is_integer:
        most = largest(operand)
        return np.clip(np.rint(flat), -most, most).astype(np.int8), scales
    return encode(flat, FORMATS[operand.format], operand.overflow), scales
