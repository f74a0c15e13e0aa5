# SPDX-License-Identifier: Apache-2.0
"""Casts and block formats, against `ml_dtypes` bit for bit and against formulas in exact fractions.

`SOHU_SLOW=1` runs all 2^32 float32 patterns; otherwise a dense sample around every rounding decision.
"""

import os
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from device_model.numbers.formats import (
    FORMATS,
    Format,
    Overflow,
    ScaleRounding,
    decode,
    decode_blocks,
    encode,
    encode_blocks,
    table,
)

TYPES = {
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "f8e4m3": ml_dtypes.float8_e4m3fn,
    "f8e5m2": ml_dtypes.float8_e5m2,
    "f4e2m1": ml_dtypes.float4_e2m1fn,
}
MODES = [(name, mode) for name in ("bf16", "f16", "f8e4m3", "f8e5m2") for mode in Overflow]
PIECE = 1 << 22


def sample() -> np.ndarray:
    """Every upper half of a float32 pattern with lower halves around every rounding decision."""
    high = np.arange(1 << 16, dtype=np.uint32) << 16
    low = np.array([0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (high[:, None] | low[None]).ravel().view(np.float32)


def expected(values: np.ndarray, name: str, overflow: Overflow) -> np.ndarray:
    """The patterns of `ml_dtypes`, which overflows to the nonfinite; a NaN is compared as one."""
    if overflow is Overflow.SATURATE:
        top = float(table(FORMATS[name])[FORMATS[name].largest])
        values = np.where(np.isnan(values), values, np.clip(values, -top, top))
    with np.errstate(all="ignore"):
        made = values.astype(np.float32).astype(TYPES[name])
    return made.view(np.uint16 if made.dtype.itemsize == 2 else np.uint8)


def mismatches(values: np.ndarray, name: str, overflow: Overflow) -> int:
    ours, theirs = encode(values, FORMATS[name], overflow), expected(values, name, overflow)
    missing = np.isnan(values)
    assert np.isnan(decode(ours[missing], FORMATS[name])).all()
    signs = ours[missing] >> (FORMATS[name].bits - 1)
    assert np.array_equal(signs == 1, np.signbit(values[missing]))
    return int(np.count_nonzero(ours[~missing] != theirs[~missing]))


@pytest.mark.parametrize(("name", "overflow"), MODES)
def test_casts_of_a_dense_sample(name: str, overflow: Overflow) -> None:
    assert mismatches(sample(), name, overflow) == 0


@pytest.mark.skipif("SOHU_SLOW" not in os.environ, reason="all 2^32 patterns: SOHU_SLOW=1")
@pytest.mark.parametrize(("name", "overflow"), MODES)
def test_casts_of_every_pattern(name: str, overflow: Overflow) -> None:
    found = 0
    for start in range(0, 1 << 32, PIECE):
        values = np.arange(start, start + PIECE, dtype=np.uint64).astype(np.uint32)
        found += mismatches(values.view(np.float32), name, overflow)
    assert found == 0


@pytest.mark.parametrize("name", FORMATS)
def test_every_pattern_decodes_as_in_ml_dtypes(name: str) -> None:
    of = FORMATS[name]
    codes = np.arange(1 << of.bits, dtype=np.uint16 if of.bits > 8 else np.uint8)
    with np.errstate(invalid="ignore"):
        theirs = codes.view(TYPES[name]).astype(np.float32)
    assert np.array_equal(decode(codes, of), theirs, equal_nan=True)


@pytest.mark.parametrize(
    ("left", "right"), [("f8e4m3", "f8e4m3"), ("f8e5m2", "f8e4m3"), ("f8e5m2", "f8e5m2")]
)
def test_every_product_of_two_bytes_is_exact_in_float32(left: str, right: str) -> None:
    a, b = table(FORMATS[left]), table(FORMATS[right])
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    products = a[:, None] * b[None]
    for i, x in enumerate(a):
        exact = [Fraction(float(x)) * Fraction(float(y)) for y in b]
        assert [Fraction(float(p)) for p in products[i]] == exact


def exponent_of(x: Fraction) -> int:
    """The floor of log2, by counting."""
    found = 0
    while Fraction(2) ** (found + 1) <= x:
        found += 1
    while Fraction(2) ** found > x:
        found -= 1
    return found


@pytest.mark.parametrize("rounding", ScaleRounding)
@pytest.mark.parametrize("name", ["f8e4m3", "f8e5m2", "f4e2m1"])
def test_blocks_by_the_formula(name: str, rounding: ScaleRounding) -> None:
    of: Format = FORMATS[name]
    generator = np.random.default_rng(0)
    values = (
        generator.normal(size=(40, 64)) * np.exp2(generator.integers(-20, 20, (40, 1)))
    ).astype(np.float32)
    values[0, :32] = 0
    scales, codes = encode_blocks(values, of, rounding)
    known = {code: Fraction(float(v)) for code, v in enumerate(table(of)) if np.isfinite(v)}
    top = max(known.values())
    for row in range(len(values)):
        for block in range(2):
            part = [Fraction(float(v)) for v in values[row, 32 * block : 32 * block + 32]]
            largest = max(map(abs, part))
            shared = int(scales[row, block]) - 127
            if largest == 0:
                assert shared == -127
                continue
            if rounding is ScaleRounding.FLOOR:
                assert shared == exponent_of(largest) - exponent_of(top)
            else:
                assert largest <= top * Fraction(2) ** shared
                assert largest > top * Fraction(2) ** (shared - 1)
            for k, exact in enumerate(part):
                scaled = max(-top, min(top, exact / Fraction(2) ** shared))
                code = int(codes[row, 32 * block + k])
                error = abs(known[code] - scaled)
                best = min(abs(v - scaled) for v in known.values())
                assert error == best
                tied = [c for c, v in known.items() if abs(v - scaled) == best and v != known[code]]
                assert not tied or code % 2 == 0
    decoded = decode_blocks(scales, codes, of)
    assert np.abs(decoded - values).max(axis=-1).max() <= np.abs(values).max()
