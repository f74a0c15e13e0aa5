"""The declared order of addition in plain numpy: the twin of `lanes`.

Slow by design. Where both operands have at most twelve significant bits (bfloat16) every product is exact in float32
and the result equals the compiled one bit for bit; otherwise a fused multiply-add is formed in float64, which rounds
twice and so may differ in the last place once in about 2^29 steps.
"""

from __future__ import annotations

import numpy as np

from device_model.kernels.vectors import LANES
from device_model.numerics import BF16, Array, wide

BLOCK = 1 << 20
"""Lane sums held at a time."""


def dot(x: Array, w: Array) -> Array:
    """Return float32 x @ w.T for x [M, K] and w [N, K] in the declared order."""
    exact = x.dtype == BF16 and w.dtype == BF16
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
    for distance in (4, 2, 1):
        sums = sums[..., :distance] + sums[..., distance : 2 * distance]
    result: Array = sums[..., 0]
    return result


def _lanes(x: Array) -> Array:
    short = -x.shape[1] % LANES
    padded = np.pad(x, ((0, 0), (0, short))) if short else x
    return padded.reshape(len(x), -1, LANES)


def _step(sums: Array, x: Array, w: Array, exact: bool) -> Array:
    if exact:
        return np.asarray(sums + x * w)
    product = x.astype(np.float64) * w
    return np.asarray((sums + product).astype(np.float32))
