# SPDX-License-Identifier: Apache-2.0
"""Dot products of bfloat16 with the processor's own instruction for pairs of products, written as LLVM instructions.

The instruction adds two products to each float32 lane, the odd one of a pair first, rounding to nearest even after
each. Operands are therefore laid out so that lane j finds k = j and k = j+8 of sixteen in its pair: its sum is that of
`lanes`, bit for bit. It takes subnormal numbers for zeros, and so is right only where `harmless` says that none can
occur. A processor without the instruction has none of this compiled.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import ir

from device_model.machine.deferred import compiled, compiles_for, intrinsic, signature
from device_model.machine.elementary import halves
from device_model.machine.processor import processor_facts
from device_model.machine.trees import picked, trees
from device_model.machine.vectors import FLOAT, I16, I32, I64, LANES, V8I32, Emitter

ROWS, COLUMNS = 6, 8
"""Rows and columns that are multiplied at a time: 24 registers of sums."""
STEP = 2 * LANES
"""Elements of K in one instruction."""
ROW_STEP, COLUMN_STEP = 2 * STEP * ROWS, 2 * STEP * COLUMNS
"""Bytes of a step of packed rows, and of packed columns."""
SEEN_BYTES = 4 * STEP
"""Memory for what packing has seen of the elements: smallest but zero, less one, and largest, in each lane."""
SWITCH = "SOHU_PAIRS"
"""Environment: 0 leaves the instruction unused and 1 uses it wherever it is, which changes no bit."""
NO_FASTER = frozenset({"GenuineIntel"})
"""Makers whose processors add pairs at half the rate of single products, so that `wide` is as fast without packing."""

_BIAS, _SUBNORMAL, _INFINITE, _FRACTION_BITS = 127, 0x0080, 0x7F80, 7
_BEYOND = 1 << 20
_LEAST, _MOST = 14 - 126, 64
"""Bounds of the exponents of a product of two: a product of two eight-bit fractions has its last bit 14 places below,
where a sum's last bit can then be too, and must be normal; and no sum of 2^60 of them overflows."""


V16I16 = ir.VectorType(I16, STEP)
V8PAIRS, V16PAIRS = V8I32, ir.VectorType(I32, 2 * LANES)
"""Pairs of bfloat16 in the lanes of one sum, and of two side by side."""
V16 = ir.VectorType(FLOAT, 2 * LANES)


def wanted() -> int:
    """Return 1 if products may use the instruction where the processor has it."""
    switch = os.environ.get(SWITCH)
    if switch in ("0", "1"):
        return int(switch)
    return int(processor_facts().get("vendor_id", "") not in NO_FASTER)


def _is_known() -> bool:
    """Tell whether what is compiled here can use the instruction."""
    return compiles_for("avx512bf16", "avx512bw")


@intrinsic
def has_pairs(typing: Any) -> Any:
    """Tell whether the instruction is compiled; `pack` and `multiply` do nothing where it is not."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(1), int(_is_known()))

    return signature("boolean"), generate


@intrinsic
def pack(typing: Any, source: Any, count: Any, target: Any, step: Any, seen: Any) -> Any:
    """Lay out `count` bfloat16 elements of a row in pairs, sixteen each `step` bytes, and note the sizes `seen`."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        if not _is_known():
            return context.get_dummy_value()
        emit = Emitter(builder)
        source_at, number, target_at, stride, seen_at = args
        whole = builder.ashr(number, ir.Constant(I64, 4))
        rest = builder.and_(number, ir.Constant(I64, STEP - 1))
        order = picked([lane + up for lane in range(LANES) for up in (LANES, 0)])

        def take(index: ir.Value, value: ir.Value, sizes: list[ir.Value]) -> list[ir.Value]:
            paired = builder.shuffle_vector(value, ir.Constant(V16I16, ir.Undefined), order)
            address = emit.offset(target_at, index, stride)
            builder.store(paired, emit.pointer(address, V16I16), align=2)
            size = builder.and_(value, ir.Constant(V16I16, [0x7FFF] * STEP))
            less = builder.sub(size, ir.Constant(V16I16, [1] * STEP))
            smaller = builder.icmp_unsigned("<", less, sizes[0])
            larger = builder.icmp_unsigned(">", size, sizes[1])
            return [builder.select(smaller, less, sizes[0]), builder.select(larger, size, sizes[1])]

        def full(index: ir.Value, sizes: list[ir.Value]) -> list[ir.Value]:
            pointer = emit.pointer(emit.offset(source_at, index, 2 * STEP), V16I16)
            return take(index, builder.load(pointer, align=2), sizes)

        def part(_: ir.Value, sizes: list[ir.Value]) -> list[ir.Value]:
            pointer = emit.pointer(emit.offset(source_at, whole, 2 * STEP), V16I16)
            return take(whole, emit.first(pointer, rest, V16I16), sizes)

        places = [
            emit.pointer(builder.add(seen_at, ir.Constant(I64, far)), V16I16)
            for far in (0, 2 * STEP)
        ]
        sizes = emit.loop(whole, [builder.load(place, align=2) for place in places], full)
        any_left = builder.zext(builder.icmp_signed(">", rest, ir.Constant(I64, 0)), I64)
        sizes = emit.loop(any_left, sizes, part)
        for size, place in zip(sizes, places, strict=True):
            builder.store(size, place, align=2)
        return context.get_dummy_value()

    return signature("void", *["int64"] * 5), generate


@intrinsic
def multiply(typing: Any, x: Any, w: Any, steps: Any, out: Any, stride: Any) -> Any:
    """Write the float32 dot products of packed rows and columns to `out`, `stride` bytes a row."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        if not _is_known():
            return context.get_dummy_value()
        emit = Emitter(builder)
        x_at, w_at, count, out_at, out_stride = args
        across = COLUMNS // 2
        both = picked([*range(LANES), *range(LANES)])
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        add = emit.external(ir.FunctionType(V16, [V16, V16PAIRS, V16PAIRS]), name)

        def step(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            left, right, results = [], [], []
            x_here, w_here = (
                emit.offset(x_at, index, ROW_STEP),
                emit.offset(w_at, index, COLUMN_STEP),
            )
            for row in range(ROWS):
                address = builder.add(x_here, ir.Constant(I64, 2 * STEP * row))
                value = builder.load(emit.pointer(address, V8PAIRS), align=2)
                undefined = ir.Constant(V8PAIRS, ir.Undefined)
                left.append(builder.shuffle_vector(value, undefined, both))
            for pair in range(across):
                address = builder.add(w_here, ir.Constant(I64, 4 * STEP * pair))
                right.append(builder.load(emit.pointer(address, V16PAIRS), align=2))
            for i, value in enumerate(sums):
                results.append(builder.call(add, [value, left[i // across], right[i % across]]))
            return results

        sums = emit.loop(count, [ir.Constant(V16, [0.0] * 16)] * (ROWS * across), step)
        for row in range(ROWS):
            total = trees(builder, *sums[row * across : (row + 1) * across])
            emit.store(total, emit.offset(out_at, ir.Constant(I64, row), out_stride))
        return context.get_dummy_value()

    return signature("void", *["int64"] * 5), generate


@compiled
def clear_seen(at: int) -> None:
    """Forget what packing has seen."""
    sizes = halves(at, 2 * STEP)
    for i in range(STEP):
        sizes[i] = np.uint16(0xFFFF)
        sizes[STEP + i] = np.uint16(0)


@compiled
def exponents(at: int) -> Any:
    """Return the smallest and the largest exponent of what packing has seen, beyond any where one is not normal."""
    sizes = halves(at, 2 * STEP)
    least, most = np.int64(0xFFFF), np.int64(0)
    for i in range(STEP):
        least, most = min(least, np.int64(sizes[i])), max(most, np.int64(sizes[STEP + i]))
    low = (least + 1) >> _FRACTION_BITS if least + 1 >= _SUBNORMAL else -_BEYOND
    high = most >> _FRACTION_BITS if most < _INFINITE else _BEYOND
    return low - _BIAS, high - _BIAS


@compiled
def harmless(low: int, high: int, other_low: int, other_high: int) -> bool:
    """Tell whether no product and no sum of operands with these exponents is subnormal or overflows."""
    return low + other_low >= _LEAST and high + other_high <= _MOST
