# SPDX-License-Identifier: Apache-2.0
"""The table of cases: a drawn graph and a formula for every operation of the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from device_model.numbers.numerics import Array
from dsl.graph import Attr
from dsl.types import DTYPES
from tests.device_model.graphs import B, S
from tests.device_model.kernels import kernel_cases_elements as elements
from tests.device_model.kernels import kernel_cases_experts as experts
from tests.device_model.kernels import kernel_cases_position as position
from tests.device_model.kernels import kernel_cases_sequence as sequence
from tests.device_model.kernels.kernel_draw import WIDTHS, Case, Draw, columned, sums_are_exact


def gather(d: Draw) -> Case:
    x, table = d.rows(d.size(*WIDTHS))
    return d.case(x, lambda ids: table[ids])


def matmul(d: Draw) -> Case:
    k, n = d.size(*WIDTHS), d.size()
    (x, table), (w, weight) = d.rows(k), d.weight(n, k)
    attrs: dict[str, Attr] = {"dtype": DTYPES["f32"]} if d.chance() else {}
    y = d.flow.op("matmul", (x, w), B, S, n, **attrs)
    return d.case(
        y, lambda ids: table[ids] @ weight.T, 1e-6 * math.sqrt(k), exact=sums_are_exact(d)
    )


def head_matmul(d: Draw) -> Case:
    h, k, n = d.size(1, 2, 5), d.size(), d.size()
    (x, table), (w, weight) = d.rows(h, k), d.weight(h, n, k)
    y = d.flow.op("head_matmul", (x, w), B, h, S, n)
    return d.case(y, lambda ids: np.einsum("shk,hnk->shn", table[ids], weight), 1e-6 * math.sqrt(k))


def rms_norm(d: Draw) -> Case:
    width = d.size(*WIDTHS)
    (x, table), (w, weight) = d.rows(width), d.weight(width)
    offset, eps, scaled = d.size(0, 1), d.size(1, 2) * 1e-4, d.chance()
    inputs = (x, w) if scaled else (x,)
    y = d.flow.op("rms_norm", inputs, B, S, width, eps=eps, offset=float(offset))

    def formula(ids: Array) -> Array:
        x = table[ids]
        normed = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        return normed * (offset + weight) if scaled else normed

    return d.case(y, formula, 2e-6)


def layer_norm(d: Draw) -> Case:
    width = d.size(*WIDTHS)
    (x, table), (w, weight), (b, bias) = d.rows(width), d.weight(width), d.weight(width)
    count = d.size(1, 2, 3)
    y = d.flow.op("layer_norm", (x, w, b)[:count], B, S, width, eps=1e-3)

    def formula(ids: Array) -> Array:
        x = table[ids] - table[ids].mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3)
        return x * (weight if count > 1 else 1) + (bias if count > 2 else 0)

    # One number less its mean is 0, whatever eps: what is left is the rounding of the sum.
    return d.case(y, formula, 4e-6)


def heads(d: Draw) -> Case:
    x, table = d.rows(d.size(), d.size())
    return d.case(x, lambda ids: table[ids])


def merge(d: Draw) -> Case:
    h, e = d.size(), d.size()
    x, table = d.rows(h, e)
    return d.case(d.flow.op("merge", (x,), B, S, h * e), lambda ids: table[ids].reshape(-1, h * e))


def split(d: Draw) -> Case:
    sizes = tuple(d.size(*WIDTHS[:-2]) for _ in range(d.size(1, 2, 4)))
    x, table, ahead = columned(d, sum(sizes))
    parts = d.flow.ops("split", (x,), *((*ahead, n) for n in sizes), sizes=sizes)
    kept = d.size(*range(len(sizes)))
    start = sum(sizes[:kept])
    return d.case(parts[kept], lambda ids: table[ids][..., start : start + sizes[kept]])


def slice_(d: Draw) -> Case:
    start, width, rest = d.size(0, 1, 9), d.size(*WIDTHS), d.size(0, 1, 9)
    x, table, ahead = columned(d, start + width + rest)
    y = d.flow.op("slice", (x,), *ahead, width, start=start, stop=start + width)
    return d.case(y, lambda ids: table[ids][..., start : start + width])


def concat(d: Draw) -> Case:
    h = d.size(1, 3)
    parts = [d.rows(h, d.size()) for _ in range(d.size(1, 2, 4))]
    width = sum(table.shape[-1] for _, table in parts)
    y = d.flow.op("concat", tuple(value for value, _ in parts), B, h, S, width)
    return d.case(y, lambda ids: np.concatenate([table[ids] for _, table in parts], -1))


def column(d: Draw) -> Case:
    x, table, ahead = columned(d, d.size(*WIDTHS))
    y = d.flow.op("column", (x,), *ahead, table.shape[-1], 1)
    return d.case(y, lambda ids: table[ids][..., None])


def cast(d: Draw) -> Case:
    width = d.size(*WIDTHS)
    x, table = d.rows(width)
    y = d.flow.op("cast", (x,), B, S, width, dtype=DTYPES["f32"])
    z = d.flow.op("multiply", (y,), B, S, width, scalar=1.25)
    return d.case(z, lambda ids: table[ids] * 1.25)


def alone(op: str, axes: Attr) -> Callable[[Draw], Case]:
    """Return the row of a collective of one chip."""

    def draw(d: Draw) -> Case:
        x, table = d.rows(d.size(*WIDTHS))
        y = d.flow.op(op, (x,), B, S, table.shape[-1], axes=axes)
        return d.case(y, lambda ids: table[ids])

    return draw


def read(d: Draw) -> Case:
    """Count the steps of each sequence in a state; the result is of the tokens alone."""
    width = d.size()
    count = d.flow.state(B, width)
    more = d.flow.op("add", (d.flow.op("read", (count,), B, width),), B, width, scalar=1.0)
    d.flow.op("write", (count, more), B, width)
    case = gather(d)
    return replace(case, kept=lambda steps: np.full(width, float(steps)))


CASES: dict[str, Callable[[Draw], Case]] = {
    "gather": gather,
    "matmul": matmul,
    "head_matmul": head_matmul,
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "rope_frequencies": position.rope,
    "rope": position.rope,
    "positions": position.positions,
    "sinusoids": position.sinusoids,
    "alibi_slopes": sequence.alibi_slopes,
    "position_scale": position.position_scale,
    "heads": heads,
    "merge": merge,
    "split": split,
    "slice": slice_,
    "concat": concat,
    "column": column,
    "append": sequence.append,
    "reuse": sequence.reuse,
    "attention": sequence.attention,
    **{op: elements.binary(op) for op in elements.BINARIES},
    **{op: elements.unary(op) for op in elements.UNARIES},
    "softcap": elements.softcap,
    "activation": elements.activation,
    "clamp": elements.clamp,
    "leaky_relu": elements.leaky_relu,
    "xielu": elements.xielu,
    "sum": elements.reduction("sum"),
    "mean": elements.reduction("mean"),
    "cast": cast,
    "all_reduce": alone("all_reduce", ("tp",)),
    "all_gather": alone("all_gather", "tp"),
    "shard": alone("shard", "tp"),
    "reduce_scatter": alone("reduce_scatter", "tp"),
    "read": read,
    "write": read,
    "causal_conv": sequence.causal_conv,
    "linear_attention": sequence.linear_attention,
    "route": experts.route,
    "expert_matmul": experts.expert_matmul,
    "dispatch": experts.dispatch,
    "collect": experts.collect,
    "combine": experts.combine,
    "pick": experts.pick,
    "within": experts.within,
    "expert_heads": experts.expert_heads,
    "expert_merge": experts.expert_merge,
}


def drawn(op: str, stored: str, seed: int) -> Case:
    """Return the case of an operation, a stored format and a seed."""
    generator = np.random.default_rng([seed, *op.encode()])
    return CASES[op](Draw(generator, stored))
