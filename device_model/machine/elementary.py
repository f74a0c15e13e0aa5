# SPDX-License-Identifier: Apache-2.0
"""Small compiled functions that every fast kernel uses: memory at an address, rounding, and elementary functions.

An elementary function is a fixed polynomial in float32 without fused operations, so that its bits do not depend on a
machine's library. Nothing here reduces; sums live in `lanes`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir

from device_model.machine.deferred import carray, compiled, intrinsic, signature
from device_model.machine.vectors import F16, F32

CHUNK = 2048
"""Elements that are staged at a time, so that they stay in the first-level cache."""


@intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return signature("voidptr", "int64"), generate


@intrinsic
def float_of_bits(typing: Any, bits: Any) -> Any:
    """Return the float32 whose pattern is an int32."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return signature("float32", "int32"), generate


@intrinsic
def bits_of_float(typing: Any, number: Any) -> Any:
    """Return the pattern of a float32 as an int32."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return signature("int32", "float32"), generate


@intrinsic
def _float_of_half(typing: Any, bits: Any) -> Any:
    """Return the float32 of a float16's pattern."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return signature("float32", "uint16"), generate


@intrinsic
def _half_of_float(typing: Any, number: Any) -> Any:
    """Return the pattern of a float32 rounded to float16, nearest even."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return signature("uint16", "float32"), generate


@compiled
def floats(address: int, count: int) -> Any:
    """Return the float32 numbers at an address."""
    return carray(_pointer(address), count, np.float32)


@compiled
def patterns(address: int, count: int) -> Any:
    """Return the uint32 patterns at an address."""
    return carray(_pointer(address), count, np.uint32)


@compiled
def halves(address: int, count: int) -> Any:
    """Return the uint16 patterns at an address."""
    return carray(_pointer(address), count, np.uint16)


@compiled
def words(address: int, count: int) -> Any:
    """Return the int32 numbers at an address."""
    return carray(_pointer(address), count, np.int32)


@compiled
def octets(address: int, count: int) -> Any:
    """Return the bytes at an address."""
    return carray(_pointer(address), count, np.uint8)


@compiled
def integers(address: int, count: int) -> Any:
    """Return the int64 numbers at an address."""
    return carray(_pointer(address), count, np.int64)


@compiled
def doubles(address: int, count: int) -> Any:
    """Return the float64 numbers at an address."""
    return carray(_pointer(address), count, np.float64)


@compiled
def size_of(kind: int) -> int:
    """Return the bytes of one element of a storage kind."""
    return 4 if kind == F32 else 2


@compiled
def read(source: int, kind: int, target: int, count: int) -> None:
    """Copy `count` elements of a kind to float32."""
    if kind == F32:
        from_floats, to_floats = floats(source, count), floats(target, count)
        for i in range(count):
            to_floats[i] = from_floats[i]
    elif kind == F16:
        from_halves, to_floats = halves(source, count), floats(target, count)
        for i in range(count):
            to_floats[i] = _float_of_half(from_halves[i])
    else:
        from_halves, to_bits = halves(source, count), patterns(target, count)
        for i in range(count):
            to_bits[i] = np.uint32(from_halves[i]) << np.uint32(16)


@compiled
def write(source: int, target: int, kind: int, count: int) -> None:
    """Copy `count` float32 numbers to a kind, rounded to nearest even, NaN quiet and of its sign."""
    if kind == F32:
        from_floats, to_floats = floats(source, count), floats(target, count)
        for i in range(count):
            to_floats[i] = from_floats[i]
    elif kind == F16:
        from_floats, to_halves = floats(source, count), halves(target, count)
        for i in range(count):
            number = from_floats[i]
            quiet = np.uint16(0xFE00) if np.signbit(number) else np.uint16(0x7E00)
            to_halves[i] = quiet if np.isnan(number) else _half_of_float(number)
    else:
        from_bits, to_halves = patterns(source, count), halves(target, count)
        for i in range(count):
            bits = from_bits[i]
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            rounded = np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
            quiet = ((bits >> np.uint32(16)) & np.uint32(0x8000)) | np.uint32(0x7FC0)
            ordinary = (bits & np.uint32(0x7FFFFFFF)) <= np.uint32(0x7F800000)
            to_halves[i] = np.uint16(rounded if ordinary else quiet)


@compiled
def round_to(kind: int, at: int, count: int) -> None:
    """Round float32 numbers in place to those of a kind of sixteen bits."""
    numbers, bits = floats(at, count), patterns(at, count)
    if kind == F16:
        for i in range(count):
            numbers[i] = _float_of_half(_half_of_float(numbers[i]))
        return
    for i in range(count):
        odd = (bits[i] >> np.uint32(16)) & np.uint32(1)
        rounded = np.uint32(bits[i] + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
        ordinary = (bits[i] & np.uint32(0x7FFFFFFF)) <= np.uint32(0x7F800000)
        bits[i] = rounded if ordinary else np.uint32(0x7FC00000)


@intrinsic
def _bits_of_double(typing: Any, number: Any) -> Any:
    """Return the pattern of a float64."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return signature("int64", "float64"), generate


@intrinsic
def _double_of_bits(typing: Any, bits: Any) -> Any:
    """Return the float64 whose pattern is an int64."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return signature("float64", "int64"), generate


@compiled
def add_rounded(a: float, b: float, drop: int, nearest: int) -> Any:
    """Return a + b of float64 rounded once, without the last `drop` bits; toward zero unless to the nearest."""
    total = a + b
    moved = total - a
    lost = (a - (total - moved)) + (b - moved)
    bits = _bits_of_double(total)
    if (lost > 0.0 or lost < 0.0) and bits & 1 == 0:
        bits += 1 if (lost > 0.0) == (total > 0.0) else -1
    if nearest:
        bits += (1 << (drop - 1)) - 1 + ((bits >> drop) & 1)
    return _double_of_bits(bits & ~((1 << drop) - 1))


@compiled
def power_of_two(exponent: int) -> Any:
    """Return 2^(exponent - 127) for an exponent byte; NaN for 255."""
    bits = np.int32(exponent) << np.int32(23)
    # The least exponent is a subnormal number, and the largest pattern says that there is none.
    bits = np.int32(1 << 22) if exponent == 0 else bits
    bits = np.int32(0x7FC00000) if exponent == 255 else bits
    return float_of_bits(bits)


_LOG2E = np.float32(1.44269504088896341)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_EXP_MIN, _EXP_MAX = np.float32(-87.0), np.float32(88.72283)
_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1.0), np.float32(2.0)
_E0, _E1, _E2 = (
    np.float32(1.9875691500e-4),
    np.float32(1.3981999507e-3),
    np.float32(8.3334519073e-3),
)
_E3, _E4, _E5 = (
    np.float32(4.1665795894e-2),
    np.float32(1.6666665459e-1),
    np.float32(5.0000001201e-1),
)


@compiled
def exp(x: Any) -> Any:
    """Return e^x: two ulp at most, 0 below -87, infinity above the largest float32."""
    clamped = min(max(x, _EXP_MIN), _EXP_MAX)
    n = np.floor(clamped * _LOG2E + _HALF)
    r = clamped - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    y = _E0
    y = y * r + _E1
    y = y * r + _E2
    y = y * r + _E3
    y = y * r + _E4
    y = y * r + _E5
    y = y * (r * r) + r + _ONE
    # 2^n in two factors: n reaches 128, which no single float32 exponent holds.
    whole = np.int32(n)
    low = whole >> np.int32(1)
    high = whole - low
    y = y * float_of_bits(np.int32((low + np.int32(127)) << np.int32(23)))
    y = y * float_of_bits(np.int32((high + np.int32(127)) << np.int32(23)))
    y = np.float32(np.inf) if x > _EXP_MAX else y
    y = np.float32(0.0) if x < _EXP_MIN else y
    return x if np.isnan(x) else y


_T0, _T1, _T2 = (
    np.float32(-5.70498872745e-3),
    np.float32(2.06390887954e-2),
    np.float32(-5.37397155531e-2),
)
_T3, _T4, _T_EDGE = np.float32(1.33314422036e-1), np.float32(-3.33332819422e-1), np.float32(0.625)


@compiled
def tanh(x: Any) -> Any:
    """Return tanh x: a polynomial near 0, through `exp` elsewhere."""
    size = abs(x)
    z = x * x
    small = _T0
    small = small * z + _T1
    small = small * z + _T2
    small = small * z + _T3
    small = small * z + _T4
    small = small * z * x + x
    large = _ONE - _TWO / (exp(size + size) + _ONE)
    large = -large if x < 0 else large
    return small if size < _T_EDGE else large


@compiled
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e^-x)."""
    return _ONE / (_ONE + exp(-x))


@compiled
def erf(x: Any) -> Any:
    """Return the error function, rounded from float64."""
    return np.float32(math.erf(np.float64(x)))


@compiled
def softplus(x: Any) -> Any:
    """Return log(1 + e^x), which is x from 20 on."""
    return x if x > np.float32(20.0) else np.float32(math.log1p(math.exp(np.float64(x))))
