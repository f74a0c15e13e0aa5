# SPDX-License-Identifier: Apache-2.0
"""Low-precision formats as data, and the casts to and from them: nearest even, overflow as a stated mode.

A format is a row of a table; one integer rule rounds to all of them. Blocks with shared scales follow the OCP
microscaling formats, with the scale's exponent floored or rounded up. Nothing here multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device_model.numbers.numerics import Array
from device_model.numbers.precision import Overflow, ScaleRounding

F32_BIAS, F32_MANTISSA = 127, 23
E8M0_NAN = 255
MX_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Format:
    """A floating format of at most 16 bits; `largest`, `infinity` and `nan` are patterns without a sign."""

    name: str
    exponent: int
    mantissa: int
    largest: int
    infinity: int | None
    nan: int | None

    @property
    def bias(self) -> int:
        """Return the exponent's offset."""
        return (1 << (self.exponent - 1)) - 1

    @property
    def bits(self) -> int:
        """Return the width of a pattern."""
        return 1 + self.exponent + self.mantissa

    @property
    def top_exponent(self) -> int:
        """Return the exponent of the largest number."""
        return (self.largest >> self.mantissa) - self.bias


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("bf16", 8, 7, 0x7F7F, 0x7F80, 0x7FC0),
        Format("f16", 5, 10, 0x7BFF, 0x7C00, 0x7E00),
        Format("f8e4m3", 4, 3, 0x7E, None, 0x7F),
        Format("f8e5m2", 5, 2, 0x7B, 0x7C, 0x7E),
        Format("f4e2m1", 2, 1, 0x7, None, None),
    )
}


def encode(values: Array, to: Format, overflow: Overflow = Overflow.NONFINITE) -> Array:
    """Return the patterns of float32 numbers, rounded to nearest even; a NaN is quiet and keeps its sign."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    size = bits & np.uint32(0x7FFFFFFF)
    shift = np.uint32(F32_MANTISSA - to.mantissa)
    odd = (size >> shift) & np.uint32(1)
    nearest = (size + np.uint32((1 << int(shift - 1)) - 1) + odd) >> shift
    codes = nearest.astype(np.int64) - ((F32_BIAS - to.bias) << to.mantissa)
    if to.bias != F32_BIAS:
        # Below the normal numbers an addition rounds at the right place, as float32 does it.
        magic = np.float32(2.0 ** (1 - to.bias - to.mantissa + F32_MANTISSA))
        small = size < np.uint32((F32_BIAS - to.bias + 1) << F32_MANTISSA)
        low = np.where(small, size, np.uint32(0)).view(np.float32) + magic
        codes = np.where(small, low.view(np.int32) - magic.view(np.int32), codes)
    beyond = to.infinity if to.infinity is not None else to.nan
    if overflow is Overflow.SATURATE or beyond is None:
        beyond = to.largest
    codes = np.where(codes > to.largest, beyond, codes)
    missing = to.nan if to.nan is not None else to.largest
    codes = np.where(size > np.uint32(0x7F800000), missing, codes)
    sign = (bits >> np.uint32(31)).astype(np.int64) << (to.bits - 1)
    return np.asarray((codes | sign).astype(np.uint16 if to.bits > 8 else np.uint8))


def decode(codes: Array, of: Format) -> Array:
    """Return the float32 numbers of patterns."""
    return table(of)[codes]


def table(of: Format) -> Array:
    """Return the float32 number of every pattern."""
    codes = np.arange(1 << of.bits)
    field = (codes >> of.mantissa) & ((1 << of.exponent) - 1)
    fraction = codes & ((1 << of.mantissa) - 1)
    lead = np.where(field > 0, 1 << of.mantissa, 0) + fraction
    values = np.ldexp(lead.astype(np.float64), np.maximum(field, 1) - of.bias - of.mantissa)
    size = codes & ((1 << (of.bits - 1)) - 1)
    values = np.where(size > of.largest, np.nan, values)
    values = values if of.infinity is None else np.where(size == of.infinity, np.inf, values)
    return np.where(codes >> (of.bits - 1) == 1, -values, values).astype(np.float32)


def encode_blocks(
    values: Array, to: Format, rounding: ScaleRounding = ScaleRounding.FLOOR
) -> tuple[Array, Array]:
    """Return E8M0 scales [..., K / 32] and patterns [..., K] of microscaling blocks along the last axis."""
    blocks = np.asarray(values, np.float32).reshape(*values.shape[:-1], -1, MX_BLOCK)
    largest = np.abs(blocks).max(axis=-1)
    mantissa, exponent = np.frexp(largest)
    # frexp's mantissa lies in [1/2, 1): the exponent of the leading bit is one less.
    shared = exponent - 1 - to.top_exponent
    if rounding is ScaleRounding.UP:
        top = np.float32(decode(np.array(to.largest), to) * 2.0**-to.top_exponent)
        shared = shared + (2 * mantissa > top)
    shared = np.where(largest == 0, -F32_BIAS, np.clip(shared, -F32_BIAS, F32_BIAS))
    scaled = np.ldexp(blocks.astype(np.float64), -shared[..., None])
    codes = encode(scaled.astype(np.float32), to, Overflow.SATURATE)
    finite = np.isfinite(largest)
    scales = np.where(finite, shared + F32_BIAS, E8M0_NAN).astype(np.uint8)
    return scales, codes.reshape(values.shape)


def decode_blocks(scales: Array, codes: Array, of: Format) -> Array:
    """Return the float32 numbers of microscaling blocks; a block without a scale is NaN."""
    blocks = decode(codes, of).reshape(*scales.shape, MX_BLOCK)
    values = np.ldexp(blocks, scales.astype(np.int32)[..., None] - F32_BIAS)
    return np.where((scales == E8M0_NAN)[..., None], np.float32(np.nan), values).reshape(
        codes.shape
    )
