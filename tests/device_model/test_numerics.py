"""Casts, against `ml_dtypes` bit for bit."""

import ml_dtypes
import numpy as np
import pytest

from device_model.kernels.compiled import write
from device_model.kernels.deferred import compiled
from device_model.numerics import BF16, F32, NUMERICS, bf16_bits, cast, wide


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
        ("bf16", "int32", np.dtype(np.int32)),
    ],
)
def test_weights_are_loaded_in_the_format_of_the_numerics(
    numerics: str, stored: str, loaded: np.dtype
) -> None:
    array = np.ones(2, ml_dtypes.bfloat16 if stored == "bfloat16" else stored)
    assert NUMERICS[numerics].load(array).dtype == loaded
