# SPDX-License-Identifier: Apache-2.0
"""Moving values: columns, pieces, and the heads of experts.

Nothing here computes. Heads and the write to state are in `attention`, rotation is in `position`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from device_model.machine.deferred import compiled
from device_model.machine.elementary import integers as longs
from device_model.machine.elementary import octets
from device_model.numbers.numerics import Array, Numerics
from device_model.program.builder import Builder
from device_model.program.call import Call, integer, integers
from device_model.program.instruction import Instruction
from device_model.program.kernel import DTypes, Kernel, unchanged
from device_model.program.places import Buffer, Operation
from dsl.graph import Attr


def reference_column(call: Call) -> tuple[Array, ...]:
    """Add a last axis of 1."""
    return (call.array(0)[..., None],)


def reference_expert_heads(call: Call) -> tuple[Array, ...]:
    """Make heads of what each expert gave, the heads of one key side by side."""
    x, count = call.array(0), integer(call.attrs, "count")
    split = x.reshape(*x.shape[:-1], count, -1).swapaxes(-3, -2)
    return (np.ascontiguousarray(split).reshape(len(x), -1, split.shape[-1]),)


def reference_expert_merge(call: Call) -> tuple[Array, ...]:
    """Give each expert back its heads."""
    x, chosen = call.array(0), integer(call.attrs, "chosen")
    split = x.reshape(len(x), -1, chosen, x.shape[-1]).swapaxes(-3, -2)
    return (np.ascontiguousarray(split).reshape(len(x), chosen, -1),)


def reference_split(call: Call) -> tuple[Array, ...]:
    """Cut the last axis into pieces."""
    ends = np.cumsum(integers(call.attrs, "sizes"))
    return tuple(np.split(call.array(0), ends[:-1], axis=-1))


def reference_slice(call: Call) -> tuple[Array, ...]:
    """Take a range of the last axis."""
    start, stop = integer(call.attrs, "start"), integer(call.attrs, "stop")
    return (call.array(0)[..., start:stop],)


def reference_concat(call: Call) -> tuple[Array, ...]:
    """Join values along the last axis."""
    return (np.concatenate([call.array(i) for i in range(len(call.inputs))], axis=-1),)


@compiled
def columns(
    source: int, source_stride: int, target: int, target_stride: int, length: int, rows: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy this part's rows: source[rows, source_stride] to target[rows, target_stride], `length` bytes each."""
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        left, right = (
            octets(source + row * source_stride, length),
            octets(target + row * target_stride, length),
        )
        for i in range(length):
            right[i] = left[i]


COLUMNS = Instruction.of("columns", columns)


@compiled
def select(
    source: int, index: int, target: int, length: int, rows: int, part: int, parts: int,
    scratch: int,
) -> None:  # fmt: skip
    """Move source[index[rows]] to target[rows], `length` bytes each; one thread does it in order.

    A row never moves up, so that the target may overlap the source.
    """
    wanted = longs(index, rows)
    for row in range(rows if part == 0 else 0):
        if source + wanted[row] * length == target + row * length:
            continue
        left, right = (
            octets(source + wanted[row] * length, length),
            octets(target + row * length, length),
        )
        for i in range(length):
            right[i] = left[i]


SELECT = Instruction.of("select", select)


def _copy(
    target: Builder, source: Buffer, skip: int, into: Buffer, offset: int, width: int
) -> None:
    """Emit a copy of `width` columns; offsets count elements of the last axis."""
    size = source.dtype.itemsize
    target.emit(
        COLUMNS, source=target.at(source, skip * size), source_stride=source.width * size,
        target=target.at(into, offset * size), target_stride=into.width * size,
        length=width * size, rows=target.tokens(source.elements // source.width),
    )  # fmt: skip


def lower_split(target: Builder, operation: Operation) -> bool:
    """Emit one copy per piece."""
    (source,) = operation.inputs
    pieces = [place for place in operation.outputs if isinstance(place, Buffer)]
    if not isinstance(source, Buffer):
        return False
    skip = integer(operation.attrs, "start", 0) if operation.op == "slice" else 0
    for piece in pieces:
        _copy(target, source, skip, piece, 0, piece.width)
        skip += piece.width
    return True


def lower_concat(target: Builder, operation: Operation) -> bool:
    """Emit one copy per operand; operands of other formats than the result's are left to the reference."""
    (out,) = operation.outputs
    sources = [place for place in operation.inputs if isinstance(place, Buffer)]
    if not isinstance(out, Buffer) or len(sources) != len(operation.inputs):
        return False
    if any(source.dtype != out.dtype for source in sources):
        return False
    offset = 0
    for source in sources:
        _copy(target, source, 0, out, offset, source.width)
        offset += source.width
    return True


def _as_each(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    return (inputs[0],) * len(integers(attrs, "sizes"))


KERNELS: dict[str, Kernel] = {
    "split": Kernel(reference_split, lower_split, _as_each),
    "slice": Kernel(reference_slice, lower_split, unchanged),
    "concat": Kernel(reference_concat, lower_concat),
    "column": Kernel(reference_column, result=unchanged, view=True),
    "expert_heads": Kernel(reference_expert_heads, result=unchanged),
    "expert_merge": Kernel(reference_expert_merge, result=unchanged),
}
