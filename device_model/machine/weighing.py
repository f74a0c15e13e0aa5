# SPDX-License-Identifier: Apache-2.0
"""What attention does for queries of one key head: scores, their exponentials, and sums of weighted values.

Each is compiled and works on rows of scores in scratch memory. Which keys are seen is decided by the caller.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from device_model.machine import elementary as c
from device_model.machine import lanes
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, size_of
from device_model.machine.vectors import BF16, F16, F32, LANES

KEYS = 128
"""Keys whose values are added at a time, so that all their columns are read while they are near."""

_largest, _total = lanes.largest(), lanes.total()
_k1b, _k2b, _k3b = (lanes.dots(r, 4, BF16, streaming=True) for r in (1, 2, 3))
_k1f, _k2f, _k3f = (lanes.dots(r, 4, F32, streaming=True) for r in (1, 2, 3))
_k1b1, _k1f1 = lanes.dots(1, 1, BF16), lanes.dots(1, 1, F32)
_v1b, _v2b, _v3b = (lanes.weighted(r, 4, BF16) for r in (1, 2, 3))
_v1f, _v2f, _v3f = (lanes.weighted(r, 4, F32) for r in (1, 2, 3))
_v1b1, _v1f1 = lanes.weighted(1, 1, BF16), lanes.weighted(1, 1, F32)
_v1bt, _v1ft = lanes.weighted(1, 0, BF16), lanes.weighted(1, 0, F32)
# Of float16 one query at a time: the bits are the same, and there is less to compile.
_k1h, _k1h1 = lanes.dots(1, 4, F16), lanes.dots(1, 1, F16)
_v1h, _v1h1, _v1ht = (lanes.weighted(1, vectors, F16) for vectors in (4, 1, 0))


@compiled
def _score_one(q: int, size: int, k: int, kind: int, to: int) -> None:
    """Write the product of a query with a key."""
    if kind == BF16:
        _k1b1(q, 0, k, 0, size, to, 0)
    elif kind == F16:
        _k1h1(q, 0, k, 0, size, to, 0)
    else:
        _k1f1(q, 0, k, 0, size, to, 0)


@compiled
def score(
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
        elif kind == F16:
            for row in range(rows):
                _k1h(q + row * size * 4, 0, at, step, size, to + row * stride, stride)
        elif rows == 3:
            _k3f(q, size * 4, at, step, size, to, stride)
        elif rows == 2:
            _k2f(q, size * 4, at, step, size, to, stride)
        else:
            _k1f(q, size * 4, at, step, size, to, stride)
    for key in range(whole, keys):
        for row in range(rows):
            at, to = q + row * size * 4, scores + row * stride + key * 4
            _score_one(at, size, k + key * step, kind, to)


@compiled
def _value_block(
    p: int, stride: int, v: int, kind: int, step: int, keys: int, rows: int, out: int, wide: int
) -> None:
    """Add the weighted sums of 32 columns of values."""
    if kind == BF16:
        if rows == 3:
            _v3b(p, stride, v, step, keys, out, wide, 0)
        elif rows == 2:
            _v2b(p, stride, v, step, keys, out, wide, 0)
        else:
            _v1b(p, stride, v, step, keys, out, wide, 0)
    elif kind == F16:
        for row in range(rows):
            _v1h(p + row * stride, stride, v, step, keys, out + row * wide, wide, 0)
    elif rows == 3:
        _v3f(p, stride, v, step, keys, out, wide, 0)
    elif rows == 2:
        _v2f(p, stride, v, step, keys, out, wide, 0)
    else:
        _v1f(p, stride, v, step, keys, out, wide, 0)


@compiled
def _value_tail(p: int, v: int, kind: int, step: int, keys: int, out: int, left: int) -> None:
    """Add the weighted sums of up to 8 columns of values for one query."""
    if kind == BF16:
        if left >= LANES:
            _v1b1(p, 0, v, step, keys, out, 0, 0)
        else:
            _v1bt(p, 0, v, step, keys, out, 0, left)
    elif kind == F16:
        if left >= LANES:
            _v1h1(p, 0, v, step, keys, out, 0, 0)
        else:
            _v1ht(p, 0, v, step, keys, out, 0, left)
    elif left >= LANES:
        _v1f1(p, 0, v, step, keys, out, 0, 0)
    else:
        _v1ft(p, 0, v, step, keys, out, 0, left)


@compiled
def weigh(
    p: int, stride: int, v: int, kind: int, step: int, size: int, keys: int, rows: int, out: int,
    wide: int,
) -> None:  # fmt: skip
    """Write weighted sums of values `step` bytes apart; a row of output is `wide` bytes, which whole vectors fit."""
    sums = floats(out, rows * wide // 4)
    for i in range(rows * wide // 4):
        sums[i] = 0
    for key in range(0, keys, KEYS):
        count = min(KEYS, keys - key)
        _weigh_block(p + 4 * key, stride, v + key * step, kind, step, size, count, rows, out, wide)


@compiled
def _weigh_block(
    p: int, stride: int, v: int, kind: int, step: int, size: int, keys: int, rows: int, out: int,
    wide: int,
) -> None:  # fmt: skip
    """Add the weighted values of some keys."""
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
def softmax(
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
    top = _largest(at, count)
    if has_sink:
        top = max(top, sink)
    for i in range(count):
        s[i] = c.exp(s[i] - top)
    total = _total(at, count)
    return total + c.exp(sink - top) if has_sink else total
