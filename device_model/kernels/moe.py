# SPDX-License-Identifier: Apache-2.0
"""Experts: multiplying by the weights of those chosen, and adding up. How they are chosen is in `routing`.

Tokens are grouped by expert to share a weight's bytes; a row's sum is its own, in the
order of `lanes`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np

from device_model.kernels.linear import can_read, entry, stored
from device_model.kernels.matmul import EXPERT_MATMUL, scratch_bytes
from device_model.kernels.quantised import leaf_table, lower, product
from device_model.kernels.routing import (
    lower_pick,
    lower_route,
    reference_pick,
    reference_route,
    reference_within,
)
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, integers, read, size_of, words, write
from device_model.machine.pairs import wanted
from device_model.numbers.numerics import STORAGE, Array, Numerics, cast, wide
from device_model.numbers.packed import Packed
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call, integer
from device_model.program.instruction import Instruction
from device_model.program.kernel import DTypes, Kernel, as_first, declared
from device_model.program.places import Buffer, Fixed, Operation
from dsl.graph import Attr
from dsl.mesh.trees import middle

NOTHING = np.float32(-0.0)
"""The sum of no experts: what can be added to any number without changing a bit of it."""


def reference_expert_matmul(call: Call) -> tuple[Array, ...]:
    """Multiply each token by the weights of its chosen experts; what names no expert gives zeros."""
    x, w, choice = call.array(0), call.weight(1), call.array(2)
    tokens, top = choice.shape
    spread = np.broadcast_to(x[:, None], (tokens, top, x.shape[-1])) if x.ndim == 2 else x
    out = np.zeros((tokens, top, w.shape[1]), np.float32)
    local = choice - integer(call.attrs, "first", 0)
    for expert in np.unique(local[(local >= 0) & (local < len(w))]):
        chosen = local == expert
        rows = np.ascontiguousarray(spread[chosen])
        out[chosen] = product(rows, entry(w, int(expert)), call.product, call.leaves)
    share, bias = call.optional("share"), call.optional("bias")
    if share is None and bias is None:
        return (out,)
    if call.leaves is None:
        out = wide(cast(out, _routed_storage(call, x)))
    factor = np.float32(1.0) if share is None else wide(share)[..., None]
    out = out * factor
    if bias is not None:
        known = np.clip(local, 0, len(w) - 1)
        out = np.where((local == known)[..., None], out + wide(bias)[known], out)
    return (out,)


def _routed_storage(call: Call, x: Array) -> np.dtype[Any]:
    """Return the format of a product, from which its share and bias go on."""
    return declared((x.dtype,), call.attrs, call.numerics)[0]


def reference_combine(call: Call) -> tuple[Array, ...]:
    """Add the experts' results, weighted by their shares.

    They are added in the order in which they were chosen, or, where a mesh may split the experts, as the tree over all
    of these: an expert is a leaf, which is not there where a token has not chosen it.
    """
    y, given = wide(call.array(0)), call.optional("share")
    share = np.ones(y.shape[:2], np.float32) if given is None else wide(given)
    choice = call.optional("choice")
    if choice is None:
        out = np.zeros((y.shape[0], y.shape[2]), np.float32)
        for t in range(y.shape[1]):
            out = out + y[:, t] * share[:, t, None]
        return (out,)
    first, stop = integer(call.attrs, "first"), integer(call.attrs, "stop")
    leaves = {
        (int(e), int(e) + 1): _of_expert(y, share, choice == e)
        for e in np.unique(choice[(choice >= first) & (choice < stop)])
    }
    nothing = np.full((y.shape[0], y.shape[2]), NOTHING, np.float32)
    return (tree_of(integer(call.attrs, "experts"), first, stop, leaves, nothing),)


def _of_expert(y: Array, share: Array, chosen: Array) -> Array:
    """Return the sum of what one expert made, in the order in which it was chosen."""
    out = np.full((y.shape[0], y.shape[2]), NOTHING, np.float32)
    for t in range(y.shape[1]):
        out = np.where(chosen[:, t, None], out + y[:, t] * share[:, t, None], out)
    return out


def tree_of(
    experts: int, first: int, stop: int, leaves: Mapping[tuple[int, int], Array], nothing: Array
) -> Array:
    """Return the sum of the leaves that are there, over the experts `first` to `stop` of the tree over all of them."""
    present = sorted(lo for lo, _ in leaves)

    def over(lo: int, hi: int) -> Array:
        if bisect_left(present, lo) == bisect_left(present, hi) or hi <= first or lo >= stop:
            return nothing
        if (lo, hi) in leaves:
            return leaves[lo, hi]
        cut = middle(lo, hi)
        return np.asarray(over(lo, cut) + over(cut, hi))

    return over(0, experts)


@compiled
def _levels(left: int, right: int, experts: int) -> int:
    """Return how often the experts are halved until two of them are apart."""
    lo, hi, level = 0, experts, 0
    while True:
        cut = lo + (hi - lo) // 2
        if left < cut <= right:
            return level
        lo, hi, level = (cut, hi, level + 1) if left >= cut else (lo, cut, level + 1)


@compiled
def _in_order(choice: int, top: int, first: int, stop: int, order: int) -> int:
    """Write the places of the chosen experts that are here, by expert and then by place; returns how many."""
    chosen, places, count = words(choice, top), integers(order, top), 0
    for t in range(top):
        if chosen[t] < first or chosen[t] >= stop:
            continue
        at = count
        while at > 0 and chosen[places[at - 1]] > chosen[t]:
            places[at] = places[at - 1]
            at -= 1
        places[at] = t
        count += 1
    return count


@compiled
def _add_tree(
    y: int, kind: int, choice: int, shares: int, top: int, width: int, first: int, count: int,
    experts: int, lowest: int, highest: int, stack: int, order: int,
) -> None:  # fmt: skip
    """Write the sum of one token's columns `first` on to the bottom of the stack, as the tree over all experts."""
    chosen, places, weights = words(choice, top), integers(order, top), floats(shares, top)
    levels = integers(order + 8 * top, top + 1)
    here, depth = _in_order(choice, top, lowest, highest, order), 0
    for i in range(here):
        t = places[i]
        again = i > 0 and chosen[places[i - 1]] == chosen[t]
        if i > 0 and not again:
            apart = _levels(chosen[places[i - 1]], chosen[t], experts)
            while depth > 1 and levels[depth - 1] > apart:
                depth -= 1
                _add_rows(stack + 4 * (depth - 1) * count, stack + 4 * depth * count, count)
            levels[depth] = apart
        if not again:
            _fill(stack + 4 * depth * count, count)
            depth += 1
        row_at = stack + 4 * (top + 1) * count
        read(y + (t * width + first) * size_of(kind), kind, row_at, count)
        total, row = floats(stack + 4 * (depth - 1) * count, count), floats(row_at, count)
        for i_ in range(count):
            total[i_] = total[i_] + row[i_] * weights[t]
    if depth == 0:
        _fill(stack, count)
    while depth > 1:
        depth -= 1
        _add_rows(stack + 4 * (depth - 1) * count, stack + 4 * depth * count, count)


@compiled
def _add_rows(left: int, right: int, count: int) -> None:
    total, more = floats(left, count), floats(right, count)
    for i in range(count):
        total[i] = total[i] + more[i]


@compiled
def _fill(at: int, count: int) -> None:
    total = floats(at, count)
    for i in range(count):
        total[i] = NOTHING


@compiled
def combine(
    y: int, kind: int, share: int, share_kind: int, choice: int, experts: int, lowest: int,
    highest: int, out: int, out_kind: int, tokens: int, top: int, width: int, part: int,
    parts: int, scratch: int,
) -> None:  # fmt: skip
    """Add this part's columns of y[tokens, top, width] times share[tokens, top] over `top`, into out[tokens, width].

    They are added in the order in which they were chosen or, with choice[tokens, top], as the tree over all experts, of
    which those from `lowest` to `highest` are here. An address of 0 is no share, and no choice.
    """
    first, last = width * part // parts, width * (part + 1) // parts
    count = last - first
    share_at = scratch + 4 * count * (top + 2)
    order = (share_at + 4 * top + 7) // 8 * 8
    total, shares = floats(scratch, count), floats(share_at, top)
    row_at = scratch + 4 * count
    row = floats(row_at, count)
    for t in range(top):
        shares[t] = np.float32(1.0)
    for token in range(tokens):
        if share != 0:
            read(share + token * top * size_of(share_kind), share_kind, share_at, top)
        if choice != 0:
            _add_tree(
                y + token * top * width * size_of(kind), kind, choice + 4 * token * top, share_at,
                top, width, first, count, experts, lowest, highest, scratch, order,
            )  # fmt: skip
            write(scratch, out + (token * width + first) * size_of(out_kind), out_kind, count)
            continue
        for i in range(count):
            total[i] = np.float32(0.0)
        for t in range(top):
            read(y + ((token * top + t) * width + first) * size_of(kind), kind, row_at, count)
            for i in range(count):
                total[i] = total[i] + row[i] * shares[t]
        write(scratch, out + (token * width + first) * size_of(out_kind), out_kind, count)


COMBINE = Instruction.of("combine", combine)


@compiled
def finish(
    out: int, kind: int, share: int, share_kind: int, bias: int, bias_kind: int, choice: int,
    first_expert: int, rows: int, experts: int, n: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Multiply this part of out[rows, n] by share[rows] and add bias[experts, n] of its choice[rows], in place."""
    bias_at = scratch + 4 * n
    row, extra, chosen = floats(scratch, n), floats(bias_at, n), words(choice, rows)
    one = floats(bias_at + 4 * n, 1)
    one[0] = np.float32(1.0)
    for index in range(rows * part // parts, rows * (part + 1) // parts):
        expert = np.int64(chosen[index]) - first_expert
        read(out + index * n * size_of(kind), kind, scratch, n)
        if share != 0:
            read(share + index * size_of(share_kind), share_kind, bias_at + 4 * n, 1)
        for i in range(n):
            row[i] = row[i] * one[0]
        if bias != 0 and 0 <= expert < experts:
            read(bias + expert * n * size_of(bias_kind), bias_kind, bias_at, n)
            for i in range(n):
                row[i] = row[i] + extra[i]
        write(scratch, out + index * n * size_of(kind), kind, n)


EXPERT_FINISH = Instruction.of("expert_finish", finish)


def lower_expert_matmul(target: Builder, operation: Operation) -> bool:
    """Emit the products of every token with its experts."""
    x, w, choice = operation.inputs[:3]
    (out,) = operation.outputs
    if not (isinstance(x, Buffer) and isinstance(choice, Buffer) and isinstance(out, Buffer)):
        return False
    if not (isinstance(w, Fixed | Packed) and can_read(w)):
        return False
    share, bias = operation.operand("share"), operation.operand("bias")
    if not isinstance(share, Buffer | None) or not isinstance(bias, Fixed | None):
        return False
    experts, n, _ = w.array.shape if isinstance(w, Fixed) else w.shape
    if operation.product is not None and isinstance(w, Packed):
        lower(
            target, operation.product, x, w, stored(target, w), out, operation.leaves, choice,
            integer(operation.attrs, "first", 0),
        )  # fmt: skip
    else:
        _emit_experts(target, operation, x, w, choice, out)
    if share is not None or bias is not None:
        target.reserve(8 * n + 64)
        target.emit(
            EXPERT_FINISH, out=target.at(out), kind=kind_of(out.dtype),
            share=0 if share is None else target.at(share),
            share_kind=0 if share is None else kind_of(share.dtype),
            bias=0 if bias is None else target.at(bias),
            bias_kind=0 if bias is None else kind_of(bias.array.dtype),
            choice=target.at(choice), first_expert=integer(operation.attrs, "first", 0),
            rows=target.tokens(choice.width), experts=experts, n=n,
        )  # fmt: skip
    return True


def _emit_experts(
    target: Builder, operation: Operation, x: Buffer, w: Fixed | Packed, choice: Buffer,
    out: Buffer,
) -> None:  # fmt: skip
    experts, n, k = w.array.shape if isinstance(w, Fixed) else w.shape
    values = w.array if isinstance(w, Fixed) else w.values
    target.reserve(scratch_bytes(k))
    target.emit(
        EXPERT_MATMUL, stored(target, w).operands, x=target.at(x), x_kind=kind_of(x.dtype),
        repeats=1 if len(x.shape) > 1 else choice.width, choice=target.at(choice),
        entry=values.nbytes // experts,
        scales_entry=0 if isinstance(w, Fixed) else w.scales.nbytes // experts,
        leaves=leaf_table(target, operation.leaves),
        first_expert=integer(operation.attrs, "first", 0), out=target.at(out),
        out_kind=kind_of(out.dtype), rows=target.tokens(choice.width),
        experts=experts, n=n, k=k, pairs=wanted(),
    )  # fmt: skip


def lower_combine(target: Builder, operation: Operation) -> bool:
    """Emit the sum of the experts' results."""
    y, share, (out,) = operation.inputs[0], operation.operand("share"), operation.outputs
    if not (isinstance(y, Buffer) and isinstance(out, Buffer) and isinstance(share, Buffer | None)):
        return False
    top = y.elements // y.width
    choice = operation.operand("choice")
    if not isinstance(choice, Buffer | None):
        return False
    attrs = operation.attrs
    target.reserve(4 * y.width * (top + 2) + 24 * (top + 2) + 64)
    target.emit(
        COMBINE, y=target.at(y), kind=kind_of(y.dtype),
        share=0 if share is None else target.at(share),
        share_kind=0 if share is None else kind_of(share.dtype),
        choice=0 if choice is None else target.at(choice),
        experts=integer(attrs, "experts", 0), lowest=integer(attrs, "first", 0),
        highest=integer(attrs, "stop", 0), out=target.at(out), out_kind=kind_of(out.dtype),
        tokens=target.tokens(), top=top, width=y.width,
    )  # fmt: skip
    return True


def _routed(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    return (STORAGE["i32"], numerics.promote(inputs[:1]))


KERNELS: dict[str, Kernel] = {
    "route": Kernel(reference_route, lower_route, _routed),
    "expert_matmul": Kernel(reference_expert_matmul, lower_expert_matmul, declared),
    "combine": Kernel(reference_combine, lower_combine, as_first),
    "pick": Kernel(reference_pick, lower_pick, as_first),
    "within": Kernel(reference_within, result=as_first),
}
