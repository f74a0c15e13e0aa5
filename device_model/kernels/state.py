# SPDX-License-Identifier: Apache-2.0
"""Operations over states of fixed size, `read`, `write`, `causal_conv`, `linear_attention`, and `reuse` of any.

Tokens are taken one by one, and a product is rounded before it is added, so that a chunk has the bits of the whole and
plain numpy those of compiled code. The recurrence is rounded to its state's format after every token, because that is
what the next step would read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from device_model.machine import elementary as c
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, integers, read, size_of, write
from device_model.machine.vectors import F32
from device_model.numbers.numerics import Array, Numerics, cast, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call
from device_model.program.instruction import Instruction
from device_model.program.kernel import DTypes, Kernel, unchanged
from device_model.program.places import Buffer, Fixed, Operation, StateRef
from dsl.graph import Attr

CHUNK = 256
"""Channels that are convolved at a time."""


def reference_read(call: Call) -> tuple[Array, ...]:
    """Return the state of every sequence as the previous step left it."""
    return (np.stack(call.state(0)),)


def reference_write(call: Call) -> tuple[Array, ...]:
    """Replace the state of every sequence that takes part in the step."""
    new = call.array(1)
    for sequence in _present(call):
        kept = call.state(0)[sequence]
        kept[...] = cast(new[sequence], kept.dtype)
    return ()


def reference_reuse(call: Call) -> tuple[Array, ...]:
    """Use another layer's state; the executor of the plan owns states and does it."""
    raise TypeError("reuse has no value without its state")


def _present(call: Call) -> list[int]:
    """Return the sequences that have new tokens."""
    return [int(b) for b in np.flatnonzero(np.diff(call.batch.starts))]


def _slices(call: Call) -> list[tuple[int, slice]]:
    """Return each sequence that has new tokens, with their rows."""
    starts = call.batch.starts
    return [(b, slice(int(starts[b]), int(starts[b + 1]))) for b in _present(call)]


def reference_causal_conv(call: Call) -> tuple[Array, ...]:
    """Convolve over each sequence's kept and new tokens, tap by tap."""
    x, taps = wide(call.array(1)), wide(call.array(2))
    width = taps.shape[1]
    out = np.empty_like(x)
    for sequence, rows in _slices(call):
        kept = call.state(0)[sequence]
        line = np.concatenate([wide(kept).T, x[rows]])
        count = rows.stop - rows.start
        total = line[:count] * taps[:, 0]
        for j in range(1, width):
            total = total + line[j : j + count] * taps[:, j]
        out[rows] = total
        kept[...] = cast(np.ascontiguousarray(line[count:].T), kept.dtype)
    return (out,)


def reference_linear_attention(call: Call) -> tuple[Array, ...]:
    """Run the recurrence token by token."""
    q, k, v = (wide(call.array(i)) for i in (1, 2, 3))
    decay = np.exp(wide(call.array(4)).astype(np.float64)).astype(np.float32)
    out = np.empty((*q.shape[:2], v.shape[2]), np.float32)
    for sequence, rows in _slices(call):
        kept = call.state(0)[sequence]
        memory = wide(kept)
        for token in range(rows.start, rows.stop):
            fresh = k[token][:, :, None] * v[token][:, None, :]
            memory = wide(cast(decay[token][:, None, None] * memory + fresh, kept.dtype))
            total = q[token][:, 0, None] * memory[:, 0]
            for e in range(1, q.shape[2]):
                total = total + q[token][:, e, None] * memory[:, e]
            out[token] = total
        kept[...] = cast(memory, kept.dtype)
    return (out,)


@compiled
def _run_end(owner: Any, first: int, tokens: int) -> int:
    """Return the end of the tokens that belong to the sequence of the first."""
    last = first
    while last < tokens and owner[last] == owner[first]:
        last += 1
    return last


@compiled
def causal_conv(
    x: int, kind: int, w: int, w_kind: int, state: int, state_kind: int, out: int, out_kind: int,
    sequence: int, tokens: int, channels: int, width: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Convolve this part's channels: x[tokens, channels] with w[channels, width] into out[tokens, channels].

    The state of a sequence is [channels, width - 1]: the tokens before the new ones.
    """
    owner = integers(sequence, tokens)
    taps = floats(scratch, width * CHUNK)
    line_at = scratch + 4 * width * CHUNK
    line = floats(line_at, width * CHUNK)
    total_at = line_at + 4 * width * CHUNK
    total = floats(total_at, CHUNK)
    item_at = total_at + 4 * CHUNK
    operation = floats(item_at, 1)
    kept = width - 1
    begin, end = channels * part // parts, channels * (part + 1) // parts
    while begin < end:
        size = min(CHUNK, end - begin)
        for i in range(size):
            for j in range(width):
                read(w + ((begin + i) * width + j) * size_of(w_kind), w_kind, item_at, 1)
                taps[j * CHUNK + i] = operation[0]
        first = 0
        while first < tokens:
            last = _run_end(owner, first, tokens)
            base = integers(state + 8 * owner[first], 1)[0]
            for i in range(size):
                for j in range(kept):
                    at = base + ((begin + i) * kept + j) * size_of(state_kind)
                    read(at, state_kind, item_at, 1)
                    line[(j + 1) * CHUNK + i] = operation[0]
            for token in range(first, last):
                for i in range(kept * CHUNK):
                    line[i] = line[i + CHUNK]
                at = x + (token * channels + begin) * size_of(kind)
                read(at, kind, line_at + 4 * kept * CHUNK, size)
                for i in range(size):
                    total[i] = line[i] * taps[i]
                for j in range(1, width):
                    for i in range(size):
                        total[i] = total[i] + line[j * CHUNK + i] * taps[j * CHUNK + i]
                write(
                    total_at, out + (token * channels + begin) * size_of(out_kind), out_kind, size
                )
            for i in range(size):
                for j in range(kept):
                    at = base + ((begin + i) * kept + j) * size_of(state_kind)
                    write(line_at + 4 * ((j + 1) * CHUNK + i), at, state_kind, 1)
            first = last
        begin += size


CAUSAL_CONV = Instruction.of("causal_conv", causal_conv)


@compiled
def linear_attention(
    state: int, state_kind: int, q: int, k: int, v: int, kind: int, decay: int, decay_kind: int,
    out: int, out_kind: int, sequence: int, tokens: int, heads: int, size: int, v_size: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Run the recurrence of this part's heads over all tokens.

    q and k[tokens, heads, size], v[tokens, heads, v_size] kind, decay[tokens, heads]; out[tokens, heads, v_size]; the
    state of a sequence is [heads, size, v_size].
    """
    owner = integers(sequence, tokens)
    memory = floats(scratch, size * v_size)
    q_at = scratch + 4 * size * v_size
    k_at, v_at = q_at + 4 * size, q_at + 8 * size
    y_at = v_at + 4 * v_size
    item_at = y_at + 4 * v_size
    q_row, k_row, v_row = floats(q_at, size), floats(k_at, size), floats(v_at, v_size)
    y, operation = floats(y_at, v_size), floats(item_at, 1)
    for head in range(heads * part // parts, heads * (part + 1) // parts):
        first = 0
        while first < tokens:
            last = _run_end(owner, first, tokens)
            base = integers(state + 8 * owner[first], 1)[0]
            base += head * size * v_size * size_of(state_kind)
            read(base, state_kind, scratch, size * v_size)
            for token in range(first, last):
                row = token * heads + head
                read(q + row * size * size_of(kind), kind, q_at, size)
                read(k + row * size * size_of(kind), kind, k_at, size)
                read(v + row * v_size * size_of(kind), kind, v_at, v_size)
                read(decay + row * size_of(decay_kind), decay_kind, item_at, 1)
                kept = c.exp(operation[0])
                for e in range(size):
                    for i in range(v_size):
                        at = e * v_size + i
                        memory[at] = kept * memory[at] + k_row[e] * v_row[i]
                if state_kind != F32:
                    write(scratch, base, state_kind, size * v_size)
                    read(base, state_kind, scratch, size * v_size)
                for i in range(v_size):
                    y[i] = q_row[0] * memory[i]
                for e in range(1, size):
                    for i in range(v_size):
                        y[i] = y[i] + q_row[e] * memory[e * v_size + i]
                write(y_at, out + row * v_size * size_of(out_kind), out_kind, v_size)
            write(scratch, base, state_kind, size * v_size)
            first = last


LINEAR_ATTENTION = Instruction.of("linear_attention", linear_attention)


def lower_causal_conv(target: Builder, operation: Operation) -> bool:
    """Emit a convolution with a weight."""
    state, x, w = operation.inputs
    (out,) = operation.outputs
    if not (isinstance(state, StateRef) and isinstance(x, Buffer) and isinstance(w, Fixed)):
        return False
    if not isinstance(out, Buffer):
        return False
    channels, width = w.array.shape
    target.reserve(4 * CHUNK * (2 * width + 1) + 64)
    target.emit(
        CAUSAL_CONV, x=target.at(x), kind=kind_of(x.dtype), w=target.at(w),
        w_kind=kind_of(w.array.dtype), state=target.at(state), state_kind=kind_of(state.dtype),
        out=target.at(out), out_kind=kind_of(out.dtype), sequence=target.sequence(),
        tokens=target.tokens(), channels=channels, width=width,
    )  # fmt: skip
    return True


def lower_linear_attention(target: Builder, operation: Operation) -> bool:
    """Emit the recurrence over values per token."""
    state, *values = operation.inputs
    (out,) = operation.outputs
    q, k, v, decay = (place if isinstance(place, Buffer) else None for place in values)
    if not isinstance(state, StateRef) or not isinstance(out, Buffer):
        return False
    if q is None or k is None or v is None or decay is None or not q.dtype == k.dtype == v.dtype:
        return False
    heads, size, v_size = state.outer
    target.reserve(4 * (size * v_size + 2 * size + 2 * v_size) + 64)
    target.emit(
        LINEAR_ATTENTION, state=target.at(state), state_kind=kind_of(state.dtype),
        q=target.at(q), k=target.at(k), v=target.at(v), kind=kind_of(q.dtype),
        decay=target.at(decay), decay_kind=kind_of(decay.dtype), out=target.at(out),
        out_kind=kind_of(out.dtype), sequence=target.sequence(), tokens=target.tokens(),
        heads=heads, size=size, v_size=v_size,
    )  # fmt: skip
    return True


def _as_second(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    return (numerics.promote(inputs[1:2]),)


KERNELS: dict[str, Kernel] = {
    "read": Kernel(reference_read, result=unchanged),
    "write": Kernel(reference_write, result=_as_second),
    "reuse": Kernel(reference_reuse, result=unchanged, view=True),
    "causal_conv": Kernel(reference_causal_conv, lower_causal_conv, _as_second),
    "linear_attention": Kernel(reference_linear_attention, lower_linear_attention, _as_second),
}
