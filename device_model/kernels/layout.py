"""Moving values: heads and back, columns, rotation by position, and the write to state.

Packed values make `heads` and `merge` a change of shape only. Rotary frequencies are in `rotary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from device_model.kernels.rotary import rotation
from device_model.machine import opcodes
from device_model.machine.deferred import compiled
from device_model.machine.elementary import (
    floats,
    octets,
    read,
    size_of,
    write,
)
from device_model.machine.elementary import integers as longs
from device_model.numbers.numerics import Array, Numerics, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call, integer, integers, word
from device_model.program.kernel import DTypes, Kernel, as_first
from device_model.program.places import Buffer, Fixed, Operation, StateRef
from dsl.graph import Attr

HALF, INTERLEAVED = 0, 1
PAIRINGS = {"half": HALF, "interleaved": INTERLEAVED}


def reference_heads(call: Call) -> tuple[Array, ...]:
    """Split the last axis into heads."""
    x = call.array(0)
    count = integer(call.attrs, "count")
    return (x.reshape(*x.shape[:-1], count, x.shape[-1] // count),)


def reference_merge(call: Call) -> tuple[Array, ...]:
    """Join heads into the last axis."""
    x = call.array(0)
    return (x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]),)


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


def reference_rope(call: Call) -> tuple[Array, ...]:
    """Rotate pairs of the first elements by position times frequency."""
    x, inverse = wide(call.array(0)), call.array(1)
    cos, sin = rotation(call.attrs, inverse, call.optional("long")).tables(call.batch)
    width = 2 * len(inverse)
    shape = (len(x), *[1] * (x.ndim - 2), len(inverse))
    cos, sin = cos.reshape(shape), sin.reshape(shape)
    paired = PAIRINGS[call.word("pairing", "half")] == INTERLEAVED
    even = slice(0, width, 2) if paired else slice(0, width // 2)
    odd = slice(1, width, 2) if paired else slice(width // 2, width)
    out = x.copy()
    out[..., even] = x[..., even] * cos - x[..., odd] * sin
    out[..., odd] = x[..., odd] * cos + x[..., even] * sin
    return (out,)


def reference_append(call: Call) -> tuple[Array, ...]:
    """Append to a state; the executor of the plan owns states and does it."""
    raise TypeError("append has no value without its state")


@compiled
def rope(
    x: int, kind: int, cos: int, sin: int, out: int, out_kind: int, tokens: int, heads: int,
    size: int, width: int, pairing: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Rotate this part's rows of x[tokens, heads, size]."""
    half = width // 2
    target_at = scratch + 4 * size
    source, target = floats(scratch, size), floats(target_at, size)
    rows = tokens * heads
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        table = row // heads * half
        c, s = floats(cos + 4 * table, half), floats(sin + 4 * table, half)
        read(x + row * size * size_of(kind), kind, scratch, size)
        if pairing == HALF:
            for i in range(half):
                target[i] = source[i] * c[i] - source[half + i] * s[i]
                target[half + i] = source[half + i] * c[i] + source[i] * s[i]
        else:
            for i in range(half):
                target[2 * i] = source[2 * i] * c[i] - source[2 * i + 1] * s[i]
                target[2 * i + 1] = source[2 * i + 1] * c[i] + source[2 * i] * s[i]
        for i in range(width, size):
            target[i] = source[i]
        write(target_at, out + row * size * size_of(out_kind), out_kind, size)


@compiled
def append(
    new: int, size: int, table: int, capacity: int, sequence: int, position: int, tokens: int,
    outer: int, inner: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy new[tokens, outer, inner] to its place in the states [outer, capacity, inner] of `size` bytes each."""
    owner, place = longs(sequence, tokens), longs(position, tokens)
    length = inner * size
    for row in range(tokens * part // parts, tokens * (part + 1) // parts):
        base = longs(table + 8 * owner[row], 1)[0]
        room = longs(capacity + 8 * owner[row], 1)[0]
        for o in range(outer):
            source = octets(new + (row * outer + o) * length, length)
            target = octets(base + (o * room + place[row]) * length, length)
            for i in range(length):
                target[i] = source[i]


@compiled
def columns(
    source: int, source_stride: int, target: int, target_stride: int, length: int, rows: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy `length` bytes of each of this part's rows."""
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        left, right = (
            octets(source + row * source_stride, length),
            octets(target + row * target_stride, length),
        )
        for i in range(length):
            right[i] = left[i]


@compiled
def select(
    source: int, index: int, target: int, length: int, rows: int, part: int, parts: int,
    scratch: int,
) -> None:  # fmt: skip
    """Move the rows that an index names, `length` bytes each, to the front; one thread does it in order.

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


def lower_rope(target: Builder, operation: Operation) -> bool:
    """Emit a rotation by tables that the session fills once per step."""
    x, frequencies = operation.inputs[:2]
    (out,) = operation.outputs
    if not (isinstance(x, Buffer) and isinstance(frequencies, Fixed) and isinstance(out, Buffer)):
        return False
    long = operation.operand("long")
    if not (long is None or isinstance(long, Fixed)):
        return False
    turned = rotation(operation.attrs, frequencies.array, None if long is None else long.array)
    half = len(frequencies.array)
    cos, sin = target.filled(turned.key, turned.tables, 4 * half, 4 * half)
    target.reserve(8 * x.width)
    target.emit(
        opcodes.ROPE, target.at(x), kind_of(x.dtype), cos, sin, target.at(out),
        kind_of(out.dtype), target.tokens(), x.elements // x.width, x.width, 2 * half,
        PAIRINGS[word(operation.attrs, "pairing", "half")],
    )  # fmt: skip
    return True


def lower_append(target: Builder, operation: Operation) -> bool:
    """Emit the write of the new rows to the state of their sequences."""
    state, new = operation.inputs
    if not (isinstance(state, StateRef) and isinstance(new, Buffer)) or state.dtype != new.dtype:
        return False
    target.emit(
        opcodes.APPEND, target.at(new), new.dtype.itemsize, target.at(state), target.room(state),
        target.sequence(), target.position(), target.tokens(), prod(state.outer), prod(state.inner),
    )  # fmt: skip
    return True


def _copy(
    target: Builder, source: Buffer, skip: int, into: Buffer, offset: int, width: int
) -> None:
    """Emit a copy of `width` columns; offsets count elements of the last axis."""
    size = source.dtype.itemsize
    target.emit(
        opcodes.COLUMNS, target.at(source, skip * size), source.width * size,
        target.at(into, offset * size), into.width * size, width * size,
        target.tokens(source.elements // source.width),
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


def _unchanged(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    return (inputs[0],)


HEADS = Kernel(reference_heads, result=_unchanged, view=True)
COLUMN = Kernel(reference_column, result=_unchanged, view=True)
MERGE = Kernel(reference_merge, result=_unchanged, view=True)
EXPERT_HEADS = Kernel(reference_expert_heads, result=_unchanged)
EXPERT_MERGE = Kernel(reference_expert_merge, result=_unchanged)
SPLIT = Kernel(reference_split, lower_split, _as_each)
SLICE = Kernel(reference_slice, lower_split, _unchanged)
CONCAT = Kernel(reference_concat, lower_concat)
ROPE = Kernel(reference_rope, lower_rope, as_first)
APPEND = Kernel(reference_append, lower_append, _unchanged)
REUSE = Kernel(reference_append, None, _unchanged, view=True)
