"""Rows of the table of cases: operations over sequences and their states."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from device_model.numerics import Array
from dsl.graph import Attr
from dsl.symbolic import opaque
from tests.device_model.graphs import B, C, S
from tests.device_model.kernel_draw import ROWS, SIZES, Case, Draw


def frequencies(attrs: dict[str, Attr], width: int, theta: float, factor: float) -> list[float]:
    """Return rotary frequencies one by one."""
    found = []
    for j in range(width // 2):
        f = theta ** (-2 * j / width)
        if attrs["scaling"] == "linear":
            f /= factor
        if attrs["scaling"] == "llama3":
            smooth = min(max((512 * f / (2 * math.pi) - 1) / 3, 0), 1)
            f = (1 - smooth) * f / factor + smooth * f
        if attrs["scaling"] == "yarn":
            first, last = (
                width * math.log(512 / (turns * 2 * math.pi)) / (2 * math.log(theta))
                for turns in (32, 1)
            )
            first, last = max(math.floor(first), 0), min(math.ceil(last), width - 1)
            ramp = min(max((j - first) / (last - first or 0.001), 0), 1)
            f = f * (1 - ramp) + f / factor * ramp
        found.append(f)
    return found


def rope(d: Draw) -> Case:
    h, half = d.size(1, 2, 5), d.size(1, 2, 4, 16, 32)
    e = 2 * half + d.size(0, 0, 1, 6)
    theta, scale, factor = d.size(100, 10000), d.size(1, 2) * 0.75, d.size(2, 8)
    pairing = "half" if d.chance() else "interleaved"
    attrs: dict[str, Attr] = {
        "scaling": ("default", "linear", "llama3", "yarn")[d.size(0, 1, 2, 3)],
        "factor": float(factor), "original_max_position_embeddings": 512.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    }  # fmt: skip
    x, table = d.rows(h, e)
    (freqs,) = d.flow.ops(
        "rope_frequencies", (), (half,), width=2 * half, theta=float(theta), **attrs
    )
    y = d.flow.op("rope", (x, freqs), B, h, S, e, at=C, scale=scale, pairing=pairing)
    inverse = np.array(frequencies(attrs, 2 * half, theta, factor))

    def formula(ids: Array) -> Array:
        turn = scale * np.exp(1j * np.arange(len(ids))[:, None] * inverse)[:, None]
        out = table[ids].copy()
        if pairing == "half":
            z = (out[..., :half] + 1j * out[..., half : 2 * half]) * turn
            out[..., : 2 * half] = np.concatenate([z.real, z.imag], -1)
        else:
            z = (out[..., 0 : 2 * half : 2] + 1j * out[..., 1 : 2 * half : 2]) * turn
            out[..., 0 : 2 * half : 2], out[..., 1 : 2 * half : 2] = z.real, z.imag
        return out

    return d.case(y, formula, exact=False)


def _attend(q: Array, k: Array, v: Array, logits: Callable[[Array], Array], mask: Array) -> Array:
    """Return softmax attention of q[S, H, E] over k[S, K, E] and v[S, K, Ev] in float64."""
    group = q.shape[1] // k.shape[1]
    scores = logits(np.einsum("she,the->hst", q, np.repeat(k, group, 1)))
    scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.asarray(np.einsum("hst,the->she", weights, np.repeat(v, group, 1)))


def _kept(d: Draw, k: int, heads: int, width: int, ring: int = 0) -> int:
    kept = opaque("min", C, ring) if ring else C
    return d.flow.op("append", (d.flow.state(B, heads, kept, width), k), B, heads, kept + S, width)


def attention(d: Draw) -> Case:
    kv, group, e, ev = d.size(1, 2, 3), d.size(1, 2, 3, 4, 7), d.size(), d.size()
    h = kv * group
    (q, qs), (k, ks), (v, vs) = d.rows(h, e), d.rows(kv, e), d.rows(kv, ev)
    window, ring = d.size(0, 1, 2, 9, 39, 40, 41), 0
    if window > 1 and d.chance():
        ring = window - 1 + d.size(0, 3)
    causal, stored = d.size(0, 1, 2) > 0, True
    if not causal:
        window, ring, stored = 0, 0, d.chance()
    if stored:
        k, v = _kept(d, k, kv, e, ring), _kept(d, v, kv, ev, ring)
    scale, cap = e**-0.5, float(d.size(0, 0, 2))
    inputs, sinks = (q, k, v), None
    if d.chance():
        sink, sinks = d.weight(h)
        inputs = (*inputs, sink)
    a = d.flow.op(
        "attention", inputs, B, h, S, ev, mask="causal" if causal else "none", scale=scale,
        window=window, softcap=cap,
    )  # fmt: skip

    def formula(ids: Array) -> Array:
        at = np.arange(len(ids))
        far = at[:, None] - at[None]
        mask = (far >= 0) & (far < (window or len(ids))) if causal else np.full(far.shape, True)
        left, right, values = qs[ids], ks[ids], vs[ids]
        if sinks is not None:
            # A sink is a key that every token sees, of its own score and without a value.
            mask = np.concatenate([np.ones((len(ids), 1), bool), mask], 1)
            right = np.concatenate([np.zeros((1, kv, e)), right])
            values = np.concatenate([np.zeros((1, kv, ev)), values])

        def logits(scores: Array) -> Array:
            scores = cap * np.tanh(scores * scale / cap) if cap else scores * scale
            if sinks is not None:
                scores[..., 0] = sinks[:, None]
            return scores

        return _attend(left, right, values, logits, mask)

    return d.case(a, formula, 4e-6, exact=False, causal=causal)


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
