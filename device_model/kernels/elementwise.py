# SPDX-License-Identifier: Apache-2.0
"""Arithmetic with broadcasting, bounds, sums of rows, and casts.

Each computes in float32 and rounds once. A second operand may have fewer axes (it repeats over the leading ones), a
last axis of 1, or be a literal. Fusing several of them is not done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from device_model.kernels.reduction import lower_reduction, reference_mean, reference_sum
from device_model.kernels.unary import CLAMP
from device_model.kernels.unary import lower as lower_function
from device_model.machine.deferred import compiled
from device_model.machine.elementary import CHUNK, floats, read, size_of, write
from device_model.numbers.numerics import Array, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call, number
from device_model.program.instruction import Argument, Instruction
from device_model.program.kernel import Kernel, as_first, declared
from device_model.program.places import Buffer, Fixed, Operation, Place

ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM = 0, 1, 2, 3, 4, 5

Binary = Callable[[Array, Array], Array]
BINARIES: dict[str, tuple[int, Binary]] = {
    "add": (ADD, np.add),
    "subtract": (SUBTRACT, np.subtract),
    "multiply": (MULTIPLY, np.multiply),
    "divide": (DIVIDE, np.divide),
    "maximum": (MAXIMUM, np.maximum),
    "minimum": (MINIMUM, np.minimum),
}


def _reference_binary(function: Binary) -> Callable[[Call], tuple[Array, ...]]:
    def reference(call: Call) -> tuple[Array, ...]:
        a, b = wide(call.array(0)), _second(call)
        if call.attrs.get("reverse", False):
            a, b = b, a
        return (function(a, b),)

    return reference


def _second(call: Call) -> Array:
    b = call.optional("y")
    return np.asarray(call.number("scalar", 0.0), np.float32) if b is None else wide(b)


def reference_cast(call: Call) -> tuple[Array, ...]:
    """Return the value; the executor rounds it to the declared format."""
    return (call.array(0),)


def reference_clamp(call: Call) -> tuple[Array, ...]:
    """Return min(max(x, low), high)."""
    low, high = _bounds(call.number("low", -math.inf), call.number("high", math.inf))
    return (np.minimum(np.maximum(wide(call.array(0)), low), high),)


def _bounds(low: float, high: float) -> tuple[np.float32, np.float32]:
    return np.float32(low), np.float32(high)


@compiled
def convert(
    source: int, kind: int, target: int, target_kind: int, count: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy this part of source[count] kind to target[count] target_kind."""
    first, last = count * part // parts, count * (part + 1) // parts
    while first < last:
        size = min(CHUNK, last - first)
        read(source + first * size_of(kind), kind, scratch, size)
        write(scratch, target + first * size_of(target_kind), target_kind, size)
        first += size


CONVERT = Instruction.of("convert", convert)


@compiled
def _choose(left: Array, right: Array, count: int, larger: bool) -> None:
    """Keep the larger, or the smaller, of left[count] and right[count] in left; NaN where one is."""
    for i in range(count):
        taken = left[i] > right[i] if larger else left[i] < right[i]
        kept = left[i] if taken or np.isnan(left[i]) else right[i]
        left[i] = kept


@compiled
def _combine(function: int, left: Array, right: Array, count: int) -> None:
    """Replace left[count] by a function of it and right[count]."""
    if function == ADD:
        for i in range(count):
            left[i] = left[i] + right[i]
    elif function == SUBTRACT:
        for i in range(count):
            left[i] = left[i] - right[i]
    elif function == MULTIPLY:
        for i in range(count):
            left[i] = left[i] * right[i]
    elif function == DIVIDE:
        for i in range(count):
            left[i] = left[i] / right[i]
    else:
        _choose(left, right, count, function == MAXIMUM)


@compiled
def binary(
    function: int, a: int, a_kind: int, b: int, b_kind: int, out: int, out_kind: int, rows: int,
    width: int, period: int, reverse: int, scalar: float, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Combine this part's rows: a[rows, width] a_kind with b b_kind or a scalar to out[rows, width] out_kind.

    `b`[period, width] repeats every `period` rows, has one number a row where that is 0, and is a literal where its
    address is 0.
    """
    right_at = scratch + 4 * CHUNK
    left, right = floats(scratch, CHUNK), floats(right_at, CHUNK)
    chunks = (width + CHUNK - 1) // CHUNK
    total = rows * chunks
    for index in range(total * part // parts, total * (part + 1) // parts):
        row = index // chunks
        start = index % chunks * CHUNK
        size = min(CHUNK, width - start)
        at = row * width + start
        read(a + at * size_of(a_kind), a_kind, scratch, size)
        if b == 0:
            for i in range(size):
                right[i] = np.float32(scalar)
        elif period == 0:
            read(b + row * size_of(b_kind), b_kind, right_at, 1)
            one = right[0]
            for i in range(size):
                right[i] = one
        else:
            read(b + (row % period * width + start) * size_of(b_kind), b_kind, right_at, size)
        if reverse:
            for i in range(size):
                left[i], right[i] = right[i], left[i]
        _combine(function, left, right, size)
        write(scratch, out + at * size_of(out_kind), out_kind, size)


BINARY = Instruction.of("binary", binary)


def lower_binary(target: Builder, operation: Operation) -> bool:
    """Emit arithmetic where the second operand is a literal or repeats."""
    a, *others = operation.inputs
    (out,) = operation.outputs
    reverse = bool(operation.attrs.get("reverse", False))
    if others and (isinstance(a, Fixed) or _dims(a) != _dims(out)):
        a, others, reverse = others[0], [a], not reverse
    if not (isinstance(a, Buffer) and isinstance(out, Buffer)) or a.shape != out.shape:
        return False
    literal, spread = number(operation.attrs, "scalar", 0.0), _Spread(0, 0, a.elements, 1)
    if others:
        b = others[0]
        if isinstance(b, Fixed) and b.array.size == 1:
            literal = float(wide(b.array).reshape(()))
        else:
            repeated = _spread(target, a, b)
            if repeated is None:
                return False
            spread = repeated
    target.reserve(8 * CHUNK)
    target.emit(
        BINARY, function=BINARIES[operation.op][0], a=target.at(a), a_kind=kind_of(a.dtype),
        b=spread.address, b_kind=spread.kind, out=target.at(out), out_kind=kind_of(out.dtype),
        rows=target.tokens(a.elements // spread.width), width=spread.width, period=spread.period,
        reverse=int(reverse), scalar=literal,
    )  # fmt: skip
    return True


def _dims(place: Place) -> tuple[int, ...]:
    """Return the axes of an operand, without that of the tokens."""
    if isinstance(place, Fixed):
        return tuple(place.array.shape)
    return place.shape if isinstance(place, Buffer) else ()


@dataclass(frozen=True, slots=True)
class _Spread:
    """How a second operand repeats: its address, kind, the width of a row and the period of rows."""

    address: Argument
    kind: int
    width: int
    period: int


def _spread(target: Builder, a: Buffer, b: Place) -> _Spread | None:
    """Return how an operand repeats over a value per token; None where only the reference can tell."""
    shape = _dims(b)
    if isinstance(b, Fixed):
        fits = shape == a.shape[len(a.shape) - len(shape) :]
        kind = kind_of(b.array.dtype)
        return _Spread(target.at(b), kind, prod(shape), 1) if fits else None
    if not isinstance(b, Buffer):
        return None
    kind = kind_of(b.dtype)
    if shape == a.shape:
        return _Spread(target.at(b), kind, a.elements, 1 << 62)
    if shape == (*a.shape[:-1], 1):
        return _Spread(target.at(b), kind, a.width, 0)
    return None


def lower_cast(target: Builder, operation: Operation) -> bool:
    """Emit a change of format."""
    (x,), (out,) = operation.inputs, operation.outputs
    if not (isinstance(x, Buffer) and isinstance(out, Buffer)):
        return False
    target.reserve(4 * CHUNK)
    target.emit(
        CONVERT, source=target.at(x), kind=kind_of(x.dtype), target=target.at(out),
        target_kind=kind_of(out.dtype), count=target.tokens(x.elements),
    )  # fmt: skip
    return True


def lower_clamp(target: Builder, operation: Operation) -> bool:
    """Emit sharp bounds; one that is absent is infinite."""
    low, high = number(operation.attrs, "low", -math.inf), number(operation.attrs, "high", math.inf)
    return lower_function(target, operation, CLAMP, low, high)


KERNELS: dict[str, Kernel] = {
    **{
        name: Kernel(_reference_binary(function), lower_binary)
        for name, (_, function) in BINARIES.items()
    },
    "clamp": Kernel(reference_clamp, lower_clamp, as_first),
    "sum": Kernel(reference_sum, lower_reduction, as_first),
    "mean": Kernel(reference_mean, lower_reduction, as_first),
    "cast": Kernel(reference_cast, lower_cast, declared),
}
