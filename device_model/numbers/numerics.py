# SPDX-License-Identifier: Apache-2.0
"""What a number is on the device: storage formats, casts, and the dtypes of a run.

A `Numerics` says in which format activations and weights are computed and how sums are kept. It deliberately does not
say how an operation works; that is its kernel's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from device_model.numbers.precision import F32_SUMS, Accumulator, Product
from dsl.types import DType

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

F32 = np.dtype(np.float32)
F64 = np.dtype(np.float64)
BF16 = np.dtype(ml_dtypes.bfloat16)
F16 = np.dtype(np.float16)

ROUNDED_AT_ONCE = 2**16

STORAGE: dict[str, np.dtype[Any]] = {
    "f32": F32,
    "bf16": BF16,
    "f16": F16,
    "f8e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "f8e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
"""Array dtypes of the storage formats that are one array element each."""


@dataclass(frozen=True, slots=True)
class Numerics:
    """The formats of a run: of activations and state, of weights, and of products in low precision, if any.

    `weight` None computes with weights exactly as they are stored; otherwise a weight of another floating format is
    rounded to it once, when it is loaded.
    """

    name: str
    activation: DType
    weight: DType | None
    accumulator: Accumulator = F32_SUMS
    product: Product | None = None

    @property
    def storage(self) -> np.dtype[Any]:
        """Return the array dtype of activations and of state."""
        return STORAGE[self.activation.name]

    def load(self, array: Array) -> Array:
        """Return a weight as the device holds it; the same memory where no rounding is due."""
        if not is_float(array.dtype):
            return array
        if self.weight is not None:
            return cast(array, STORAGE[self.weight.name])
        return array if array.dtype in (F32, BF16) else cast(array, F32)

    @property
    def computed(self) -> np.dtype[Any]:
        """Return the format that the elements of a packed weight are rounded to."""
        return F32 if self.weight is None else STORAGE[self.weight.name]

    def promote(self, dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
        """Return the format of a result: float32 if any operand was declared so, else the activations'."""
        return F32 if F32 in dtypes else self.storage


def is_float(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype holds floating-point numbers, the 8- and 16-bit ones included."""
    return bool(np.issubdtype(dtype, np.floating)) or dtype in (
        BF16,
        STORAGE["f8e4m3"],
        STORAGE["f8e5m2"],
    )


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array in another format, rounded to nearest even; the same memory if it has it already."""
    if array.dtype == dtype:
        return array
    if dtype == BF16:
        return bf16_bits(array.astype(np.float32, copy=False)).view(BF16)
    if dtype == F16:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        quiet = np.where(np.signbit(half), np.uint16(0xFE00), np.uint16(0x7E00)).view(np.float16)
        return np.where(np.isnan(half), quiet, half)
    return array.astype(dtype)


def bf16_bits(array: Array) -> Array:
    """Return the bfloat16 patterns of float32 numbers: nearest even, a NaN quiet and of the same sign."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32).reshape(-1)
    patterns = np.empty(bits.shape, np.uint16)
    # A part at a time stays in the processor's cache: four times as fast for a model's weights.
    for start in range(0, bits.size, ROUNDED_AT_ONCE):
        part = slice(start, start + ROUNDED_AT_ONCE)
        patterns[part] = _nearest_bf16(bits[part])
    return patterns.reshape(array.shape)


def _nearest_bf16(bits: Array) -> Array:
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    not_a_number = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    if not not_a_number.any():
        return rounded
    quiet = ((bits >> np.uint32(16)) & np.uint32(0x8000)) | np.uint32(0x7FC0)
    return np.where(not_a_number, quiet, rounded)


def wide(array: Array) -> Array:
    """Return a floating array as float32 (exact for the 8- and 16-bit formats)."""
    if array.dtype == BF16:
        shifted = array.view(np.uint16).astype(np.uint32) << np.uint32(16)
        return shifted.view(np.float32)
    return array.astype(np.float32, copy=False)
