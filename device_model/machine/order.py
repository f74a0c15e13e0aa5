# SPDX-License-Identifier: Apache-2.0
"""The declared order of addition in plain numpy: the twin of `lanes`.

Slow by design. Where both operands have at most twelve significant bits (bfloat16, float16) every product is exact in
float32 and the result equals the compiled one bit for bit; otherwise a fused multiply-add is formed in float64, which
rounds twice and so may differ in the last place once in about 2^29 steps. Products of fewer than 28 bits are too far
from any tie for that.
"""

from __future__ import annotations

import numpy as np

from device_model.machine.vectors import LANES
from device_model.numbers.numerics import BF16, F16, Array, wide
from device_model.numbers.precision import F32_SUMS, Accumulator, Leaves, Rounding

BLOCK = 1 << 20
"""Lane sums held at a time."""
F64_SIGNIFICAND = 53


def sums(
    x: Array, w: Array, how: Accumulator, *, exact: bool, leaves: Leaves | None = None
) -> Array:
    """Return x @ w.T as an accumulator keeps it, in float32; `exact` says that no product is rounded in float32.

    With leaves it is the tree of their sums, but of whole numbers, of which every order is exact.
    """
    if leaves is None or how.is_integer:
        return _run(x, w, how, exact=exact)
    waiting: list[Array] = []
    for start, stop, merges in zip(leaves.borders, leaves.borders[1:], leaves.merges, strict=False):
        waiting.append(_run(x[:, start:stop], w[:, start:stop], how, exact=exact))
        for _ in range(merges):
            right = waiting.pop()
            with np.errstate(invalid="ignore", over="ignore"):
                waiting[-1] = waiting[-1] + right
    return waiting[0]


def _run(x: Array, w: Array, how: Accumulator, *, exact: bool) -> Array:
    """Return x @ w.T over one run of K."""
    if how.is_plain:
        return dot(x, w, exact=exact)
    if how.is_integer:
        whole = x.astype(np.float64) @ w.astype(np.float64).T
        return whole.astype(np.float32)
    total = np.zeros((len(x), len(w)), np.float32)
    size = how.chunk or max(x.shape[1], 1)
    for start in range(0, x.shape[1], size):
        left, right = x[:, start : start + size], w[:, start : start + size]
        total = total + (
            narrow(left, right, how) if how.is_narrow else dot(left, right, exact=exact)
        )
    return total


def narrow(x: Array, w: Array, how: Accumulator) -> Array:
    """Return x @ w.T in the declared order with every sum rounded to few bits; products are exact in float64."""
    left, right = (_lanes(wide(side)).astype(np.float64) for side in (x, w))
    out = np.empty((len(x), len(w)), np.float32)
    block = max(1, BLOCK // max(1, len(x) * LANES))
    for start in range(0, len(w), block):
        part = right[start : start + block]
        kept = np.zeros((len(x), len(part), LANES), np.float64)
        for k in range(left.shape[1]):
            kept = add_rounded(kept, left[:, None, k] * part[None, :, k], how)
        for distance in (4, 2, 1):
            kept = add_rounded(kept[..., :distance], kept[..., distance : 2 * distance], how)
        out[:, start : start + block] = kept[..., 0]
    return out


def add_rounded(a: Array, b: Array, how: Accumulator) -> Array:
    """Return a + b rounded once to an accumulator's width: the twin of the compiled function of this name."""
    total = a + b
    moved = total - a
    lost = (a - (total - moved)) + (b - moved)
    bits = total.view(np.int64)
    # To odd first, so that what the float64 sum has lost is not lost on the second rounding.
    away = np.where((lost > 0) == (total > 0), np.int64(1), np.int64(-1))
    inexact = (lost > 0) | (lost < 0)
    bits = np.where(inexact & (bits & 1 == 0), bits + away, bits)
    drop = F64_SIGNIFICAND - how.significand
    if how.rounding is Rounding.NEAREST:
        bits = bits + ((1 << (drop - 1)) - 1) + ((bits >> drop) & 1)
    result: Array = (bits & ~np.int64((1 << drop) - 1)).view(np.float64)
    return result


def product(x: Array, w: Array, leaves: Leaves | None) -> Array:
    """Return float32 x @ w.T in the declared order, as the tree of its leaves where there are some."""
    exact = x.dtype in (BF16, F16) and w.dtype in (BF16, F16)
    return sums(x, w, F32_SUMS, exact=exact, leaves=leaves)


def dot(x: Array, w: Array, *, exact: bool | None = None) -> Array:
    """Return float32 x @ w.T for x [M, K] and w [N, K] in the declared order."""
    if exact is None:
        exact = x.dtype in (BF16, F16) and w.dtype in (BF16, F16)
    left, right = _lanes(wide(x)), _lanes(wide(w))
    out = np.empty((len(x), len(w)), np.float32)
    block = max(1, BLOCK // max(1, len(x) * LANES))
    for start in range(0, len(w), block):
        part = right[start : start + block]
        sums = np.zeros((len(x), len(part), LANES), np.float32)
        for k in range(left.shape[1]):
            sums = _step(sums, left[:, None, k], part[None, :, k], exact)
        out[:, start : start + block] = tree(sums)
    return out


def total(x: Array) -> Array:
    """Return the float32 sum over the last axis in the declared order."""
    flat = x.reshape(-1, x.shape[-1])
    return dot(flat, np.ones((1, x.shape[-1]), np.float32)).reshape(x.shape[:-1])


def squares(x: Array) -> Array:
    """Return the float32 sum of squares over the last axis in the declared order."""
    flat = x.reshape(-1, x.shape[-1])
    sums = np.zeros((len(flat), LANES), np.float32)
    lanes = _lanes(flat)
    for k in range(lanes.shape[1]):
        sums = _step(sums, lanes[:, k], lanes[:, k], False)
    return tree(sums).reshape(x.shape[:-1])


def tree(sums: Array) -> Array:
    """Add eight lanes: 4 apart, 2 apart, 1 apart."""
    with np.errstate(invalid="ignore", over="ignore"):
        for distance in (4, 2, 1):
            sums = sums[..., :distance] + sums[..., distance : 2 * distance]
    result: Array = sums[..., 0]
    return result


def _lanes(x: Array) -> Array:
    short = -x.shape[1] % LANES
    padded = np.pad(x, ((0, 0), (0, short))) if short else x
    return padded.reshape(len(x), -1, LANES)


def _step(sums: Array, x: Array, w: Array, exact: bool) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        if exact:
            return np.asarray(sums + x * w)
        product = x.astype(np.float64) * w
        return np.asarray((sums + product).astype(np.float32))
