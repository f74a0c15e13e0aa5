# SPDX-License-Identifier: Apache-2.0
"""Rows of the table of cases: mixtures of experts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from device_model.numbers.numerics import Array
from tests.device_model.graphs import B, S, tensor
from tests.device_model.kernels.kernel_draw import WIDTHS, Case, Draw, sums_are_exact


def chosen(p: Array, bias: Array | None, top: int, groups: int, kept: int) -> Array:
    """Return the experts of each token, one at a time: the largest, the first among equals."""
    out = []
    for row in p if bias is None else p + bias:
        size = len(row) // groups
        best = [sorted(row[g * size : (g + 1) * size])[::-1] for g in range(groups)]
        worth = [sum(b[: 1 if bias is None else 2]) for b in best]
        open_groups = sorted(range(groups), key=lambda g: (-worth[g], g))[:kept]
        allowed = [x for x in range(len(row)) if x // size in open_groups]
        out.append(sorted(allowed, key=lambda x: (-row[x], x))[:top])
    return np.array(out)


def _routed(d: Draw) -> tuple[int, int, int, int, Callable[[Array], tuple[Array, Array]]]:
    """Return choice, share, experts, choices a token, and both by the formula."""
    groups, size = d.size(1, 1, 2, 4), d.size(2, 3, 8, 16)
    experts, kept = groups * size, d.size(*range(1, groups + 1))
    top = d.size(*range(1, min(5, kept * size) + 1))
    scores, table = d.rows(experts)
    sigmoid, before, normal = d.chance(), d.chance(), d.chance()
    scale = d.size(1, 2) * 1.25
    inputs, bias = (scores,), None
    if before and d.chance():
        weight, bias = d.weight(experts)
        inputs = (scores, weight)
    choice, share = d.flow.ops(
        "route", inputs, (B, S, top), (B, S, top), top=top, normalize=normal, scale=scale,
        score="sigmoid" if sigmoid else "softmax", order="before" if before else "after",
        groups=groups, top_groups=kept,
    )  # fmt: skip
    d.flow.values[choice] = replace(d.flow.values[choice], type=tensor("i32", B, S, top))

    def score(x: Array) -> Array:
        e = np.exp(x)
        return 1 / (1 + np.exp(-x)) if sigmoid else e / e.sum(-1, keepdims=True)

    def formula(ids: Array) -> tuple[Array, Array]:
        p = score(table[ids]) if before else table[ids]
        found = chosen(p, bias, top, groups, kept)
        shares = np.take_along_axis(p, found, -1)
        shares = shares if before else score(shares)
        return found, scale * (shares / shares.sum(-1, keepdims=True) if normal else shares)

    return choice, share, experts, top, formula


def route(d: Draw) -> Case:
    choice, share, _, _, formula = _routed(d)
    if d.chance():
        return d.case(choice, lambda ids: formula(ids)[0].astype(np.float64))
    return d.case(share, lambda ids: formula(ids)[1], exact=False)


def expert_matmul(d: Draw) -> Case:
    choice, _, experts, top, formula = _routed(d)
    k, n, each = d.size(), d.size(), d.chance()
    w, weight = d.weight(experts, n, k)
    x, table = d.rows(top * k if each else k)
    if each:
        x = d.flow.op("heads", (x,), B, S, top, k, count=top)
    y = d.flow.op("expert_matmul", (x, w, choice), B, S, top, n)

    def product(ids: Array) -> Array:
        given = np.broadcast_to(table[ids].reshape(len(ids), -1, k), (len(ids), top, k))
        return np.einsum("stk,stnk->stn", given, weight[formula(ids)[0]])

    return d.case(y, product, 1e-6 * math.sqrt(k), exact=sums_are_exact(d))


def dispatch(d: Draw) -> Case:
    """Hand tokens to the only chip."""
    choice, share, _, top, formula = _routed(d)
    x, table = d.rows(d.size(*WIDTHS))
    shapes = (B, S, table.shape[-1]), (B, S, top), (B, S, top)
    rows, _, handed = d.flow.ops("dispatch", (x, choice, share), *shapes, axes="ep")
    if d.chance():
        return d.case(rows, lambda ids: table[ids])
    return d.case(handed, lambda ids: formula(ids)[1], exact=False)


def collect(d: Draw) -> Case:
    """Bring back what the only chip made of its tokens."""
    choice, *_ = _routed(d)
    x, table = d.rows(d.size(*WIDTHS))
    y = d.flow.op("collect", (x, choice), B, S, table.shape[-1], axes="ep")
    return d.case(y, lambda ids: table[ids])


def combine(d: Draw) -> Case:
    choice, share, experts, top, formula = _routed(d)
    n = d.size(*WIDTHS)
    (x, table), (w, weight) = d.rows(1), d.weight(experts, n, 1)
    y = d.flow.op("expert_matmul", (x, w, choice), B, S, top, n)
    z = d.flow.op("combine", (y, share), B, S, n)

    def total(ids: Array) -> Array:
        found, shares = formula(ids)
        return np.einsum("s,stn,st->sn", table[ids][:, 0], weight[found][..., 0], shares)

    return replace(d.case(z, total, exact=False), roundings=3 * top)


def pick(d: Draw) -> Case:
    choice, _, experts, top, formula = _routed(d)
    x, table = d.rows(experts)
    y = d.flow.op("pick", (x, choice), B, S, top)
    return d.case(y, lambda ids: np.take_along_axis(table[ids], formula(ids)[0], -1))


def within(d: Draw) -> Case:
    choice, _, experts, top, formula = _routed(d)
    x, table = d.rows(top)
    start = d.size(*range(experts))
    stop = d.size(*range(start + 1, experts + 1))
    y = d.flow.op("within", (x, choice), B, S, top, start=start, stop=stop)

    def kept(ids: Array) -> Array:
        found = formula(ids)[0]
        return table[ids] * ((found >= start) & (found < stop))

    return d.case(y, kept)


def expert_heads(d: Draw) -> Case:
    top, count, e = d.size(1, 2, 3), d.size(1, 2, 5), d.size()
    # As heads, what each expert gave is [T, count * E].
    x, table = d.rows(top, count * e)
    y = d.flow.op("expert_heads", (x,), B, count * top, S, e, count=count)

    def formula(ids: Array) -> Array:
        out = np.empty((len(ids), count * top, e))
        for k in range(count):
            for t in range(top):
                out[:, k * top + t] = table[ids][:, t, k * e : (k + 1) * e]
        return out

    return d.case(y, formula)


def expert_merge(d: Draw) -> Case:
    top, count, e = d.size(1, 2, 3), d.size(1, 2, 5), d.size()
    x, table = d.rows(count * top, e)
    y = d.flow.op("expert_merge", (x,), B, S, top, count * e, chosen=top)

    def formula(ids: Array) -> Array:
        out = np.empty((len(ids), top, count * e))
        for k in range(count):
            for t in range(top):
                out[:, t, k * e : (k + 1) * e] = table[ids][:, k * top + t]
        return out

    return d.case(y, formula)
