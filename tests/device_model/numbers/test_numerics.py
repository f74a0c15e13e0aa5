# SPDX-License-Identifier: Apache-2.0
"""Casts, against `ml_dtypes` bit for bit."""

import ml_dtypes
import numpy as np
import pytest

from device_model.machine.deferred import compiled
from device_model.machine.elementary import read, round_to, write
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import BF16, F16, F32, bf16_bits, cast, wide


def sample() -> np.ndarray:
    """Every upper half of a float32 pattern with lower halves around every rounding decision."""
    high = np.arange(1 << 16, dtype=np.uint32) << 16
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (high[:, None] | low[None]).ravel().view(np.float32)


def expected_bits(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        return values.astype(ml_dtypes.bfloat16).view(np.uint16)


def test_bf16_bits_equal_ml_dtypes() -> None:
    assert np.array_equal(bf16_bits(sample()), expected_bits(sample()))


@compiled
def _write(source: int, target: int, kind: int, count: int) -> None:
    write(source, target, kind, count)


def test_compiled_rounding_equals_ml_dtypes() -> None:
    values = sample()
    target = np.zeros(len(values), np.uint16)
    _write(values.ctypes.data, target.ctypes.data, 1, len(values))
    assert np.array_equal(target, expected_bits(values))


@compiled
def _read(source: int, target: int, kind: int, count: int) -> None:
    read(source, kind, target, count)


@compiled
def _round_to(kind: int, at: int, count: int) -> None:
    round_to(kind, at, count)


def test_compiled_float16_equals_numpy() -> None:
    values = sample()
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16)
    target = np.zeros(len(values), np.uint16)
    _write(values.ctypes.data, target.ctypes.data, 2, len(values))
    missing = np.isnan(values)
    assert np.array_equal(target[~missing], expected.view(np.uint16)[~missing])
    assert set(target[missing]) == {0x7E00, 0xFE00}
    assert np.array_equal(target, cast(values, F16).view(np.uint16))


def test_compiled_widening_of_float16_is_exact_for_every_pattern() -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    target = np.zeros(len(patterns), np.float32)
    _read(patterns.ctypes.data, target.ctypes.data, 2, len(patterns))
    assert np.array_equal(target, patterns.view(np.float16).astype(np.float32), equal_nan=True)


@pytest.mark.parametrize(("kind", "dtype"), [(1, BF16), (2, F16)])
def test_rounding_in_place_is_a_cast_and_back(kind: int, dtype: np.dtype) -> None:
    values = sample()
    expected = cast(values, dtype).astype(np.float32)
    _round_to(kind, values.ctypes.data, len(values))
    assert np.array_equal(values, expected, equal_nan=True)


def test_widening_is_exact_for_every_pattern() -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16).view(BF16)
    with np.errstate(invalid="ignore"):
        expected = patterns.astype(np.float32)
    numbers = ~np.isnan(expected)
    assert np.array_equal(wide(patterns)[numbers], expected[numbers])
    assert np.isnan(wide(patterns)[~numbers]).all()


def test_cast_to_the_same_format_is_the_same_memory() -> None:
    array = np.zeros(3, np.float32)
    assert cast(array, F32) is array


@pytest.mark.parametrize(
    ("numerics", "stored", "loaded"),
    [
        ("f32", "float32", F32),
        ("f32", "bfloat16", BF16),
        ("f32", "float16", F32),
        ("bf16", "float32", BF16),
        ("bf16", "bfloat16", BF16),
        ("bf16", "float16", BF16),
        ("f16", "bfloat16", F16),
        ("f16", "float32", F16),
        ("f8e4m3", "float32", BF16),
        ("bf16", "int32", np.dtype(np.int32)),
    ],
)
def test_weights_are_loaded_in_the_format_of_the_numerics(
    numerics: str, stored: str, loaded: np.dtype
) -> None:
    array = np.ones(2, ml_dtypes.bfloat16 if stored == "bfloat16" else stored)
    assert numerics_named(numerics).load(array).dtype == loaded
