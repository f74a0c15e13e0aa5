# SPDX-License-Identifier: Apache-2.0
"""Vector code in the declared order of addition, written as LLVM instructions.

A reduction over K keeps eight float32 lanes: lane j adds the products of k = j, j+8, j+16, ... with fused
multiply-add, and the lanes are added as a tree (4 apart, 2 apart, 1 apart). The order is a property of one output
alone, so that tile sizes, row counts and threads cannot change a bit. Nothing here knows an operation or an array:
operands are addresses. No fast-math flag is used anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from device_model.machine.deferred import intrinsic, signature
from device_model.machine.vectors import (
    F32,
    FLOAT,
    I32,
    I64,
    LANES,
    SIZES,
    V8,
    V8I32,
    Emitter,
    split,
)

UNROLL = 4
"""Vectors per step of a streaming product: one cache line of 16-bit weights, two of float32."""
LINE = 64
AHEAD = 4096
"""How many bytes before its use a streaming product asks for a weight."""
ROWS_AHEAD = 64
"""How many rows before its use a sum of weighted rows asks for one."""

Intrinsic = Callable[..., Any]


def dots(rows: int, columns: int, kind: int, *, streaming: bool = False) -> Intrinsic:
    """Make `f(x, x_stride, w, w_stride, count, out, out_stride)`: rows x columns dot products.

    `x` is float32, `w` of storage `kind`; strides are in bytes; `out` is float32.
    `streaming` fetches ahead for a `w` that comes from memory, whose rows continue in the next call's.
    """

    @intrinsic
    def function(typing: Any, x: Any, xs: Any, w: Any, ws: Any, n: Any, out: Any, outs: Any) -> Any:
        def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
            emit = Emitter(builder)
            x_at, x_stride, w_at, w_stride, count, out_at, out_stride = args
            whole, covered, rest = split(emit, count)
            xs = [emit.offset(x_at, ir.Constant(I64, r), x_stride) for r in range(rows)]
            ws = [emit.offset(w_at, ir.Constant(I64, c), w_stride) for c in range(columns)]

            def step(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                left = [emit.load(emit.offset(a, index, LANES * 4), F32) for a in xs]
                results = list(sums)
                for c, address in enumerate(ws):
                    right = emit.load(emit.offset(address, index, LANES * SIZES[kind]), kind)
                    for r in range(rows):
                        at = r * columns + c
                        results[at] = emit.fma(left[r], right, sums[at])
                return results

            def line(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                first = builder.mul(index, ir.Constant(I64, UNROLL))
                for address in ws:
                    here = emit.offset(address, first, LANES * SIZES[kind])
                    for more in range(0, UNROLL * LANES * SIZES[kind], LINE):
                        emit.prefetch(builder.add(here, ir.Constant(I64, AHEAD + more)))
                for more in range(UNROLL):
                    sums = step(builder.add(first, ir.Constant(I64, more)), sums)
                return sums

            def remainder(_: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                mask = emit.mask(rest)
                left = [emit.load_masked(emit.offset(a, covered, 4), F32, mask) for a in xs]
                right = [
                    emit.load_masked(emit.offset(a, covered, SIZES[kind]), kind, mask) for a in ws
                ]
                return [
                    emit.fma(left[i // columns], right[i % columns], value)
                    for i, value in enumerate(sums)
                ]

            sums = [emit.zero()] * (rows * columns)
            if streaming:
                lines = builder.sdiv(whole, ir.Constant(I64, UNROLL))
                sums = emit.loop(lines, sums, line)
                start = builder.mul(lines, ir.Constant(I64, UNROLL))
                left_over = builder.sub(whole, start)
                sums = emit.loop(left_over, sums, lambda i, s: step(builder.add(start, i), s))
            else:
                sums = emit.loop(whole, sums, step)
            any_left = builder.zext(builder.icmp_signed(">", rest, ir.Constant(I64, 0)), I64)
            sums = emit.loop(any_left, sums, remainder)
            width = 4 if columns % 4 == 0 else 1
            for i in range(0, len(sums), width):
                row = emit.offset(out_at, ir.Constant(I64, i // columns), out_stride)
                total = emit.trees(*sums[i : i + 4]) if width == 4 else emit.tree(sums[i])
                emit.store(total, emit.offset(row, ir.Constant(I64, i % columns), 4))
            return context.get_dummy_value()

        return signature("void", *["int64"] * 7), generate

    result: Intrinsic = function
    return result


def total() -> Intrinsic:
    """Make `f(x, count)`: the sum of float32 numbers."""

    @intrinsic
    def function(typing: Any, x: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
            emit = Emitter(builder)
            x_at, count = args
            whole, covered, rest = split(emit, count)

            def step(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                return [builder.fadd(sums[0], emit.load(emit.offset(x_at, index, LANES * 4), F32))]

            (lanes,) = emit.loop(whole, [emit.zero()], step)
            left = emit.load_masked(emit.offset(x_at, covered, 4), F32, emit.mask(rest))
            return emit.tree(builder.fadd(lanes, left))

        return signature("float32", "int64", "int64"), generate

    result: Intrinsic = function
    return result


def largest() -> Intrinsic:
    """Make `f(x, count)`: the largest of float32 numbers, NaN if one of them is."""

    @intrinsic
    def function(typing: Any, x: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
            emit = Emitter(builder)
            x_at, count = args
            whole, covered, rest = split(emit, count)

            def larger(old: ir.Value, new: ir.Value) -> ir.Value:
                is_nan = builder.fcmp_unordered("uno", new, new)
                above = builder.fcmp_ordered(">", new, old)
                return builder.select(builder.or_(is_nan, above), new, old)

            def step(index: ir.Value, best: list[ir.Value]) -> list[ir.Value]:
                return [larger(best[0], emit.load(emit.offset(x_at, index, LANES * 4), F32))]

            lowest = ir.Constant(V8, [float("-inf")] * LANES)
            (best,) = emit.loop(whole, [lowest], step)
            mask = emit.mask(rest)
            left = emit.load_masked(emit.offset(x_at, covered, 4), F32, mask)
            best = larger(best, builder.select(mask, left, lowest))
            undefined = ir.Constant(V8, ir.Undefined)
            for distance in (4, 2, 1):
                order = [(i + distance) % LANES for i in range(LANES)]
                moved = builder.shuffle_vector(best, undefined, ir.Constant(V8I32, order))
                best = larger(best, moved)
            return builder.extract_element(best, ir.Constant(I32, 0))

        return signature("float32", "int64", "int64"), generate

    result: Intrinsic = function
    return result


def weighted(rows: int, vectors: int, kind: int) -> Intrinsic:
    """Make `f(p, p_stride, v, v_stride, count, out, out_stride, width)`: sums of weighted rows.

    out[r, e] += p[r, c] * v[c, e] for each c in order and eight times `vectors` elements e; where `vectors` is 0, for
    the first `width` < 8 elements. `p` and `out` are float32, `v` of storage `kind`; strides are in bytes.
    """

    @intrinsic
    def function(
        typing: Any, p: Any, ps: Any, v: Any, vs: Any, n: Any, out: Any, outs: Any, width: Any
    ) -> Any:
        def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
            emit = Emitter(builder)
            p_at, p_stride, v_at, v_stride, count, out_at, out_stride, width = args
            ps = [emit.offset(p_at, ir.Constant(I64, r), p_stride) for r in range(rows)]
            mask = None if vectors else emit.mask(width)
            across = vectors or 1

            def step(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                scalars = [builder.load(emit.pointer(emit.offset(a, index, 4), FLOAT)) for a in ps]
                left = [emit.splat(scalar) for scalar in scalars]
                row = emit.offset(v_at, index, v_stride)
                emit.prefetch(emit.offset(row, ir.Constant(I64, ROWS_AHEAD), v_stride))
                results = list(sums)
                for j in range(across):
                    at = emit.offset(row, ir.Constant(I64, j), LANES * SIZES[kind])
                    right = (
                        emit.load(at, kind) if mask is None else emit.load_masked(at, kind, mask)
                    )
                    for r in range(rows):
                        results[r * across + j] = emit.fma(left[r], right, sums[r * across + j])
                return results

            places = []
            for i in range(rows * across):
                row = emit.offset(out_at, ir.Constant(I64, i // across), out_stride)
                places.append(emit.offset(row, ir.Constant(I64, i % across), LANES * 4))
            # A tail reads and writes whole vectors too: the output is scratch with room for them.
            sums = emit.loop(count, [emit.load(at, F32) for at in places], step)
            for at, value in zip(places, sums, strict=True):
                emit.store(value, at)
            return context.get_dummy_value()

        return signature("void", *["int64"] * 8), generate

    result: Intrinsic = function
    return result
