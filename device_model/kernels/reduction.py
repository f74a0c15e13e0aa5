# SPDX-License-Identifier: Apache-2.0
"""Sums and means over the last axis, in float32 in the declared order of `lanes`, rounded once."""

from __future__ import annotations

import numpy as np

from device_model.machine import lanes, order
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, read, size_of, write
from device_model.machine.vectors import F32
from device_model.numbers.numerics import Array, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call
from device_model.program.instruction import Instruction
from device_model.program.places import Buffer, Operation


def reference_sum(call: Call) -> tuple[Array, ...]:
    """Return the sum over the last axis, which stays as an axis of 1."""
    return (order.total(wide(call.array(0)))[..., None],)


def reference_mean(call: Call) -> tuple[Array, ...]:
    """Return the mean over the last axis, which stays as an axis of 1."""
    x = wide(call.array(0))
    return (order.total(x)[..., None] / np.float32(x.shape[-1]),)


_dot = lanes.dots(1, 1, F32)


@compiled
def reduce(
    x: int, kind: int, out: int, out_kind: int, rows: int, width: int, divided: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Add up this part's rows: x[rows, width] kind to out[rows, 1] out_kind, a mean where `divided`."""
    sums = floats(scratch, 16)
    row_at = scratch + 64
    ones_at = row_at + 4 * width
    ones = floats(ones_at, width)
    for i in range(width):
        ones[i] = np.float32(1.0)
    for index in range(rows * part // parts, rows * (part + 1) // parts):
        read(x + index * width * size_of(kind), kind, row_at, width)
        _dot(row_at, 0, ones_at, 0, width, scratch, 0)
        if divided:
            sums[0] = sums[0] / np.float32(width)
        write(scratch, out + index * size_of(out_kind), out_kind, 1)


REDUCE = Instruction.of("reduce", reduce)


def lower_reduction(target: Builder, operation: Operation) -> bool:
    """Emit a sum, or a mean, of each row."""
    (x,), (out,) = operation.inputs, operation.outputs
    if not (isinstance(x, Buffer) and isinstance(out, Buffer)):
        return False
    target.reserve(64 + 2 * 4 * x.width)
    target.emit(
        REDUCE, x=target.at(x), kind=kind_of(x.dtype), out=target.at(out),
        out_kind=kind_of(out.dtype), rows=target.tokens(x.elements // x.width), width=x.width,
        divided=int(operation.op == "mean"),
    )  # fmt: skip
    return True
