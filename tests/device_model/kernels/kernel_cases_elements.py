# SPDX-License-Identifier: Apache-2.0
"""Rows of the table of cases: operations on single elements, and sums of rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from device_model.numbers.numerics import Array
from tests.device_model.graphs import B, S
from tests.device_model.kernels.kernel_draw import WIDTHS, Case, Draw, columned

BINARIES: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def binary(op: str) -> Callable[[Draw], Case]:
    """Return the row of an arithmetic operation: of two values, of a value and a weight, a number, or one a row."""

    def draw(d: Draw) -> Case:
        h, e = d.size(1, 3), d.size(*WIDTHS[:-1])
        x, table = d.rows(h, e)
        kind = d.size(0, 1, 2, 3, 4, 5)
        if kind == 0:
            reverse = d.chance()
            z = d.flow.op(op, (x,), B, h, S, e, scalar=1.5, reverse=reverse)
            pair = (lambda a: (1.5, a)) if reverse else (lambda a: (a, 1.5))
            return d.case(z, lambda ids: BINARIES[op](*pair(table[ids])))
        if kind == 1:
            y, other = d.rows(h, e, shift=3.0)
            z = d.flow.op(op, (x, y), B, h, S, e)
            return d.case(z, lambda ids: BINARIES[op](table[ids], other[ids]))
        if kind == 2:
            # A value without heads against a weight that is as long.
            x, table = d.rows(e, shift=3.0)
            y, row = d.weight(e, shift=3.0)
            z = d.flow.op(op, (y, x), B, S, e)
            return d.case(z, lambda ids: BINARIES[op](row, table[ids]))
        if kind == 3:
            y, row = d.weight(e, shift=3.0)
            merged, flat = d.rows(e)
            z = d.flow.op(op, (merged, y), B, S, e)
            return d.case(z, lambda ids: BINARIES[op](flat[ids], row))
        if kind == 4:
            y, one = d.rows(h, 1, shift=3.0)
            z = d.flow.op(op, (x, y), B, h, S, e)
            return d.case(z, lambda ids: BINARIES[op](table[ids], one[ids]))
        z = d.flow.op(op, (x, x), B, h, S, e)
        return d.case(z, lambda ids: BINARIES[op](table[ids], table[ids]))

    return draw


_erf = np.vectorize(math.erf, otypes=[np.float64])
UNARIES: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "exp": np.exp,
    "softplus": lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "squared_relu": lambda x: np.where(x > 0, x * x, 0),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
# What `activation` knows besides, by the names that configs use.
NAMED: dict[str, Callable[[Array], Array]] = {
    **{name: UNARIES[name] for name in ("gelu", "mish", "quick_gelu", "relu", "silu", "tanh")},
    "gelu_10": lambda x: np.clip(UNARIES["gelu"](x), -10, 10),
    "gelu_new": UNARIES["gelu_tanh"],
    "gelu_pytorch_tanh": UNARIES["gelu_tanh"],
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "laplace": lambda x: (1 + _erf((x - 0.707107) / (0.282095 * math.sqrt(2)))) / 2,
    "leaky_relu": lambda x: np.maximum(x, 0) + 0.01 * np.minimum(x, 0),
    "linear": lambda x: x,
    "relu2": UNARIES["squared_relu"],
    "relu6": lambda x: np.clip(x, 0, 6),
    "sqrtsoftplus": lambda x: np.sqrt(np.log1p(np.exp(x))),
    "swish": UNARIES["silu"],
}
ROOTS = ("sqrt", "rsqrt")


def unary(op: str) -> Callable[[Draw], Case]:
    """Return the row of a function of single elements."""

    def draw(d: Draw) -> Case:
        shift = 9.0 if op in ROOTS else 0.0
        x, table, ahead = columned(d, d.size(*WIDTHS), shift)
        y = d.flow.op(op, (x,), *ahead, table.shape[-1])
        return d.case(y, lambda ids: UNARIES[op](table[ids]), exact=False)

    return draw


def softcap(d: Draw) -> Case:
    x, table, ahead = columned(d, d.size(*WIDTHS))
    cap = d.size(1, 30) * 0.7
    y = d.flow.op("softcap", (x,), *ahead, table.shape[-1], cap=cap)
    return d.case(y, lambda ids: cap * np.tanh(table[ids] / cap), exact=False)


def activation(d: Draw) -> Case:
    act = list(NAMED)[d.size(*range(len(NAMED)))]
    x, table, ahead = columned(d, d.size(*WIDTHS))
    y = d.flow.op("activation", (x,), *ahead, table.shape[-1], act=act)
    return d.case(y, lambda ids: NAMED[act](table[ids]), exact=False)


def clamp(d: Draw) -> Case:
    x, table, ahead = columned(d, d.size(*WIDTHS))
    limits: dict[str, float] = {"low": -0.5, "high": 0.25}
    kept = {name: limits[name] for name in (("low",), ("high",), ("low", "high"))[d.size(0, 1, 2)]}
    y = d.flow.op("clamp", (x,), *ahead, table.shape[-1], **kept)
    return d.case(y, lambda ids: np.clip(table[ids], kept.get("low"), kept.get("high")))


def leaky_relu(d: Draw) -> Case:
    x, table, ahead = columned(d, d.size(*WIDTHS))
    y = d.flow.op("leaky_relu", (x,), *ahead, table.shape[-1], slope=0.125)
    return d.case(y, lambda ids: np.where(table[ids] < 0, table[ids] / 8, table[ids]))


def xielu(d: Draw) -> Case:
    x, table, ahead = columned(d, d.size(*WIDTHS))
    numbers = [d.weight(1, scale=0.2, shift=shift) for shift in (0.8, 0.8, 0.5, -0.1)]
    y = d.flow.op("xielu", (x, *(value for value, _ in numbers)), *ahead, table.shape[-1])
    positive, negative, beta, eps = (float(number[0]) for _, number in numbers)

    def formula(ids: Array) -> Array:
        x = table[ids]
        above = math.log1p(math.exp(positive)) * x * x
        below = (beta + math.log1p(math.exp(negative))) * (np.expm1(np.minimum(x, eps)) - x)
        return np.where(x > 0, above, below) + beta * x

    return d.case(y, formula, exact=False)


def reduction(op: str) -> Callable[[Draw], Case]:
    """Return the row of a sum or a mean over the last axis."""

    def draw(d: Draw) -> Case:
        x, table, ahead = columned(d, d.size(*WIDTHS))
        y = d.flow.op(op, (x,), *ahead, 1)
        # A mean of numbers of both signs is small beside them.
        reach = math.sqrt(table.shape[-1])
        return d.case(y, lambda ids: getattr(table[ids], op)(-1, keepdims=True), 1e-6 * reach)

    return draw
