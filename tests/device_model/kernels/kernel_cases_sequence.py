# SPDX-License-Identifier: Apache-2.0
"""Rows of the table of cases: operations over sequences and their states."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from device_model.numbers.numerics import Array
from dsl.symbolic import opaque
from tests.device_model.graphs import B, C, S
from tests.device_model.kernels.kernel_draw import ROWS, SIZES, Case, Draw


@dataclass(frozen=True, slots=True)
class Mask:
    """Which positions see which: none of its limits applies where it is 0."""

    causal: bool
    window: int
    chunk: int

    def seen(self, at: Array) -> Array:
        """Return for each query, by row, whether it sees each key."""
        far = at[:, None] - at[None]
        seen = far >= 0 if self.causal else np.full(far.shape, True)
        if self.window:
            seen &= far < self.window
        if self.chunk:
            seen &= at[:, None] // self.chunk == at[None] // self.chunk
        return seen


def _kept(d: Draw, k: int, heads: int, width: int, ring: int = 0) -> int:
    kept = opaque("min", C, ring) if ring else C
    return d.flow.op("append", (d.flow.state(B, heads, kept, width), k), B, heads, kept + S, width)


def _masked(d: Draw) -> tuple[Mask, int]:
    """Return a mask, and the ring that keeps enough for it, 0 for the whole context."""
    if d.size(0, 1, 2) == 0:
        return Mask(causal=False, window=0, chunk=0), 0
    mask = Mask(causal=True, window=d.size(0, 1, 2, 9, 39, 40, 41), chunk=d.size(0, 0, 5, 16))
    spans = [span for span in (mask.window, mask.chunk) if span > 1]
    return mask, min(spans) - 1 + d.size(0, 3) if spans and d.chance() else 0


def attention(d: Draw, *, sloped: bool = False) -> Case:
    kv, group, e, ev = d.size(1, 2, 3), d.size(1, 2, 3, 4, 7), d.size(), d.size()
    h = kv * group
    (q, qs), (k, ks), (v, vs) = d.rows(h, e), d.rows(kv, e), d.rows(kv, ev)
    mask, ring = _masked(d)
    if mask.causal or d.chance():
        k, v = _kept(d, k, kv, e, ring), _kept(d, v, kv, ev, ring)
    scale, cap = e**-0.5, float(d.size(0, 0, 2))
    inputs, slopes, sinks = {"q": q, "k": k, "v": v}, np.zeros(h), np.full(h, -np.inf)
    if d.chance():
        inputs["sinks"], sinks = d.weight(h)
    if sloped:
        (inputs["slopes"],) = d.flow.ops("alibi_slopes", (), (h,), count=h, scale=0.5)
        slopes = np.array([0.5 * slope for slope in _slopes(h)])
    a = d.flow.op(
        "attention", tuple(inputs.values()), B, h, S, ev, scale=scale, softcap=cap,
        mask="causal" if mask.causal else "none", window=mask.window, chunk=mask.chunk,
    )  # fmt: skip
    node = d.flow.steps[-1][-1]
    d.flow.steps[-1][-1] = replace(node, operands=tuple(inputs))

    def formula(ids: Array) -> Array:
        at = np.arange(len(ids))
        scores = scale * np.einsum("she,the->hst", qs[ids], np.repeat(ks[ids], group, 1))
        scores = cap * np.tanh(scores / cap) if cap else scores
        scores = scores + slopes[:, None, None] * (at[None] - at[:, None])
        weights = np.exp(np.where(mask.seen(at), scores, -np.inf))
        weights /= weights.sum(-1, keepdims=True) + np.exp(sinks)[:, None, None]
        return np.einsum("hst,the->she", weights, np.repeat(vs[ids], group, 1))

    return d.case(a, formula, 4e-6, exact=False, causal=mask.causal)


def _slopes(heads: int) -> list[float]:
    """Return the slopes of the paper: a geometric row, then every other one of the row twice as fine."""
    power = 2 ** math.floor(math.log2(heads))
    fine = [2 ** (-8 * (i + 1) / (2 * power)) for i in range(2 * power)]
    return [*fine[1::2], *fine[0::2]][:heads]


def alibi_slopes(d: Draw) -> Case:
    return attention(d, sloped=True)


def _means(d: Draw, k: int, v: int, kv: int, e: int, ev: int, vs: Array) -> Case:
    """Return the case of means of all values so far: queries of zeros see all keys alike."""
    q, _ = d.rows(kv, e, scale=0.0)
    y = d.flow.op("attention", (q, k, v), B, kv, S, ev, mask="causal", scale=1.0)

    def formula(ids: Array) -> Array:
        return vs[ids].cumsum(0) / np.arange(1, len(ids) + 1)[:, None, None]

    return d.case(y, formula, 4e-6)


def append(d: Draw) -> Case:
    kv, e, ev = d.size(1, 2, 5), d.size(), d.size()
    (k, _), (v, vs) = d.rows(kv, e), d.rows(kv, ev)
    return _means(d, _kept(d, k, kv, e), _kept(d, v, kv, ev), kv, e, ev, vs)


def reuse(d: Draw) -> Case:
    kv, e, ev = d.size(1, 2, 5), d.size(), d.size()
    (k, _), (v, vs) = d.rows(kv, e), d.rows(kv, ev)
    values = []
    for new, width in ((k, e), (v, ev)):
        owner = d.flow.state(B, kv, C, width)
        d.flow.states[-1][-1] = replace(d.flow.states[-1][-1], item=(f"kept{new}", 0))
        d.flow.op("append", (owner, new), B, kv, C + S, width)
        other = d.flow.state(B, kv, C, width)
        d.flow.states[-1][-1] = replace(d.flow.states[-1][-1], item=(f"kept{new}", 0))
        values.append(d.flow.op("reuse", (other,), B, kv, C + S, width))
    return _means(d, values[0], values[1], kv, e, ev, vs)


def causal_conv(d: Draw) -> Case:
    width, taps = d.size(*SIZES, 255, 257, 600), d.size(1, 2, 4, 7)
    (x, table), (w, weight) = d.rows(width), d.weight(width, taps)
    y = d.flow.op("causal_conv", (d.flow.state(B, width, taps - 1), x, w), B, S, width)

    def formula(ids: Array) -> Array:
        line = np.concatenate([np.zeros((taps - 1, width)), table[ids]])
        return sum(line[j : j + len(ids)] * weight[:, j] for j in range(taps))

    return d.case(y, formula)


def linear_attention(d: Draw) -> Case:
    h, e, ev = d.size(1, 2, 5), d.size(), d.size()
    (q, qs), (k, ks), (v, vs) = d.rows(h, e), d.rows(h, e), d.rows(h, ev)
    name, decays = d.weight(ROWS, h, scale=0.1, shift=-0.3)
    decay = d.flow.op("gather", (name, d.ids), B, S, h)
    memory = d.flow.state(B, h, e, ev, dtype="f32")
    y = d.flow.op("linear_attention", (memory, q, k, v, decay), B, h, S, ev)

    def formula(ids: Array) -> Array:
        kept, out = np.zeros((h, e, ev)), []
        for t in ids:
            kept = np.exp(decays[t])[:, None, None] * kept + ks[t][:, :, None] * vs[t][:, None]
            out.append(np.einsum("he,hev->hv", qs[t], kept))
        return np.array(out)

    return d.case(y, formula, 4e-6, exact=False)
