# SPDX-License-Identifier: Apache-2.0
"""Positions of tokens, their sinusoids, the slopes of biases by distance, scales by position, and rotation.

Each uses a table per token that the session fills once per step, in float64 and rounded once. Rotary frequencies and
their tables are in `rotary`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from device_model.kernels.layout import COLUMNS
from device_model.kernels.rotary import reference_rope_frequencies, renewal, rotation
from device_model.machine.deferred import compiled
from device_model.machine.elementary import CHUNK, floats, read, size_of, write
from device_model.numbers.numerics import F32, F64, Array, Numerics, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Batch, Call, integer, number, word
from device_model.program.instruction import Instruction
from device_model.program.kernel import DTypes, Kernel, as_first
from device_model.program.places import Buffer, Fixed, Operation
from dsl.graph import Attr

HALF, INTERLEAVED = 0, 1
PAIRINGS = {"half": HALF, "interleaved": INTERLEAVED}
I32 = np.dtype(np.int32)
Attrs = Mapping[str, Attr]


def positions(attrs: Attrs, batch: Batch) -> Array:
    """Return each token's position as int32 [T]."""
    return (batch.positions + integer(attrs, "offset", 0)).astype(np.int32)


def sinusoids(attrs: Attrs, batch: Batch) -> Array:
    """Return each token's sines and cosines as float32 [T, width]."""
    width, theta = integer(attrs, "width"), number(attrs, "theta", 10000.0)
    half = width // 2
    steps = half - 1 if attrs.get("ends", False) else half
    place = batch.positions.astype(np.float64)[:, None] + integer(attrs, "offset", 0)
    angle = place * theta ** (-np.arange(half) / steps)
    sin, cos = np.sin(angle), np.cos(angle)
    match word(attrs, "order", "sin_cos"):
        case "sin_cos":
            joined = np.concatenate([sin, cos], axis=-1)
        case "cos_sin":
            joined = np.concatenate([cos, sin], axis=-1)
        case _:
            joined = np.stack([sin, cos], axis=-1).reshape(len(angle), width)
    return joined.astype(np.float32)


def scales(attrs: Attrs, batch: Batch) -> Array:
    """Return each token's factor as float32 [T]."""
    place = batch.positions.astype(np.float64) + integer(attrs, "offset", 0)
    length, gain = number(attrs, "length", 1.0), number(attrs, "gain", 0.0)
    match word(attrs, "kind", "log"):
        case "power":
            factor = (1.0 + place / length) ** gain
        case "beyond":
            factor = 1.0 + gain * np.log(np.maximum(place / length, 1.0))
        case _:
            factor = 1.0 + gain * np.log1p(np.floor(place / length))
    return np.asarray(factor).astype(np.float32)


def slopes(attrs: Attrs) -> Array:
    """Return the slope of each head as float32."""
    count, bias_max = integer(attrs, "count"), number(attrs, "bias_max", 8.0)
    power = 1 << (count.bit_length() - 1)
    head = np.arange(count, dtype=np.float64)
    regular, rest = (head + 1) / power, (2 * (head - power) + 1) / (2 * power)
    steps = np.where(head < power, regular, rest)
    return np.asarray(number(attrs, "scale", 1.0) * 2.0 ** (-bias_max * steps)).astype(np.float32)


def reference_alibi_slopes(call: Call) -> tuple[Array, ...]:
    """Compute the slopes."""
    return (slopes(call.attrs),)


def reference_position_scale(call: Call) -> tuple[Array, ...]:
    """Multiply each token's values by its factor."""
    x = wide(call.array(0))
    return (x * scales(call.attrs, call.batch).reshape(-1, *[1] * (x.ndim - 1)),)


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


@compiled
def scale_rows(
    x: int, kind: int, factor: int, out: int, out_kind: int, rows: int, width: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Multiply this part of x[rows, width] kind by factor[rows] float32 into out[rows, width] out_kind."""
    by, staged = floats(factor, rows), floats(scratch, CHUNK)
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        for start in range(0, width, CHUNK):
            size = min(CHUNK, width - start)
            at = row * width + start
            read(x + at * size_of(kind), kind, scratch, size)
            for i in range(size):
                staged[i] = staged[i] * by[row]
            write(scratch, out + at * size_of(out_kind), out_kind, size)


SCALE_ROWS = Instruction.of("scale_rows", scale_rows)


@compiled
def rope(
    x: int, kind: int, cos: int, sin: int, out: int, out_kind: int, tokens: int, heads: int,
    size: int, width: int, pairing: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Rotate this part of x[tokens, heads, size] by cos and sin[tokens, width / 2] float32 into out, of x's shape."""
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


ROPE = Instruction.of("rope", rope)


def lower_position_scale(target: Builder, operation: Operation) -> bool:
    """Emit the product with a table of factors."""
    (x,), (out,) = operation.inputs, operation.outputs
    if not (isinstance(x, Buffer) and isinstance(out, Buffer)):
        return False
    (factor,) = target.filled(_key(operation), lambda batch: (scales(operation.attrs, batch),), 4)
    target.reserve(4 * CHUNK)
    target.emit(
        SCALE_ROWS, x=target.at(x), kind=kind_of(x.dtype), factor=factor, out=target.at(out),
        out_kind=kind_of(out.dtype), rows=target.tokens(), width=x.elements,
    )  # fmt: skip
    return True


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
        ROPE, x=target.at(x), kind=kind_of(x.dtype), cos=cos, sin=sin, out=target.at(out),
        out_kind=kind_of(out.dtype), tokens=target.tokens(), heads=x.elements // x.width,
        size=x.width, width=2 * half, pairing=PAIRINGS[word(operation.attrs, "pairing", "half")],
    )  # fmt: skip
    return True


def _key(operation: Operation) -> tuple[object, ...]:
    return (operation.op, *sorted((name, repr(value)) for name, value in operation.attrs.items()))


def _tabulated(table: Callable[[Attrs, Batch], Array], result: np.dtype[np.generic]) -> Kernel:
    """Make the kernel of an operation whose result is a table of the step."""

    def reference(call: Call) -> tuple[Array, ...]:
        return (table(call.attrs, call.batch),)

    def lower(target: Builder, operation: Operation) -> bool:
        (out,) = operation.outputs
        if not isinstance(out, Buffer):
            return False
        size = out.elements * out.dtype.itemsize
        (source,) = target.filled(
            _key(operation), lambda batch: (table(operation.attrs, batch),), size
        )
        target.emit(
            COLUMNS, source=source, source_stride=size, target=target.at(out),
            target_stride=size, length=size, rows=target.tokens(),
        )  # fmt: skip
        return True

    def dtypes(inputs: DTypes, attrs: Attrs, numerics: Numerics) -> DTypes:
        return (result,)

    return Kernel(reference, lower, dtypes)


def _f32(inputs: DTypes, attrs: Attrs, numerics: Numerics) -> DTypes:
    return (F32,)


def _f64(inputs: DTypes, attrs: Attrs, numerics: Numerics) -> DTypes:
    return (F64,)


KERNELS: dict[str, Kernel] = {
    "positions": _tabulated(positions, I32),
    "sinusoids": _tabulated(sinusoids, F32),
    "alibi_slopes": Kernel(reference_alibi_slopes, result=_f32),
    "position_scale": Kernel(reference_position_scale, lower_position_scale, as_first),
    "rope_frequencies": Kernel(reference_rope_frequencies, result=_f64),
    "rope": Kernel(reference_rope, lower_rope, as_first, renewal=renewal),
}
