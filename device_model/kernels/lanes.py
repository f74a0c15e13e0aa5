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

from device_model.kernels.deferred import intrinsic, signature

LANES = 8
"""Partial sums of one reduction; part of the declared numerics, not of the machine."""

UNROLL = 4
"""Vectors per step of a streaming product: one cache line of 16-bit weights, two of float32."""
LINE = 64
AHEAD = 4096
"""How many bytes before its use a streaming product asks for a weight."""

F32, BF16 = 0, 1
"""Storage kinds of an operand."""

_I64, _I32, _I16, _FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.FloatType()
_V8 = ir.VectorType(_FLOAT, LANES)
_V8I32, _V8I16 = ir.VectorType(_I32, LANES), ir.VectorType(_I16, LANES)
_V8I1 = ir.VectorType(ir.IntType(1), LANES)
_SIZES = {F32: 4, BF16: 2}

Intrinsic = Callable[..., Any]


class _Emitter:
    """Shorthand over one builder; addresses are 64-bit integers until they are used."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.module: ir.Module = builder.module

    def _external(self, type: ir.FunctionType, name: str) -> ir.Function:
        known = self.module.globals.get(name)
        return ir.Function(self.module, type, name) if known is None else known

    def pointer(self, address: ir.Value, to: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address, to.as_pointer())

    def offset(self, address: ir.Value, index: ir.Value, stride: ir.Value | int) -> ir.Value:
        step = ir.Constant(_I64, stride) if isinstance(stride, int) else stride
        return self.builder.add(address, self.builder.mul(index, step))

    def zero(self) -> ir.Value:
        return ir.Constant(_V8, [0.0] * LANES)

    def load(self, address: ir.Value, kind: int) -> ir.Value:
        """Load eight elements as float32."""
        if kind == F32:
            return self.builder.load(self.pointer(address, _V8), align=4)
        return self._widen(self.builder.load(self.pointer(address, _V8I16), align=2))

    def load_masked(self, address: ir.Value, kind: int, mask: ir.Value) -> ir.Value:
        """Load the elements that the mask allows, zero elsewhere, touching no other byte."""
        if kind == F32:
            return self._masked(address, mask, _V8, self.zero())
        empty = ir.Constant(_V8I16, [0] * LANES)
        return self._widen(self._masked(address, mask, _V8I16, empty))

    def _masked(self, address: ir.Value, mask: ir.Value, vector: Any, other: ir.Value) -> ir.Value:
        suffix = "f32" if vector is _V8 else "i16"
        align = 4 if vector is _V8 else 2
        pointer = self.pointer(address, vector)
        kinds = [pointer.type, _I32, _V8I1, vector]
        function = self._external(ir.FunctionType(vector, kinds), f"llvm.masked.load.v8{suffix}.p0")
        return self.builder.call(function, [pointer, ir.Constant(_I32, align), mask, other])

    def _widen(self, halves: ir.Value) -> ir.Value:
        shift = ir.Constant(_V8I32, [16] * LANES)
        bits = self.builder.shl(self.builder.zext(halves, _V8I32), shift)
        return self.builder.bitcast(bits, _V8)

    def mask(self, count: ir.Value) -> ir.Value:
        """Return a mask of the first `count` lanes."""
        lanes = ir.Constant(_V8I32, list(range(LANES)))
        return self.builder.icmp_signed("<", lanes, self.splat(count, _V8I32, _I32))

    def splat(self, scalar: ir.Value, vector: Any = _V8, element: Any = _FLOAT) -> ir.Value:
        if element is _I32:
            scalar = self.builder.trunc(scalar, _I32)
        first = self.builder.insert_element(
            ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_I32, 0)
        )
        zeros = ir.Constant(_V8I32, [0] * LANES)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        function = self._external(ir.FunctionType(_V8, [_V8, _V8, _V8]), "llvm.fma.v8f32")
        return self.builder.call(function, [a, b, c])

    def tree(self, lanes: ir.Value) -> ir.Value:
        """Add eight lanes as a tree: 4 apart, 2 apart, 1 apart."""
        undefined = ir.Constant(_V8, ir.Undefined)
        for distance in (4, 2, 1):
            order = [(i + distance) % LANES for i in range(LANES)]
            moved = self.builder.shuffle_vector(lanes, undefined, ir.Constant(_V8I32, order))
            lanes = self.builder.fadd(lanes, moved)
        return self.builder.extract_element(lanes, ir.Constant(_I32, 0))

    def trees(self, a: ir.Value, b: ir.Value, c: ir.Value, d: ir.Value) -> ir.Value:
        """Return the sums of four times eight lanes, each added as by `tree`."""
        shuffled = self.builder.shuffle_vector

        def halves(left: ir.Value, right: ir.Value, low: list[int], high: list[int]) -> ir.Value:
            first, second = (
                shuffled(left, right, ir.Constant(ir.VectorType(_I32, len(order)), order))
                for order in (low, high)
            )
            return self.builder.fadd(first, second)

        low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
        one, two = halves(a, b, low, high), halves(c, d, low, high)
        both = halves(one, two, [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])
        return halves(both, both, [0, 4, 2, 6], [1, 5, 3, 7])

    def prefetch(self, address: ir.Value) -> None:
        """Ask for the cache line at an address, which may lie outside any allocation."""
        byte = ir.IntType(8).as_pointer()
        function = self._external(
            ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32]),
            "llvm.prefetch.p0",
        )
        hints = [ir.Constant(_I32, value) for value in (0, 3, 1)]
        self.builder.call(function, [self.pointer(address, ir.IntType(8)), *hints])

    def store(self, value: ir.Value, address: ir.Value) -> None:
        self.builder.store(value, self.pointer(address, value.type), align=4)

    def loop(
        self,
        count: ir.Value,
        initial: list[ir.Value],
        body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
    ) -> list[ir.Value]:
        """Repeat `body(index, carried)` `count` times and return what it carried last."""
        builder = self.builder
        entry = builder.block
        head = builder.append_basic_block("lanes.head")
        inside = builder.append_basic_block("lanes.body")
        done = builder.append_basic_block("lanes.done")
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(_I64)
        index.add_incoming(ir.Constant(_I64, 0), entry)
        carried = [builder.phi(value.type) for value in initial]
        for phi, value in zip(carried, initial, strict=True):
            phi.add_incoming(value, entry)
        builder.cbranch(builder.icmp_signed("<", index, count), inside, done)
        builder.position_at_end(inside)
        results = body(index, list(carried))
        following = builder.add(index, ir.Constant(_I64, 1))
        index.add_incoming(following, builder.block)
        for phi, value in zip(carried, results, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        return list(carried)


def _split(emit: _Emitter, count: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the whole vectors, the elements that they cover and the elements left over."""
    whole = emit.builder.ashr(count, ir.Constant(_I64, 3))
    covered = emit.builder.shl(whole, ir.Constant(_I64, 3))
    return whole, covered, emit.builder.sub(count, covered)


def dots(rows: int, columns: int, kind: int, *, streaming: bool = False) -> Intrinsic:
    """Make `f(x, x_stride, w, w_stride, count, out, out_stride)`: rows x columns dot products.

    `x` is float32, `w` of storage `kind`; strides are in bytes; `out` is float32.
    `streaming` fetches ahead for a `w` that comes from memory, whose rows continue in the next call's.
    """

    @intrinsic
    def function(typing: Any, x: Any, xs: Any, w: Any, ws: Any, n: Any, out: Any, outs: Any) -> Any:
        def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
            emit = _Emitter(builder)
            x_at, x_stride, w_at, w_stride, count, out_at, out_stride = args
            whole, covered, rest = _split(emit, count)
            xs = [emit.offset(x_at, ir.Constant(_I64, r), x_stride) for r in range(rows)]
            ws = [emit.offset(w_at, ir.Constant(_I64, c), w_stride) for c in range(columns)]

            def step(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                left = [emit.load(emit.offset(a, index, LANES * 4), F32) for a in xs]
                results = list(sums)
                for c, address in enumerate(ws):
                    right = emit.load(emit.offset(address, index, LANES * _SIZES[kind]), kind)
                    for r in range(rows):
                        at = r * columns + c
                        results[at] = emit.fma(left[r], right, sums[at])
                return results

            def line(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                first = builder.mul(index, ir.Constant(_I64, UNROLL))
                for address in ws:
                    here = emit.offset(address, first, LANES * _SIZES[kind])
                    for more in range(0, UNROLL * LANES * _SIZES[kind], LINE):
                        emit.prefetch(builder.add(here, ir.Constant(_I64, AHEAD + more)))
                for more in range(UNROLL):
                    sums = step(builder.add(first, ir.Constant(_I64, more)), sums)
                return sums

            def remainder(_: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                mask = emit.mask(rest)
                left = [emit.load_masked(emit.offset(a, covered, 4), F32, mask) for a in xs]
                right = [
                    emit.load_masked(emit.offset(a, covered, _SIZES[kind]), kind, mask) for a in ws
                ]
                return [
                    emit.fma(left[i // columns], right[i % columns], value)
                    for i, value in enumerate(sums)
                ]

            sums = [emit.zero()] * (rows * columns)
            if streaming:
                lines = builder.sdiv(whole, ir.Constant(_I64, UNROLL))
                sums = emit.loop(lines, sums, line)
                start = builder.mul(lines, ir.Constant(_I64, UNROLL))
                left_over = builder.sub(whole, start)
                sums = emit.loop(left_over, sums, lambda i, s: step(builder.add(start, i), s))
            else:
                sums = emit.loop(whole, sums, step)
            any_left = builder.zext(builder.icmp_signed(">", rest, ir.Constant(_I64, 0)), _I64)
            sums = emit.loop(any_left, sums, remainder)
            width = 4 if columns % 4 == 0 else 1
            for i in range(0, len(sums), width):
                row = emit.offset(out_at, ir.Constant(_I64, i // columns), out_stride)
                total = emit.trees(*sums[i : i + 4]) if width == 4 else emit.tree(sums[i])
                emit.store(total, emit.offset(row, ir.Constant(_I64, i % columns), 4))
            return context.get_dummy_value()

        return signature("void", *["int64"] * 7), generate

    result: Intrinsic = function
    return result


def weighted(rows: int, vectors: int, kind: int) -> Intrinsic:
    """Make `f(p, p_stride, v, v_stride, count, out, out_stride, width)`: sums of weighted rows.

    out[r, e] = sum over c, in order, of p[r, c] * v[c, e] for eight times `vectors` elements e; where `vectors` is 0,
    for the first `width` < 8 elements. `p` and `out` are float32, `v` of storage `kind`; strides are in bytes.
    """

    @intrinsic
    def function(
        typing: Any, p: Any, ps: Any, v: Any, vs: Any, n: Any, out: Any, outs: Any, width: Any
    ) -> Any:
        def generate(context: Any, builder: Any, types: Any, args: Any) -> Any:
            emit = _Emitter(builder)
            p_at, p_stride, v_at, v_stride, count, out_at, out_stride, width = args
            ps = [emit.offset(p_at, ir.Constant(_I64, r), p_stride) for r in range(rows)]
            mask = None if vectors else emit.mask(width)
            across = vectors or 1

            def step(index: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                scalars = [builder.load(emit.pointer(emit.offset(a, index, 4), _FLOAT)) for a in ps]
                left = [emit.splat(scalar) for scalar in scalars]
                row = emit.offset(v_at, index, v_stride)
                results = list(sums)
                for j in range(across):
                    at = emit.offset(row, ir.Constant(_I64, j), LANES * _SIZES[kind])
                    right = (
                        emit.load(at, kind) if mask is None else emit.load_masked(at, kind, mask)
                    )
                    for r in range(rows):
                        results[r * across + j] = emit.fma(left[r], right, sums[r * across + j])
                return results

            sums = emit.loop(count, [emit.zero()] * (rows * across), step)
            for i, value in enumerate(sums):
                row = emit.offset(out_at, ir.Constant(_I64, i // across), out_stride)
                at = emit.offset(row, ir.Constant(_I64, i % across), LANES * 4)
                # A tail writes whole vectors too: the output is scratch with room for them.
                emit.store(value, at)
            return context.get_dummy_value()

        return signature("void", *["int64"] * 8), generate

    result: Intrinsic = function
    return result
