"""Mixtures of experts: choosing experts, multiplying by theirs, and adding up.

Ties go to the lowest index. Experts run in the plain path for now; only the sums are in the declared order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from device_model.kernels import order
from device_model.kernels.call import Call, integer
from device_model.kernels.kernel import DTypes, Kernel, as_first, declared
from device_model.numerics import STORAGE, Array, Numerics, wide
from dsl.graph import Attr

NORMALIZE_FLOOR = np.float32(1e-20)


def reference_route(call: Call) -> tuple[Array, ...]:
    """Choose the best experts of each token and their shares."""
    scores = wide(call.array(0))
    top = integer(call.attrs, "top")
    before = call.word("order", "before") == "before"
    score = _softmax if call.word("score", "softmax") == "softmax" else _sigmoid
    shares = score(scores) if before else scores
    bias = call.optional("bias")
    ranked = shares if bias is None else shares + wide(bias)
    ranked = _limit_groups(call, ranked, biased=bias is not None)
    choice = np.argsort(-ranked, axis=-1, kind="stable")[..., :top].astype(np.int32)
    share = np.take_along_axis(shares, choice.astype(np.int64), axis=-1)
    share = share if before else score(share)
    if call.attrs.get("normalize", False):
        share = share / (share.sum(axis=-1, keepdims=True, dtype=np.float32) + NORMALIZE_FLOOR)
    return choice, share * np.float32(call.number("scale", 1.0))


def _limit_groups(call: Call, ranked: Array, *, biased: bool) -> Array:
    """Rule out the experts of all but the best groups; a group counts by its best one or, with a bias, two."""
    groups, kept = integer(call.attrs, "groups", 1), integer(call.attrs, "top_groups", 1)
    if groups <= 1:
        return ranked
    grouped = ranked.reshape(*ranked.shape[:-1], groups, -1)
    best = -np.sort(-grouped, axis=-1)[..., : 2 if biased else 1].sum(axis=-1)
    chosen = np.argsort(-best, axis=-1, kind="stable")[..., :kept]
    allowed = np.zeros(best.shape, np.bool_)
    np.put_along_axis(allowed, chosen, True, axis=-1)
    return np.where(allowed[..., None], grouped, -np.inf).reshape(ranked.shape)


def _softmax(x: Array) -> Array:
    shifted = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return np.asarray((shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32))


def _sigmoid(x: Array) -> Array:
    return np.asarray((1.0 / (1.0 + np.exp(-x.astype(np.float64)))).astype(np.float32))


def reference_expert_matmul(call: Call) -> tuple[Array, ...]:
    """Multiply each token by the weights of its chosen experts."""
    x, w, choice = call.array(0), call.array(1), call.array(2)
    tokens, top = choice.shape
    spread = np.broadcast_to(x[:, None], (tokens, top, x.shape[-1])) if x.ndim == 2 else x
    out = np.zeros((tokens, top, w.shape[1]), np.float32)
    for expert in np.unique(choice):
        chosen = choice == expert
        out[chosen] = order.dot(np.ascontiguousarray(spread[chosen]), w[expert])
    return (out,)


def reference_combine(call: Call) -> tuple[Array, ...]:
    """Add the experts' results in the order in which they were chosen, weighted by their shares."""
    y, share = wide(call.array(0)), wide(call.array(1))
    out = np.zeros((y.shape[0], y.shape[2]), np.float32)
    for t in range(y.shape[1]):
        out = out + y[:, t] * share[:, t, None]
    return (out,)


def _routed(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    return (STORAGE["i32"], numerics.promote(inputs[:1]))


ROUTE = Kernel(reference_route, result=_routed)
EXPERT_MATMUL = Kernel(reference_expert_matmul, result=declared)
COMBINE = Kernel(reference_combine, result=as_first)
