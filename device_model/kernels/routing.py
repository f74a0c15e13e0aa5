# SPDX-License-Identifier: Apache-2.0
"""Choosing experts: scores, groups, ties, and the shares of what was chosen, by the scores or as it was given.

Scores are taken in float64 and rounded once; ties go to the lowest index. Who gives a choice is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, read, size_of, words, write
from device_model.numbers.numerics import Array, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call, integer, number, word
from device_model.program.instruction import Instruction
from device_model.program.places import GIVEN, Buffer, Fixed, Operation


def reference_route(call: Call) -> tuple[Array, ...]:
    """Choose the best experts of each token, or put those that are given in order, and return their shares."""
    scores, given = wide(call.array(0)), call.optional(GIVEN)
    top = integer(call.attrs, "top")
    word_ = call.word("score", "softmax")
    if word_ == "sparsemixer":
        choice, share = _sparsemixer(scores, top, call.number("jitter", 0.0), given)
    else:
        choice, share = _ranked(call, scores, top, SCORES[word_][1])
    if call.attrs.get("normalize", False):
        total = share[..., 0]
        for t in range(1, top):
            total = total + share[..., t]
        least, floor = (
            np.float32(call.number(n, d)) for n, d in (("least", 0.0), ("floor", 1e-20))
        )
        share = share / (np.maximum(total, least) + floor)[..., None]
    return choice, share * np.float32(call.number("scale", 1.0))


def _ranked(
    call: Call, scores: Array, top: int, score: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Choose the largest of all, or of the best groups."""
    before = call.word("order", "before") == "before"
    shares = score(scores) if before else scores
    bias = call.optional("bias")
    ranked = shares if bias is None else shares + wide(bias)
    given = call.optional(GIVEN)
    if given is None:
        ranked = _limit_groups(call, ranked, biased=bias is not None)
        choice = np.argsort(-ranked, axis=-1, kind="stable")[..., :top].astype(np.int32)
    else:
        choice = _in_order(ranked, given)
    share = np.take_along_axis(shares, choice.astype(np.int64), axis=-1)
    return choice, share if before else score(share)


def _in_order(ranked: Array, given: Array) -> Array:
    """Put given experts in the order of their rank."""
    held = np.sort(given, axis=-1).astype(np.int64)
    order = np.argsort(-np.take_along_axis(ranked, held, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(held, order, axis=-1).astype(np.int32)


def _sparsemixer(
    scores: Array, top: int, jitter: float, given: Array | None
) -> tuple[Array, Array]:
    """Choose one expert after the other, each with its share among those left that are near it."""
    left, near = scores.copy(), np.float32(2.0 * jitter)
    choice = np.empty((*scores.shape[:-1], top), np.int32)
    share = np.empty(choice.shape, np.float32)
    ordered = None if given is None else _in_order(scores, given).astype(np.int64)
    for t in range(top):
        best = left.argmax(axis=-1)[..., None] if ordered is None else ordered[..., t : t + 1]
        largest = np.take_along_axis(left, best, axis=-1)
        factor = np.maximum(np.abs(scores), largest)
        kept = np.where((largest - scores) / factor > near, -np.inf, left)
        powers = np.exp(kept.astype(np.float64) - largest)
        choice[..., t] = best[..., 0]
        share[..., t] = 1.0 / powers.sum(axis=-1)
        np.put_along_axis(left, best, -np.inf, axis=-1)
    return choice, share


def _limit_groups(call: Call, ranked: Array, *, biased: bool) -> Array:
    """Rule out the experts of all but the best groups."""
    groups, kept = integer(call.attrs, "groups", 1), integer(call.attrs, "top_groups", 1)
    if groups <= 1:
        return ranked
    grouped = ranked.reshape(*ranked.shape[:-1], groups, -1)
    counted = integer(call.attrs, "group_best", 0) or (2 if biased else 1)
    best = -np.sort(-grouped, axis=-1)[..., :counted].sum(axis=-1)
    chosen = np.argsort(-best, axis=-1, kind="stable")[..., :kept]
    allowed = np.zeros(best.shape, np.bool_)
    np.put_along_axis(allowed, chosen, True, axis=-1)
    return np.where(allowed[..., None], grouped, -np.inf).reshape(ranked.shape)


def _softmax(x: Array) -> Array:
    shifted = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return np.asarray((shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32))


def _sigmoid(x: Array) -> Array:
    return np.asarray((1.0 / (1.0 + np.exp(-x.astype(np.float64)))).astype(np.float32))


def _sqrtsoftplus(x: Array) -> Array:
    return np.asarray(np.sqrt(np.logaddexp(x.astype(np.float64), 0.0)).astype(np.float32))


SOFTMAX, SIGMOID, SQRTSOFTPLUS, SPARSEMIXER = 0, 1, 2, 3
SCORES: dict[str, tuple[int, Callable[[Array], Array]]] = {
    "softmax": (SOFTMAX, _softmax),
    "sigmoid": (SIGMOID, _sigmoid),
    "sqrtsoftplus": (SQRTSOFTPLUS, _sqrtsoftplus),
}


def reference_pick(call: Call) -> tuple[Array, ...]:
    """Return the scores of what was chosen; what names no expert has 0."""
    scores, choice = call.array(0), call.array(1).astype(np.int64)
    known = np.clip(choice, 0, scores.shape[-1] - 1)
    taken = np.take_along_axis(scores, known, axis=-1)
    return (np.where(choice == known, taken, np.zeros_like(taken)),)


def reference_within(call: Call) -> tuple[Array, ...]:
    """Return the shares of a range of experts, 0 for the others."""
    share, choice = wide(call.array(0)), call.array(1)
    kept = (choice >= integer(call.attrs, "start")) & (choice < integer(call.attrs, "stop"))
    return (np.where(kept, share, np.float32(0.0)),)


@compiled
def _score(p: Any, count: int, function: int) -> None:
    """Turn scores into probabilities in place, in float64 and rounded once."""
    if function == SIGMOID:
        for i in range(count):
            p[i] = np.float32(1.0 / (1.0 + math.exp(-np.float64(p[i]))))
        return
    if function == SQRTSOFTPLUS:
        for i in range(count):
            x = np.float64(p[i])
            p[i] = np.float32(math.sqrt(max(x, 0.0) + math.log1p(math.exp(-abs(x)))))
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
def _best_of(ranked: Any, given: Any, top: int) -> int:
    """Return the best of the given experts that are left and strike it out, the lowest among equals."""
    at = -1
    for t in range(top):
        i = np.int64(given[t])
        if i >= 0 and at < 0:
            at = t
        elif i >= 0:
            best = np.int64(given[at])
            better = ranked[i] > ranked[best] or (ranked[i] == ranked[best] and i < best)
            at = t if better else at
    expert = int(given[at])
    given[at] = -1
    return expert


@compiled
def _mix(p: Any, left: Any, best: int, count: int, near: Any) -> None:
    """Put an expert's share among those left that are near it into its place of `left`."""
    largest, total = left[best], 0.0
    for i in range(count):
        factor = max(abs(p[i]), largest)
        if not (largest - p[i]) / factor > near:
            total += math.exp(np.float64(left[i]) - np.float64(largest))
    left[best] = np.float32(1.0 / total)


@compiled
def _finish(
    chosen: Any, top: int, normalize: int, scale: float, floor: float, least: float
) -> None:
    """Turn the scores of what was chosen into shares in place."""
    if normalize:
        total = chosen[0]
        for t in range(1, top):
            total = total + chosen[t]
        total = max(total, np.float32(least)) + np.float32(floor)
        for t in range(top):
            chosen[t] = chosen[t] / total
    for t in range(top):
        chosen[t] = chosen[t] * np.float32(scale)


@compiled
def route(
    scores: int, kind: int, bias: int, bias_kind: int, choice: int, share: int, share_kind: int,
    tokens: int, count: int, top: int, function: int, before: int, normalize: int, groups: int,
    kept: int, counted: int, given: int, scale: float, floor: float, least: float, near: float,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Choose experts for this part of scores[tokens, count]: choice[tokens, top] int32 and share[tokens, top].

    bias[count], 0 where there is none, is added to what is ranked. With `given` the experts stand in `choice`
    already, all different, and are put in the order of their rank.
    """
    ranked_at, extra_at = scratch + 4 * count, scratch + 8 * count
    chosen_at = extra_at + 4 * count
    p, ranked, extra = floats(scratch, count), floats(ranked_at, count), floats(extra_at, count)
    chosen, named = floats(chosen_at, top), words(chosen_at + 4 * top, top)
    for token in range(tokens * part // parts, tokens * (part + 1) // parts):
        read(scores + token * count * size_of(kind), kind, scratch, count)
        if before and function != SPARSEMIXER:
            _score(p, count, function)
        for i in range(count):
            ranked[i] = p[i]
        if bias != 0:
            read(bias, bias_kind, extra_at, count)
            for i in range(count):
                ranked[i] = ranked[i] + extra[i]
        ids = words(choice + 4 * token * top, top)
        if given != 0:
            for t in range(top):
                named[t] = ids[t]
        elif groups > 1:
            _keep_groups(ranked, extra, count, groups, kept, counted)
        for t in range(top):
            best = _best_of(ranked, named, top) if given != 0 else _best(ranked, 0, count)
            chosen[t] = p[best]
            if function == SPARSEMIXER:
                _mix(p, ranked, best, count, np.float32(near))
                chosen[t] = ranked[best]
            ids[t] = best
            ranked[best] = -np.inf
        if not before:
            _score(chosen, top, function)
        _finish(chosen, top, normalize, scale, floor, least)
        write(chosen_at, share + token * top * size_of(share_kind), share_kind, top)


ROUTE = Instruction.of("route", route)


@compiled
def pick(
    scores: int, kind: int, choice: int, out: int, out_kind: int, tokens: int, count: int, top: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy scores[tokens, count] at choice[tokens, top] int32 to out[tokens, top]; what names no expert has 0."""
    row = floats(scratch, top)
    for token in range(tokens * part // parts, tokens * (part + 1) // parts):
        ids = words(choice + 4 * token * top, top)
        for t in range(top):
            expert = np.int64(ids[t])
            if 0 <= expert < count:
                read(scores + (token * count + expert) * size_of(kind), kind, scratch + 4 * t, 1)
            else:
                row[t] = np.float32(0.0)
        write(scratch, out + token * top * size_of(out_kind), out_kind, top)


PICK = Instruction.of("pick", pick)


def lower_route(target: Builder, operation: Operation) -> bool:
    """Emit the choice of experts."""
    scores, bias = operation.inputs[0], operation.operand("bias")
    choice, share = operation.outputs
    if not (isinstance(scores, Buffer) and isinstance(choice, Buffer)):
        return False
    if not isinstance(share, Buffer) or not (bias is None or isinstance(bias, Fixed)):
        return False
    given = operation.operand(GIVEN)
    if given not in (None, choice):
        return False
    count, top = scores.width, integer(operation.attrs, "top")
    score = word(operation.attrs, "score", "softmax")
    target.reserve(4 * (3 * count + 2 * top) + 64)
    attrs = operation.attrs
    target.emit(
        ROUTE, scores=target.at(scores), kind=kind_of(scores.dtype),
        bias=0 if bias is None else target.at(bias),
        bias_kind=0 if bias is None else kind_of(bias.array.dtype),
        choice=target.at(choice), share=target.at(share), share_kind=kind_of(share.dtype),
        tokens=target.tokens(), count=count, top=top,
        function=SPARSEMIXER if score == "sparsemixer" else SCORES[score][0],
        before=int(word(attrs, "order", "before") == "before"),
        normalize=int(bool(attrs.get("normalize", False))), groups=integer(attrs, "groups", 1),
        kept=integer(attrs, "top_groups", 1),
        counted=integer(attrs, "group_best", 0) or (1 if bias is None else 2),
        given=int(given is not None),
        scale=number(attrs, "scale", 1.0), floor=number(attrs, "floor", 1e-20),
        least=number(attrs, "least", 0.0), near=2.0 * number(attrs, "jitter", 0.0),
    )  # fmt: skip
    return True


def lower_pick(target: Builder, operation: Operation) -> bool:
    """Emit a copy of the scores of what was chosen."""
    (scores, choice), (out,) = operation.inputs, operation.outputs
    if not (isinstance(scores, Buffer) and isinstance(choice, Buffer) and isinstance(out, Buffer)):
        return False
    target.reserve(4 * choice.width)
    target.emit(
        PICK, scores=target.at(scores), kind=kind_of(scores.dtype), choice=target.at(choice),
        out=target.at(out), out_kind=kind_of(out.dtype), tokens=target.tokens(),
        count=scores.width, top=choice.width,
    )  # fmt: skip
    return True
