# SPDX-License-Identifier: Apache-2.0
"""Heads, the write to a state, and attention over it: one fused operation, float32 inside and rounded once.

Packed values make `heads` and `merge` a change of shape only.

For one query the order is declared: scores by `lanes`, the largest score, exponentials, their sum in eight lanes by
distance from the first visible key, then values added key by key, and one division. It depends on positions alone, so
chunked, batched and token-by-token runs agree bit for bit. Paging is not here.
"""

from __future__ import annotations

from math import prod

import numpy as np

from device_model.machine import order
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, integers, octets, read, size_of, write
from device_model.machine.vectors import LANES
from device_model.machine.weighing import score, softmax, weigh
from device_model.numbers.numerics import F32 as F32_TYPE
from device_model.numbers.numerics import Array, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call, integer, number, word
from device_model.program.instruction import Argument, Instruction
from device_model.program.kernel import Kernel, as_first, unchanged
from device_model.program.places import Buffer, Fixed, Operation, StateRef

GROUP = 3
"""Query heads of one key head that are computed together."""
DEALT = 8
"""Pairs of token and key head for each thread, from which on a pair is computed by one thread."""


def reference_heads(call: Call) -> tuple[Array, ...]:
    """Split the last axis into heads."""
    x = call.array(0)
    count = integer(call.attrs, "count")
    return (x.reshape(*x.shape[:-1], count, x.shape[-1] // count),)


def reference_merge(call: Call) -> tuple[Array, ...]:
    """Join heads into the last axis."""
    x = call.array(0)
    return (x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]),)


def reference_append(call: Call) -> tuple[Array, ...]:
    """Append to a state; the executor of the plan owns states and does it."""
    raise TypeError("append has no value without its state")


def reference_attention(call: Call) -> tuple[Array, ...]:
    """Attend token by token, head by head, in the declared order."""
    q = wide(call.array(0))
    keys, values = _contexts(call, 1), _contexts(call, 2)
    tokens, heads = q.shape[:2]
    sinks, slopes = call.optional("sinks"), call.optional("slopes")
    biases = call.optional("bias")
    out = np.empty((tokens, heads, values[0].shape[-1] if values else 0), np.float32)
    for token in range(tokens):
        sequence = int(call.batch.slots[token])
        kept_k, kept_v = wide(keys[sequence]), wide(values[sequence])
        dropped = int(call.batch.lengths[sequence]) - kept_k.shape[1]
        seen = _visible(call, token)
        distance = np.arange(*seen) - call.batch.positions[token]
        first, last = (place - dropped for place in seen)
        group = heads // len(kept_k)
        for head in range(heads):
            k, v = kept_k[head // group, first:last], kept_v[head // group, first:last]
            sink = None if sinks is None else wide(sinks)[head]
            near = [] if slopes is None else [slopes[head] * distance.astype(np.float32)]
            near += [] if biases is None else [_by_distance(wide(biases[token, head]), -distance)]
            out[token, head] = _attend(call, q[token, head], k, v, sink, near)
    return (out,)


def _contexts(call: Call, index: int) -> tuple[Array, ...]:
    """Return the keys or values per sequence, also where they are not kept between steps."""
    if isinstance(call.inputs[index], tuple):
        return call.state(index)
    value = call.array(index)
    starts = call.batch.starts
    return tuple(value[starts[b] : starts[b + 1]].swapaxes(0, 1) for b in range(len(starts) - 1))


def _visible(call: Call, token: int) -> tuple[int, int]:
    """Return the positions that a token sees."""
    position = int(call.batch.positions[token])
    length = int(call.batch.lengths[call.batch.slots[token]])
    last = position + 1 if call.word("mask", "causal") == "causal" else length
    window, chunk = integer(call.attrs, "window", 0), integer(call.attrs, "chunk", 0)
    first = max(0, position + 1 - window) if window else 0
    if not chunk:
        return first, last
    start = position // chunk * chunk
    return max(first, start), min(last, start + chunk)


def _by_distance(bias: Array, distance: Array) -> Array:
    """Return the bias of keys that far behind the query, 0 beyond the bias's reach."""
    within = (distance >= 0) & (distance < len(bias))
    return np.where(within, bias[np.clip(distance, 0, len(bias) - 1)], np.float32(0))


def _attend(
    call: Call, q: Array, k: Array, v: Array, sink: Array | None, biases: list[Array]
) -> Array:
    size = len(q)
    scores = order.dot(q[None], k)[0] * np.float32(call.number("scale", size**-0.5))
    cap = np.float32(call.number("softcap", 0.0))
    if cap:
        scores = (np.tanh(scores.astype(np.float64) / cap) * cap).astype(np.float32)
    for bias in biases:
        scores = scores + bias
    top = scores.max() if sink is None else np.maximum(scores.max(), sink)
    weights = np.exp((scores - top).astype(np.float64)).astype(np.float32)
    total = order.total(weights[None])[0]
    if sink is not None:
        total = total + np.exp(np.float32(sink - top))
    summed = np.zeros(v.shape[-1], np.float64)
    for weight, row in zip(weights.astype(np.float64), v.astype(np.float64), strict=True):
        summed = (summed + weight * row).astype(np.float32).astype(np.float64)
    return np.asarray(summed.astype(np.float32) / total)


@compiled
def append(
    new: int, size: int, table: int, capacity: int, sequence: int, position: int, tokens: int,
    outer: int, inner: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy new[tokens, outer, inner] to its place in the states [outer, capacity, inner] of `size` bytes each."""
    owner, place = integers(sequence, tokens), integers(position, tokens)
    length = inner * size
    for row in range(tokens * part // parts, tokens * (part + 1) // parts):
        base = integers(table + 8 * owner[row], 1)[0]
        room = integers(capacity + 8 * owner[row], 1)[0]
        for o in range(outer):
            source = octets(new + (row * outer + o) * length, length)
            target = octets(base + (o * room + place[row]) * length, length)
            for i in range(length):
                target[i] = source[i]


APPEND = Instruction.of("append", append)


# keys and values point, for each sequence, at [kv_heads, room, step bytes], of which columns start at skip. sequence
# and position are [tokens] int64, length is [sequences]. sinks[heads], slopes[heads] float32 and
# bias[tokens, heads, reach] are 0 where there are none.
@compiled
def attention(
    q: int, q_kind: int, keys: int, k_room: int, k_step: int, k_skip: int, values: int,
    v_room: int, v_step: int, v_skip: int, kind: int, sequence: int, position: int, length: int,
    sinks: int, sinks_kind: int, out: int, out_kind: int, tokens: int, heads: int,
    kv_heads: int, size: int, v_size: int, causal: int, window: int, slopes: int, chunk: int,
    bias: int, bias_kind: int, reach: int, scale: float, cap: float, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Attend for this part's (token, key head) pairs: q[tokens, heads, size] to out[tokens, heads, v_size].

    Many are dealt out one by one, as later tokens see more. Of few, each part has as many query heads.
    """
    owner, place = integers(sequence, tokens), integers(position, tokens)
    group = heads // kv_heads
    wide = (v_size + LANES) * 4
    sink_at = scratch
    q_at = sink_at + 64
    slope = floats(slopes, heads)
    out_at = q_at + GROUP * size * 4
    bias_at = out_at + GROUP * wide
    scores_at = bias_at + (reach + LANES) * 4
    bias_row = floats(bias_at, reach)
    sink = floats(sink_at, 1)
    out_row = floats(out_at, GROUP * (v_size + LANES))
    pairs, rows_all = tokens * kv_heads, tokens * heads
    first_row, last_row, start_pair, step = 0, rows_all, part, parts
    if pairs < DEALT * parts:
        first_row, last_row = rows_all * part // parts, rows_all * (part + 1) // parts
        start_pair, step = first_row // group, 1
    for pair in range(start_pair, (last_row + group - 1) // group, step):
        token, head = pair // kv_heads, pair % kv_heads
        b = owner[token]
        last = place[token] + 1 if causal else integers(length + 8 * b, 1)[0]
        first = max(0, place[token] + 1 - window) if window else 0
        if chunk:
            first = max(first, place[token] // chunk * chunk)
            last = min(last, place[token] // chunk * chunk + chunk)
        count = last - first
        k_row = head * integers(k_room + 8 * b, 1)[0] + first
        v_row = head * integers(v_room + 8 * b, 1)[0] + first
        k = integers(keys + 8 * b, 1)[0] + k_skip + k_row * k_step
        v = integers(values + 8 * b, 1)[0] + v_skip + v_row * v_step
        stride = 4 * (count + LANES)
        high = min(group, last_row - pair * group)
        for start in range(max(0, first_row - pair * group), high, GROUP):
            rows = min(GROUP, high - start)
            base = token * heads + head * group + start
            read(q + base * size * size_of(q_kind), q_kind, q_at, rows * size)
            score(q_at, size, k, kind, k_step, count, rows, scores_at, stride)
            for row in range(rows):
                if sinks != 0:
                    at = sinks + (head * group + start + row) * size_of(sinks_kind)
                    read(at, sinks_kind, sink_at, 1)
                if reach != 0:
                    at = bias + (base + row) * reach * size_of(bias_kind)
                    read(at, bias_kind, bias_at, reach)
                total = softmax(
                    scores_at + row * stride, count, np.float32(scale), np.float32(cap),
                    1 if sinks != 0 else 0, sink[0],
                    slope[head * group + start + row] if slopes != 0 else np.float32(0),
                    first - place[token], bias_row, reach,
                )  # fmt: skip
                # The sum waits behind the row's scores until its values are added.
                floats(scores_at + row * stride + 4 * count, 1)[0] = total
            weigh(scores_at, stride, v, kind, v_step, v_size, count, rows, out_at, wide)
            for row in range(rows):
                total = floats(scores_at + row * stride + 4 * count, 1)[0]
                shift = row * (v_size + LANES)
                for e in range(v_size):
                    out_row[shift + e] = out_row[shift + e] / total
                to = out + (base + row) * v_size * size_of(out_kind)
                write(out_at + row * wide, to, out_kind, v_size)


ATTENTION = Instruction.of("attention", attention)


def lower_append(target: Builder, operation: Operation) -> bool:
    """Emit the write of the new rows to the state of their sequences."""
    state, new = operation.inputs
    if not (isinstance(state, StateRef) and isinstance(new, Buffer)) or state.dtype != new.dtype:
        return False
    target.emit(
        APPEND, new=target.at(new), size=new.dtype.itemsize, table=target.at(state),
        capacity=target.room(state), sequence=target.sequence(), position=target.position(),
        tokens=target.tokens(), outer=prod(state.outer), inner=prod(state.inner),
    )  # fmt: skip
    return True


def _entries(target: Builder, name: str, state: StateRef) -> dict[str, Argument]:
    """Return where a state's entries are: address, room, and the bytes of an entry and before its first column."""
    size, letter = state.dtype.itemsize, name[0]
    skip = state.columns[0] if state.columns else 0
    return {
        name: target.at(state), f"{letter}_room": target.room(state),
        f"{letter}_step": state.inner[0] * size, f"{letter}_skip": skip * size,
    }  # fmt: skip


def lower_attention(target: Builder, operation: Operation) -> bool:
    """Emit attention over states; keys that are not kept between steps are left to the reference."""
    q, keys, values = operation.inputs[:3]
    (out,) = operation.outputs
    if not (isinstance(q, Buffer) and isinstance(keys, StateRef) and isinstance(values, StateRef)):
        return False
    sinks, slopes = operation.operand("sinks"), operation.operand("slopes")
    if not isinstance(out, Buffer) or not (sinks is None or isinstance(sinks, Fixed)):
        return False
    if not (slopes is None or (isinstance(slopes, Fixed) and slopes.array.dtype == F32_TYPE)):
        return False
    heads, size = q.shape
    kv_heads, v_size = keys.outer[0], values.width
    bias = operation.operand("bias")
    if not (bias is None or isinstance(bias, Buffer)):
        return False
    reach = 0 if bias is None else bias.width
    target.reserve(64 + GROUP * 4 * (size + v_size + LANES) + 4 * (reach + LANES) + 64)
    target.score_rows = max(target.score_rows, GROUP)
    attrs = operation.attrs
    target.emit(
        ATTENTION, _entries(target, "keys", keys), _entries(target, "values", values),
        q=target.at(q), q_kind=kind_of(q.dtype), kind=kind_of(keys.dtype),
        sequence=target.sequence(), position=target.position(), length=target.lengths(),
        sinks=0 if sinks is None else target.at(sinks),
        sinks_kind=0 if sinks is None else kind_of(sinks.array.dtype),
        out=target.at(out), out_kind=kind_of(out.dtype), tokens=target.tokens(), heads=heads,
        kv_heads=kv_heads, size=size, v_size=v_size,
        causal=int(word(attrs, "mask", "causal") == "causal"), window=integer(attrs, "window", 0),
        slopes=0 if slopes is None else target.at(slopes), chunk=integer(attrs, "chunk", 0),
        bias=0 if bias is None else target.at(bias),
        bias_kind=0 if bias is None else kind_of(bias.dtype), reach=reach,
        scale=number(attrs, "scale", size**-0.5), cap=number(attrs, "softcap", 0.0),
    )  # fmt: skip
    return True


KERNELS: dict[str, Kernel] = {
    "heads": Kernel(reference_heads, result=unchanged, view=True),
    "merge": Kernel(reference_merge, result=unchanged, view=True),
    "append": Kernel(reference_append, lower_append, unchanged),
    "attention": Kernel(reference_attention, lower_attention, as_first),
}
