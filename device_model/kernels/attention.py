"""Attention over a state: one fused operation, float32 inside and rounded once.

For one query the order is declared: scores by `lanes`, the largest score, exponentials, their sum in eight lanes by
distance from the first visible key, then values added key by key, and one division. It depends on positions alone, so
chunked, batched and token-by-token runs agree bit for bit. Paging is not here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from device_model.kernels import compiled as c
from device_model.kernels import lanes, opcodes, order
from device_model.kernels.call import Call, integer, number, word
from device_model.kernels.compiled import floats, integers, read, size_of, write
from device_model.kernels.deferred import compiled
from device_model.kernels.kernel import Kernel, as_first
from device_model.kernels.lanes import BF16, F32, LANES
from device_model.numerics import F32 as F32_TYPE
from device_model.numerics import Array, wide
from device_model.places import Buffer, Held, Item, Kept
from device_model.program import Argument, Builder, kind_of

GROUP = 3
"""Query heads of one key head that are computed together."""


def reference_attention(call: Call) -> tuple[Array, ...]:
    """Attend token by token, head by head, in the declared order."""
    q = wide(call.array(0))
    keys, values = _contexts(call, 1), _contexts(call, 2)
    tokens, heads = q.shape[:2]
    sinks, slopes = call.optional("sinks"), call.optional("slopes")
    biases = call.optional("bias")
    out = np.empty((tokens, heads, values[0].shape[-1] if values else 0), np.float32)
    for token in range(tokens):
        sequence = int(call.rows.sequence[token])
        kept_k, kept_v = wide(keys[sequence]), wide(values[sequence])
        dropped = int(call.rows.lengths[sequence]) - kept_k.shape[1]
        seen = _visible(call, token)
        distance = np.arange(*seen) - call.rows.position[token]
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
    starts = call.rows.starts
    return tuple(value[starts[b] : starts[b + 1]].swapaxes(0, 1) for b in range(len(starts) - 1))


def _visible(call: Call, token: int) -> tuple[int, int]:
    """Return the positions that a token sees."""
    position = int(call.rows.position[token])
    length = int(call.rows.lengths[call.rows.sequence[token]])
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


_k1b, _k2b, _k3b = (lanes.dots(r, 4, BF16) for r in (1, 2, 3))
_k1f, _k2f, _k3f = (lanes.dots(r, 4, F32) for r in (1, 2, 3))
_k1b1, _k1f1 = lanes.dots(1, 1, BF16), lanes.dots(1, 1, F32)
_v1b, _v2b, _v3b = (lanes.weighted(r, 4, BF16) for r in (1, 2, 3))
_v1f, _v2f, _v3f = (lanes.weighted(r, 4, F32) for r in (1, 2, 3))
_v1b1, _v1f1 = lanes.weighted(1, 1, BF16), lanes.weighted(1, 1, F32)
_v1bt, _v1ft = lanes.weighted(1, 0, BF16), lanes.weighted(1, 0, F32)


@compiled
def _score(
    q: int, size: int, k: int, kind: int, step: int, keys: int, rows: int, scores: int, stride: int
) -> None:
    """Write the products of `rows` queries with `keys` keys `step` bytes apart; a row of scores is `stride` bytes."""
    whole = keys // 4 * 4
    for key in range(0, whole, 4):
        at, to = k + key * step, scores + key * 4
        if kind == BF16:
            if rows == 3:
                _k3b(q, size * 4, at, step, size, to, stride)
            elif rows == 2:
                _k2b(q, size * 4, at, step, size, to, stride)
            else:
                _k1b(q, size * 4, at, step, size, to, stride)
        elif rows == 3:
            _k3f(q, size * 4, at, step, size, to, stride)
        elif rows == 2:
            _k2f(q, size * 4, at, step, size, to, stride)
        else:
            _k1f(q, size * 4, at, step, size, to, stride)
    for key in range(whole, keys):
        for row in range(rows):
            at, to = q + row * size * 4, scores + row * stride + key * 4
            if kind == BF16:
                _k1b1(at, 0, k + key * step, step, size, to, stride)
            else:
                _k1f1(at, 0, k + key * step, step, size, to, stride)


@compiled
def _value_block(
    p: int, stride: int, v: int, kind: int, step: int, keys: int, rows: int, out: int, wide: int
) -> None:
    """Write the weighted sums of 32 columns of values."""
    if kind == BF16:
        if rows == 3:
            _v3b(p, stride, v, step, keys, out, wide, 0)
        elif rows == 2:
            _v2b(p, stride, v, step, keys, out, wide, 0)
        else:
            _v1b(p, stride, v, step, keys, out, wide, 0)
    elif rows == 3:
        _v3f(p, stride, v, step, keys, out, wide, 0)
    elif rows == 2:
        _v2f(p, stride, v, step, keys, out, wide, 0)
    else:
        _v1f(p, stride, v, step, keys, out, wide, 0)


@compiled
def _value_tail(p: int, v: int, kind: int, step: int, keys: int, out: int, left: int) -> None:
    """Write the weighted sums of up to 8 columns of values for one query."""
    if kind == BF16:
        if left >= LANES:
            _v1b1(p, 0, v, step, keys, out, 0, 0)
        else:
            _v1bt(p, 0, v, step, keys, out, 0, left)
    elif left >= LANES:
        _v1f1(p, 0, v, step, keys, out, 0, 0)
    else:
        _v1ft(p, 0, v, step, keys, out, 0, left)


@compiled
def _weigh(
    p: int, stride: int, v: int, kind: int, step: int, size: int, keys: int, rows: int, out: int,
    wide: int,
) -> None:  # fmt: skip
    """Write weighted sums of values `step` bytes apart; a row of output is `wide` bytes, which whole vectors fit."""
    item = size_of(kind)
    e = 0
    while e + 4 * LANES <= size:
        _value_block(p, stride, v + e * item, kind, step, keys, rows, out + e * 4, wide)
        e += 4 * LANES
    while e < size:
        for row in range(rows):
            weights, to = p + row * stride, out + row * wide + e * 4
            _value_tail(weights, v + e * item, kind, step, keys, to, size - e)
        e += LANES


@compiled
def _softmax(
    at: int,
    count: int,
    scale: Any,
    cap: Any,
    has_sink: int,
    sink: Any,
    slope: Any,
    ahead: int,
    bias: Any,
    reach: int,
) -> Any:
    """Turn scores into exponentials in place and return their sum; the first key is `ahead` of the query."""
    s = floats(at, count)
    for i in range(count):
        s[i] = s[i] * scale
    if cap != 0:
        for i in range(count):
            s[i] = cap * c.tanh(s[i] / cap)
    if slope != 0:
        for i in range(count):
            s[i] = s[i] + slope * np.float32(i + ahead)
    if reach != 0:
        for i in range(max(0, 1 - ahead - reach), min(count, 1 - ahead)):
            s[i] = s[i] + bias[-(i + ahead)]
    top = s[0]
    for i in range(count):
        top = s[i] if s[i] > top or s[i] != s[i] else top
    if has_sink:
        top = max(top, sink)
    for i in range(count):
        s[i] = c.exp(s[i] - top)
    zero = np.float32(0)
    a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
    whole = count // LANES * LANES
    for i in range(0, whole, LANES):
        a0, a1, a2, a3 = a0 + s[i], a1 + s[i + 1], a2 + s[i + 2], a3 + s[i + 3]
        a4, a5, a6, a7 = a4 + s[i + 4], a5 + s[i + 5], a6 + s[i + 6], a7 + s[i + 7]
    left = count - whole
    a0 = a0 + s[whole] if left > 0 else a0
    a1 = a1 + s[whole + 1] if left > 1 else a1
    a2 = a2 + s[whole + 2] if left > 2 else a2
    a3 = a3 + s[whole + 3] if left > 3 else a3
    a4 = a4 + s[whole + 4] if left > 4 else a4
    a5 = a5 + s[whole + 5] if left > 5 else a5
    a6 = a6 + s[whole + 6] if left > 6 else a6
    total = ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7))
    return total + c.exp(sink - top) if has_sink else total


@compiled
def attention(
    q: int, q_kind: int, keys: int, k_room: int, k_step: int, k_skip: int, values: int,
    v_room: int, v_step: int, v_skip: int, kind: int, sequence: int, position: int, length: int,
    sinks: int, sinks_kind: int, out: int, out_kind: int, tokens: int, heads: int,
    kv_heads: int, size: int, v_size: int, causal: int, window: int, slopes: int, chunk: int,
    bias: int, bias_kind: int, reach: int, scale: float, cap: float, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Attend for this part's (token, key head) pairs, dealt out one by one: later tokens see more."""
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
    for pair in range(part, tokens * kv_heads, parts):
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
        for start in range(0, group, GROUP):
            rows = min(GROUP, group - start)
            base = token * heads + head * group + start
            read(q + base * size * size_of(q_kind), q_kind, q_at, rows * size)
            _score(q_at, size, k, kind, k_step, count, rows, scores_at, stride)
            for row in range(rows):
                if sinks != 0:
                    at = sinks + (head * group + start + row) * size_of(sinks_kind)
                    read(at, sinks_kind, sink_at, 1)
                if reach != 0:
                    at = bias + (base + row) * reach * size_of(bias_kind)
                    read(at, bias_kind, bias_at, reach)
                total = _softmax(
                    scores_at + row * stride, count, np.float32(scale), np.float32(cap),
                    1 if sinks != 0 else 0, sink[0],
                    slope[head * group + start + row] if slopes != 0 else np.float32(0),
                    first - place[token], bias_row, reach,
                )  # fmt: skip
                # The sum waits behind the row's scores until its values are added.
                floats(scores_at + row * stride + 4 * count, 1)[0] = total
            _weigh(scores_at, stride, v, kind, v_step, v_size, count, rows, out_at, wide)
            for row in range(rows):
                total = floats(scores_at + row * stride + 4 * count, 1)[0]
                shift = row * (v_size + LANES)
                for e in range(v_size):
                    out_row[shift + e] = out_row[shift + e] / total
                to = out + (base + row) * v_size * size_of(out_kind)
                write(out_at + row * wide, to, out_kind, v_size)


def _entries(target: Builder, state: Kept) -> tuple[Argument, ...]:
    """Return where a state's entries are: address, room, and the bytes of an entry and before its first column."""
    size = state.dtype.itemsize
    skip = state.columns[0] if state.columns else 0
    return target.at(state), target.room(state), state.inner[0] * size, skip * size


def lower_attention(target: Builder, item: Item) -> bool:
    """Emit attention over states; keys that are not kept between steps are left to the reference."""
    q, keys, values = item.inputs[:3]
    (out,) = item.outputs
    if not (isinstance(q, Buffer) and isinstance(keys, Kept) and isinstance(values, Kept)):
        return False
    sinks, slopes = item.operand("sinks"), item.operand("slopes")
    if not isinstance(out, Buffer) or not (sinks is None or isinstance(sinks, Held)):
        return False
    if not (slopes is None or (isinstance(slopes, Held) and slopes.array.dtype == F32_TYPE)):
        return False
    heads, size = q.shape
    kv_heads, v_size = keys.outer[0], values.width
    bias = item.operand("bias")
    if not (bias is None or isinstance(bias, Buffer)):
        return False
    reach = 0 if bias is None else bias.width
    target.reserve(64 + GROUP * 4 * (size + v_size + LANES) + 4 * (reach + LANES) + 64)
    target.score_rows = max(target.score_rows, GROUP)
    target.emit(
        opcodes.ATTENTION, target.at(q), kind_of(q.dtype), *_entries(target, keys),
        *_entries(target, values), kind_of(keys.dtype), target.sequence(), target.position(), target.lengths(),
        0 if sinks is None else target.at(sinks),
        0 if sinks is None else kind_of(sinks.array.dtype), target.at(out), kind_of(out.dtype),
        target.rows(), heads, kv_heads, size, v_size,
        int(word(item.attrs, "mask", "causal") == "causal"), integer(item.attrs, "window", 0),
        0 if slopes is None else target.at(slopes), integer(item.attrs, "chunk", 0),
        0 if bias is None else target.at(bias), 0 if bias is None else kind_of(bias.dtype), reach,
        reals=(number(item.attrs, "scale", size**-0.5), number(item.attrs, "softcap", 0.0)),
    )  # fmt: skip
    return True


ATTENTION = Kernel(reference_attention, lower_attention, as_first)
