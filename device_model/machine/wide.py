# SPDX-License-Identifier: Apache-2.0
"""Products of many float32 rows with columns side by side in registers of sixteen lanes.

A register holds the eight lanes of two columns, so that each sum has the order of `lanes`, bit for bit, at twice its
width. Only processors with such registers have this compiled. Nothing here knows an operation, or how a weight is
stored before `pack` has laid it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from device_model.machine.deferred import compiles_for, intrinsic, signature
from device_model.machine.trees import picked, trees
from device_model.machine.vectors import F32, FLOAT, I64, LANES, V8, Emitter, split

ROWS, COLUMNS = 6, 8
"""Rows and columns that are multiplied at a time: 24 registers of sums, four of weights and one of a row."""
STEP = 4 * LANES * COLUMNS
"""Bytes of eight elements of K of packed columns."""
V16 = ir.VectorType(FLOAT, 2 * LANES)


def _is_known() -> bool:
    """Tell whether the processor that is compiled for has registers of sixteen lanes."""
    return compiles_for("avx512f", "avx512dq")


@intrinsic
def has_wide(typing: Any) -> Any:
    """Tell whether products of sixteen lanes are compiled; `pack` and `multiply` do nothing where they are not."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(1), int(_is_known()))

    return signature("boolean"), generate


@intrinsic
def pack(typing: Any, source: Any, count: Any, target: Any) -> Any:
    """Lay out `count` float32 elements of a column, eight each `STEP` bytes, with zeros behind the last."""

    def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
        if not _is_known():
            return context.get_dummy_value()
        emit = Emitter(builder)
        source_at, number, target_at = args
        whole, covered, rest = split(emit, number)

        def full(index: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            value = emit.load(emit.offset(source_at, index, 4 * LANES), F32)
            emit.store(value, emit.offset(target_at, index, STEP))
            return []

        def part(_: ir.Value, __: list[ir.Value]) -> list[ir.Value]:
            mask = emit.mask(rest)
            value = emit.load_masked(emit.offset(source_at, covered, 4), F32, mask)
            emit.store(value, emit.offset(target_at, whole, STEP))
            return []

        emit.loop(whole, [], full)
        emit.loop(_any(builder, rest), [], part)
        return context.get_dummy_value()

    return signature("void", *["int64"] * 3), generate


def multiply(rows: int) -> Callable[..., Any]:
    """Make `f(x, x_stride, w, count, out, out_stride)`: the dot products of so many rows with packed columns.

    x is float32[rows, count] with a stride in bytes, w the packed columns, out float32[rows, COLUMNS] likewise.
    """

    @intrinsic
    def function(typing: Any, x: Any, xs: Any, w: Any, n: Any, out: Any, outs: Any) -> Any:
        def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
            if not _is_known():
                return context.get_dummy_value()
            emit = Emitter(builder)
            x_at, x_stride, w_at, count, out_at, out_stride = args
            whole, covered, rest = split(emit, count)
            across = COLUMNS // 2
            starts = [emit.offset(x_at, ir.Constant(I64, r), x_stride) for r in range(rows)]

            def add(index: ir.Value, left: list[ir.Value], sums: list[ir.Value]) -> list[ir.Value]:
                here = emit.offset(w_at, index, STEP)
                right = [
                    _load(emit, builder.add(here, ir.Constant(I64, 64 * p))) for p in range(across)
                ]
                return [
                    _fma(emit, left[i // across], right[i % across], value)
                    for i, value in enumerate(sums)
                ]

            def step(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                places = [emit.offset(start, index, 4 * LANES) for start in starts]
                return add(index, [_twice(builder, emit.load(a, F32)) for a in places], sums)

            def last(_: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                mask = emit.mask(rest)
                places = [emit.offset(start, covered, 4) for start in starts]
                left = [_twice(builder, emit.load_masked(a, F32, mask)) for a in places]
                return add(whole, left, sums)

            zeros = [ir.Constant(V16, [0.0] * 2 * LANES)] * (rows * across)
            sums = emit.loop(whole, zeros, step)
            sums = emit.loop(_any(builder, rest), sums, last)
            for row in range(rows):
                total = trees(builder, *sums[row * across : (row + 1) * across])
                emit.store(total, emit.offset(out_at, ir.Constant(I64, row), out_stride))
            return context.get_dummy_value()

        return signature("void", *["int64"] * 6), generate

    result: Callable[..., Any] = function
    return result


def _any(builder: ir.IRBuilder, rest: ir.Value) -> ir.Value:
    return builder.zext(builder.icmp_signed(">", rest, ir.Constant(I64, 0)), I64)


def _load(emit: Emitter, address: ir.Value) -> ir.Value:
    return emit.builder.load(emit.pointer(address, V16), align=4)


def _twice(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return eight lanes twice, side by side."""
    order = picked([*range(LANES), *range(LANES)])
    return builder.shuffle_vector(value, ir.Constant(V8, ir.Undefined), order)


def _fma(emit: Emitter, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    function = emit.external(ir.FunctionType(V16, [V16, V16, V16]), "llvm.fma.v16f32")
    return emit.builder.call(function, [a, b, c])
