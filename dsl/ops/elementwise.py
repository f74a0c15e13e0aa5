# SPDX-License-Identifier: Apache-2.0
"""Arithmetic, bounds and formats, one element at a time, and sums over the last axis."""

from __future__ import annotations

from dsl.ops.linear import result_dtype
from dsl.ops.spec import Flops, OpSpec, Param, Role, Site, is_float
from dsl.symbolic import Dim, equal
from dsl.types import Axis, TensorType


def _binary(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    site.need(is_float(x), 1, f"x is {x}", "x")
    y = site.optional("y")
    given = [
        part
        for part, there in (("y", y), ("scalar", site.attrs.get("scalar")))
        if there is not None
    ]
    site.need(len(given) == 1, 1, f"besides x there is {' and '.join(given) or 'nothing'}", "x")
    if y is None:
        shown = f"x is {x}, and every part of it would get the number"
        site.need_shard(not x.partial, 5, shown, "x", _partial_help(x))
        return (x,)
    shown = f"the left is {x}, the right is {y}"
    site.need(x.dtype == y.dtype, 2, shown, "y")
    wide, narrow = (x, y) if x.rank >= y.rank else (y, x)
    lead = wide.rank - narrow.rank
    if lead == 0 and _is_column(wide) and not _is_column(narrow):
        wide, narrow = narrow, wide
    repeated = _is_column(narrow) and not _is_column(wide)
    pairs = list(zip(wide.axes[lead:], narrow.axes, strict=True))
    for a, b in pairs[:-1] if repeated else pairs:
        site.need(equal(a.dim, b.dim), 3, shown, "y")
        site.need_shard(a.shards == b.shards, 4, shown, "y")
    site.need_shard(x.partial == y.partial, 5, shown, "y", _partial_help(x, y))
    return (wide,)


def _is_column(x: TensorType) -> bool:
    """Tell whether a tensor has one number for each of its rows."""
    return x.rank > 0 and equal(x.axes[-1].dim, 1)


def _partial_help(x: TensorType, y: TensorType | None = None) -> str:
    owed = sorted(x.partial ^ (y.partial if y is not None else frozenset()))
    return f"all_reduce(…, {', '.join(owed)}) completes the sum" if owed else ""


def unary(site: Site) -> tuple[TensorType, ...]:
    """Return the type of an operation on single elements: that of x."""
    x = site.type("x")
    site.need(is_float(x), 1, f"x is {x}", "x")
    return (x,)


def _reduce(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    site.need(is_float(x) and x.rank > 0, 1, f"x is {x}", "x")
    site.need_shard(not x.axes[-1].shards, 2, f"x is {x}", "x")
    return (TensorType(x.dtype, (*x.axes[:-1], Axis(1)), x.partial),)


def _clamp(site: Site) -> tuple[TensorType, ...]:
    low, high = site.attrs.get("low"), site.attrs.get("high")
    known = isinstance(low, float) and isinstance(high, float)
    shown = f"low is {low}, high is {high}"
    site.need(low is not None or high is not None, 2, "there is neither low nor high", "x")
    site.need(not known or float(str(low)) <= float(str(high)), 2, shown, "low")
    return unary(site)


def _input_cost(site: Site, results: tuple[TensorType, ...]) -> Dim:
    return site.type("x").local_elements()


def _cast(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    return (TensorType(result_dtype(site, x.dtype), x.axes, x.partial),)


def per_element(count: int) -> Flops:
    """Return the cost of an operation that spends `count` FLOPs on an element."""

    def flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
        return count * results[0].local_elements()

    return flops


_BINARY_CONSTRAINTS = (
    "both are float tensors, or one is a number",
    "both have the same dtype",
    "axes agree from the last one backwards; the shorter is repeated over the leading axes, a last axis of 1 over it",
    "matching axes are sharded alike",
    "both are complete, or both are partial sums over the same mesh axes",
)
UNARY_CONSTRAINTS = ("x is a float tensor",)


def _arithmetic(
    name: str, symbol: str, summary: str, linear: bool, example: str = "z = x {} y"
) -> OpSpec:
    written = f", written `x {symbol} y`" if len(symbol) == 1 else ""
    return OpSpec(
        name=name,
        summary=summary,
        params=(
            Param("x"),
            Param("y", default=None),
            Param("scalar", Role.FLOAT, None),
            Param("reverse", Role.BOOL, False),
        ),
        result="as the longer of both",
        constraints=_BINARY_CONSTRAINTS if linear else _BINARY_CONSTRAINTS[:-1],
        semantics=f"z[...] = x[...] {symbol} y[...]{written}; a number stands for every element",
        cost="elements(z)",
        example=example.format(symbol),
        infer=_binary,
        flops=per_element(1),
        linear=linear,
        keeps_axes=True,
    )


CLAMP = OpSpec(
    name="clamp",
    summary="Bound values sharply from below, above or both sides.",
    params=(Param("x"), Param("low", Role.FLOAT, None), Param("high", Role.FLOAT, None)),
    result="as x",
    constraints=(*UNARY_CONSTRAINTS, "there is a bound, and the low one is not above the high one"),
    semantics="y[...] = min(max(x[...], low), high), without the bound that is absent",
    cost="2 * elements(x)",
    example="gate = clamp(gate, high=7.0)",
    infer=_clamp,
    flops=per_element(2),
    keeps_axes=True,
)


def _reduction(name: str, formula: str, linear: bool) -> OpSpec:
    return OpSpec(
        name=name,
        summary=f"The {name} over the last axis, which stays as an axis of 1.",
        params=(Param("x"),),
        result="[..., 1]",
        constraints=(
            "x is a float tensor with at least one axis",
            "the last axis is not sharded",
        ),
        semantics=f"y[..., 0] = {formula}",
        cost="elements(x)",
        example=f"x = x - {name}(x)",
        infer=_reduce,
        flops=_input_cost,
        linear=linear,
    )


CAST = OpSpec(
    name="cast",
    summary="Change the data type, rounding to nearest even.",
    params=(Param("x"), Param("dtype", Role.DTYPE)),
    result="x with another dtype",
    constraints=(),
    semantics="y[...] = round(x[...]) to dtype",
    cost="0",
    example='y = cast(x, "f32")',
    infer=_cast,
    passes=True,
    keeps_axes=True,
)

SPECS = (
    _arithmetic("add", "+", "Add.", linear=True),
    _arithmetic("subtract", "-", "Subtract.", linear=True),
    _arithmetic("multiply", "*", "Multiply.", linear=False),
    _arithmetic("divide", "/", "Divide.", linear=False),
    _arithmetic("maximum", "max", "The larger.", linear=False, example="z = maximum(x, y)"),
    _arithmetic("minimum", "min", "The smaller.", linear=False, example="z = minimum(x, y)"),
    CLAMP,
    _reduction("sum", "sum over d of x[..., d], in f32", linear=True),
    _reduction("mean", "sum over d of x[..., d], in f32, divided by their number", linear=True),
    CAST,
)
