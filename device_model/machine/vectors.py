# SPDX-License-Identifier: Apache-2.0
"""Vectors of eight float32 lanes as LLVM instructions: loads of any storage kind, sums, loops.

Operands are addresses. Nothing here is a reduction by itself, and no fast-math flag is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

LANES = 8
"""Partial sums of one reduction; part of the declared numerics, not of the machine."""

F32, BF16, F16 = 0, 1, 2
"""Storage kinds of an operand."""

I64, I32, I16, FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.FloatType()
V8 = ir.VectorType(FLOAT, LANES)
V8I32, V8I16 = ir.VectorType(I32, LANES), ir.VectorType(I16, LANES)
V8HALF = ir.VectorType(ir.HalfType(), LANES)
V8I1 = ir.VectorType(ir.IntType(1), LANES)
SIZES = {F32: 4, BF16: 2, F16: 2}


class Emitter:
    """Shorthand over one builder; addresses are 64-bit integers until they are used."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.module: ir.Module = builder.module

    def external(self, type: ir.FunctionType, name: str) -> ir.Function:
        """Return a function of LLVM's, declared once."""
        known = self.module.globals.get(name)
        return ir.Function(self.module, type, name) if known is None else known

    def pointer(self, address: ir.Value, to: ir.Type) -> ir.Value:
        """Return an address as a pointer to a type."""
        return self.builder.inttoptr(address, to.as_pointer())

    def offset(self, address: ir.Value, index: ir.Value, stride: ir.Value | int) -> ir.Value:
        """Return the address of an element `stride` bytes from the next."""
        step = ir.Constant(I64, stride) if isinstance(stride, int) else stride
        return self.builder.add(address, self.builder.mul(index, step))

    def zero(self) -> ir.Value:
        """Return eight zeros."""
        return ir.Constant(V8, [0.0] * LANES)

    def load(self, address: ir.Value, kind: int) -> ir.Value:
        """Load eight elements as float32."""
        if kind == F32:
            return self.builder.load(self.pointer(address, V8), align=4)
        return self._widen(self.builder.load(self.pointer(address, V8I16), align=2), kind)

    def load_masked(self, address: ir.Value, kind: int, mask: ir.Value) -> ir.Value:
        """Load the elements that the mask allows, zero elsewhere, touching no other byte."""
        if kind == F32:
            return self._masked(address, mask, V8, self.zero())
        empty = ir.Constant(V8I16, [0] * LANES)
        return self._widen(self._masked(address, mask, V8I16, empty), kind)

    def _masked(self, address: ir.Value, mask: ir.Value, vector: Any, other: ir.Value) -> ir.Value:
        suffix = "f32" if vector is V8 else "i16"
        align = 4 if vector is V8 else 2
        pointer = self.pointer(address, vector)
        kinds = [pointer.type, I32, V8I1, vector]
        function = self.external(ir.FunctionType(vector, kinds), f"llvm.masked.load.v8{suffix}.p0")
        return self.builder.call(function, [pointer, ir.Constant(I32, align), mask, other])

    def first(self, pointer: ir.Value, count: ir.Value, vector: Any) -> ir.Value:
        """Load the first `count` 16-bit elements of a vector, zero elsewhere, touching no other byte."""
        size = vector.count
        lanes = ir.Constant(ir.VectorType(I16, size), list(range(size)))
        start = ir.Constant(lanes.type, ir.Undefined)
        one = self.builder.insert_element(
            start, self.builder.trunc(count, I16), ir.Constant(I32, 0)
        )
        zeros = ir.Constant(ir.VectorType(I32, size), [0] * size)
        limit = self.builder.shuffle_vector(one, start, zeros)
        mask = self.builder.icmp_signed("<", lanes, limit)
        kinds = [pointer.type, I32, mask.type, vector]
        name = f"llvm.masked.load.v{size}i16.p0"
        function = self.external(ir.FunctionType(vector, kinds), name)
        empty = ir.Constant(vector, [0] * size)
        return self.builder.call(function, [pointer, ir.Constant(I32, 2), mask, empty])

    def _widen(self, halves: ir.Value, kind: int) -> ir.Value:
        if kind == F16:
            return self.builder.fpext(self.builder.bitcast(halves, V8HALF), V8)
        shift = ir.Constant(V8I32, [16] * LANES)
        bits = self.builder.shl(self.builder.zext(halves, V8I32), shift)
        return self.builder.bitcast(bits, V8)

    def mask(self, count: ir.Value) -> ir.Value:
        """Return a mask of the first `count` lanes."""
        lanes = ir.Constant(V8I32, list(range(LANES)))
        return self.builder.icmp_signed("<", lanes, self.splat(count, V8I32, I32))

    def splat(self, scalar: ir.Value, vector: Any = V8, element: Any = FLOAT) -> ir.Value:
        """Return a scalar in every lane."""
        if element is I32:
            scalar = self.builder.trunc(scalar, I32)
        first = self.builder.insert_element(
            ir.Constant(vector, ir.Undefined), scalar, ir.Constant(I32, 0)
        )
        zeros = ir.Constant(V8I32, [0] * LANES)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """Return a * b + c, rounded once."""
        function = self.external(ir.FunctionType(V8, [V8, V8, V8]), "llvm.fma.v8f32")
        return self.builder.call(function, [a, b, c])

    def tree(self, lanes: ir.Value) -> ir.Value:
        """Add eight lanes as a tree: 4 apart, 2 apart, 1 apart."""
        undefined = ir.Constant(V8, ir.Undefined)
        for distance in (4, 2, 1):
            order = [(i + distance) % LANES for i in range(LANES)]
            moved = self.builder.shuffle_vector(lanes, undefined, ir.Constant(V8I32, order))
            lanes = self.builder.fadd(lanes, moved)
        return self.builder.extract_element(lanes, ir.Constant(I32, 0))

    def trees(self, a: ir.Value, b: ir.Value, c: ir.Value, d: ir.Value) -> ir.Value:
        """Return the sums of four times eight lanes, each added as by `tree`."""
        shuffled = self.builder.shuffle_vector

        def halves(left: ir.Value, right: ir.Value, low: list[int], high: list[int]) -> ir.Value:
            first, second = (
                shuffled(left, right, ir.Constant(ir.VectorType(I32, len(order)), order))
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
        function = self.external(
            ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32]),
            "llvm.prefetch.p0",
        )
        hints = [ir.Constant(I32, value) for value in (0, 3, 1)]
        self.builder.call(function, [self.pointer(address, ir.IntType(8)), *hints])

    def store(self, value: ir.Value, address: ir.Value) -> None:
        """Store a value at an address."""
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
        index = builder.phi(I64)
        index.add_incoming(ir.Constant(I64, 0), entry)
        carried = [builder.phi(value.type) for value in initial]
        for phi, value in zip(carried, initial, strict=True):
            phi.add_incoming(value, entry)
        builder.cbranch(builder.icmp_signed("<", index, count), inside, done)
        builder.position_at_end(inside)
        results = body(index, list(carried))
        following = builder.add(index, ir.Constant(I64, 1))
        index.add_incoming(following, builder.block)
        for phi, value in zip(carried, results, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        return list(carried)


def split(emit: Emitter, count: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the whole vectors, the elements that they cover and the elements left over."""
    whole = emit.builder.ashr(count, ir.Constant(I64, 3))
    covered = emit.builder.shl(whole, ir.Constant(I64, 3))
    return whole, covered, emit.builder.sub(count, covered)
