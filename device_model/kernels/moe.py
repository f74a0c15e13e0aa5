"""Mixtures of experts: choosing experts, multiplying by theirs, and adding up.

Ties go to the lowest index. Tokens are grouped by expert to share a weight's bytes; a row's sum is its own, in the
order of `lanes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from device_model.kernels import opcodes
from device_model.kernels.call import Call, integer, number, word
from device_model.kernels.compiled import floats, read, size_of, words, write
from device_model.kernels.deferred import compiled
from device_model.kernels.kernel import DTypes, Kernel, as_first, declared
from device_model.kernels.linear import can_read, entry, product, stored
from device_model.kernels.product import scratch_bytes
from device_model.numerics import STORAGE, Array, Numerics, wide
from device_model.packed import Packed
from device_model.places import Buffer, Held, Item
from device_model.program import Builder, kind_of
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
        total = share[..., 0]
        for t in range(1, top):
            total = total + share[..., t]
        share = share / (total + NORMALIZE_FLOOR)[..., None]
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
    x, w, choice = call.array(0), call.weight(1), call.array(2)
    tokens, top = choice.shape
    spread = np.broadcast_to(x[:, None], (tokens, top, x.shape[-1])) if x.ndim == 2 else x
    out = np.zeros((tokens, top, w.shape[1]), np.float32)
    for expert in np.unique(choice):
        chosen = choice == expert
        out[chosen] = product(np.ascontiguousarray(spread[chosen]), entry(w, int(expert)))
    return (out,)


def reference_combine(call: Call) -> tuple[Array, ...]:
    """Add the experts' results in the order in which they were chosen, weighted by their shares."""
    y, share = wide(call.array(0)), wide(call.array(1))
    out = np.zeros((y.shape[0], y.shape[2]), np.float32)
    for t in range(y.shape[1]):
        out = out + y[:, t] * share[:, t, None]
    return (out,)


@compiled
def _score(p: Any, count: int, sigmoid: int) -> None:
    """Turn scores into probabilities in place, in float64 and rounded once."""
    if sigmoid:
        for i in range(count):
            p[i] = np.float32(1.0 / (1.0 + math.exp(-np.float64(p[i]))))
        return
    top = p[0]
    for i in range(count):
        top = max(top, p[i])
    total = 0.0
    for i in range(count):
        total += math.exp(np.float64(p[i]) - np.float64(top))
    for i in range(count):
        p[i] = np.float32(math.exp(np.float64(p[i]) - np.float64(top)) / total)


@compiled
def _best(x: Any, first: int, last: int) -> int:
    """Return the place of the largest number, the first among equals."""
    best = first
    for i in range(first + 1, last):
        best = i if x[i] > x[best] else best
    return best


@compiled
def _keep_groups(ranked: Any, worth: Any, count: int, groups: int, kept: int, counted: int) -> None:
    """Rule out the members of all but the best groups; a group is worth its `counted` best ones."""
    size = count // groups
    for g in range(groups):
        best = _best(ranked, g * size, (g + 1) * size)
        worth[g] = ranked[best]
        if counted == 2 and size > 1:
            held = ranked[best]
            ranked[best] = -np.inf
            worth[g] = worth[g] + ranked[_best(ranked, g * size, (g + 1) * size)]
            ranked[best] = held
    for _ in range(kept):
        worth[_best(worth, 0, groups)] = -np.inf
    # What was chosen is marked by minus infinity; the rest is ruled out.
    for g in range(groups):
        if worth[g] != -np.inf:
            for i in range(g * size, (g + 1) * size):
                ranked[i] = -np.inf


@compiled
def route(
    scores: int, kind: int, bias: int, bias_kind: int, choice: int, share: int, share_kind: int,
    tokens: int, count: int, top: int, sigmoid: int, before: int, normalize: int, groups: int,
    kept: int, scale: float, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Choose the experts of this part's tokens and their shares."""
    ranked_at, extra_at = scratch + 4 * count, scratch + 8 * count
    chosen_at = extra_at + 4 * count
    p, ranked, extra = floats(scratch, count), floats(ranked_at, count), floats(extra_at, count)
    chosen = floats(chosen_at, top)
    for token in range(tokens * part // parts, tokens * (part + 1) // parts):
        read(scores + token * count * size_of(kind), kind, scratch, count)
        if before:
            _score(p, count, sigmoid)
        for i in range(count):
            ranked[i] = p[i]
        if bias != 0:
            read(bias, bias_kind, extra_at, count)
            for i in range(count):
                ranked[i] = ranked[i] + extra[i]
        if groups > 1:
            _keep_groups(ranked, extra, count, groups, kept, 2 if bias != 0 else 1)
        ids = words(choice + 4 * token * top, top)
        for t in range(top):
            best = _best(ranked, 0, count)
            ids[t] = best
            chosen[t] = p[best]
            ranked[best] = -np.inf
        if not before:
            _score(chosen, top, sigmoid)
        if normalize:
            total = chosen[0]
            for t in range(1, top):
                total = total + chosen[t]
            total = total + NORMALIZE_FLOOR
            for t in range(top):
                chosen[t] = chosen[t] / total
        for t in range(top):
            chosen[t] = chosen[t] * np.float32(scale)
        write(chosen_at, share + token * top * size_of(share_kind), share_kind, top)


@compiled
def combine(
    y: int, kind: int, share: int, share_kind: int, out: int, out_kind: int, tokens: int,
    top: int, width: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Add this part's columns of the experts' results, in the order in which they were chosen."""
    first, last = width * part // parts, width * (part + 1) // parts
    count = last - first
    row_at, share_at = scratch + 4 * count, scratch + 8 * count
    total, row, shares = floats(scratch, count), floats(row_at, count), floats(share_at, top)
    for token in range(tokens):
        read(share + token * top * size_of(share_kind), share_kind, share_at, top)
        for i in range(count):
            total[i] = np.float32(0.0)
        for t in range(top):
            read(y + ((token * top + t) * width + first) * size_of(kind), kind, row_at, count)
            for i in range(count):
                total[i] = total[i] + row[i] * shares[t]
        write(scratch, out + (token * width + first) * size_of(out_kind), out_kind, count)


def lower_route(target: Builder, item: Item) -> bool:
    """Emit the choice of experts."""
    scores, bias = item.inputs[0], item.operand("bias")
    choice, share = item.outputs
    if not (isinstance(scores, Buffer) and isinstance(choice, Buffer)):
        return False
    if not isinstance(share, Buffer) or not (bias is None or isinstance(bias, Held)):
        return False
    count, top = scores.width, integer(item.attrs, "top")
    target.reserve(4 * (3 * count + top) + 64)
    target.emit(
        opcodes.ROUTE, target.at(scores), kind_of(scores.dtype),
        0 if bias is None else target.at(bias), 0 if bias is None else kind_of(bias.array.dtype),
        target.at(choice), target.at(share), kind_of(share.dtype), target.rows(), count, top,
        int(word(item.attrs, "score", "softmax") == "sigmoid"),
        int(word(item.attrs, "order", "before") == "before"),
        int(bool(item.attrs.get("normalize", False))), integer(item.attrs, "groups", 1),
        integer(item.attrs, "top_groups", 1), reals=(number(item.attrs, "scale", 1.0),),
    )  # fmt: skip
    return True


def lower_expert_matmul(target: Builder, item: Item) -> bool:
    """Emit the products of every token with its experts."""
    x, w, choice = item.inputs
    (out,) = item.outputs
    if not (isinstance(x, Buffer) and isinstance(choice, Buffer) and isinstance(out, Buffer)):
        return False
    if not (isinstance(w, Held | Packed) and can_read(w)):
        return False
    experts, n, k = w.array.shape if isinstance(w, Held) else w.shape
    values = w.array if isinstance(w, Held) else w.values
    scales = 0 if isinstance(w, Held) else w.scales.nbytes // experts
    address, kind, *rest = stored(target, w)
    target.reserve(scratch_bytes(k))
    target.emit(
        opcodes.EXPERT_MATMUL, target.at(x), kind_of(x.dtype),
        1 if len(x.shape) > 1 else choice.width, target.at(choice), address, kind,
        values.nbytes // experts, rest[0], scales, *rest[1:], target.at(out),
        kind_of(out.dtype), target.rows(choice.width), experts, n, k,
    )  # fmt: skip
    return True


def lower_combine(target: Builder, item: Item) -> bool:
    """Emit the sum of the experts' results."""
    (y, share), (out,) = item.inputs, item.outputs
    if not (isinstance(y, Buffer) and isinstance(share, Buffer) and isinstance(out, Buffer)):
        return False
    target.reserve(8 * y.width + 4 * share.width + 64)
    target.emit(
        opcodes.COMBINE, target.at(y), kind_of(y.dtype), target.at(share), kind_of(share.dtype),
        target.at(out), kind_of(out.dtype), target.rows(), share.width, y.width,
    )  # fmt: skip
    return True


def _routed(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    return (STORAGE["i32"], numerics.promote(inputs[:1]))


ROUTE = Kernel(reference_route, lower_route, _routed)
EXPERT_MATMUL = Kernel(reference_expert_matmul, lower_expert_matmul, declared)
COMBINE = Kernel(reference_combine, lower_combine, as_first)
