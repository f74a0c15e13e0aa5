"""Arithmetic and activation functions, one element at a time, and `cast`."""

from __future__ import annotations

from dsl.ops.linear import result_dtype
from dsl.ops.spec import Flops, OpSpec, Param, Role, Site, is_float
from dsl.symbolic import Dim, equal
from dsl.types import TensorType


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
    for a, b in zip(wide.axes[lead:], narrow.axes, strict=True):
        site.need(equal(a.dim, b.dim), 3, shown, "y")
        site.need_shard(a.shards == b.shards, 4, shown, "y")
    site.need_shard(x.partial == y.partial, 5, shown, "y", _partial_help(x, y))
    return (wide,)


def _partial_help(x: TensorType, y: TensorType | None = None) -> str:
    owed = sorted(x.partial ^ (y.partial if y is not None else frozenset()))
    return f"all_reduce(…, {', '.join(owed)}) completes the sum" if owed else ""


def _unary(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    site.need(is_float(x), 1, f"x is {x}", "x")
    return (x,)


def _cast(site: Site) -> tuple[TensorType, ...]:
    x = site.type("x")
    return (TensorType(result_dtype(site, x.dtype), x.axes, x.partial),)


def _per_element(count: int) -> Flops:
    def flops(site: Site, results: tuple[TensorType, ...]) -> Dim:
        return count * results[0].local_elements()

    return flops


_BINARY_CONSTRAINTS = (
    "both are float tensors, or one is a number",
    "both have the same dtype",
    "axes agree from the last one backwards; the shorter is repeated over the leading axes",
    "matching axes are sharded alike",
    "both are complete, or both are partial sums over the same mesh axes",
)
_UNARY_CONSTRAINTS = ("x is a float tensor",)


def _arithmetic(name: str, symbol: str, summary: str, linear: bool) -> OpSpec:
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
        semantics=f"z[...] = x[...] {symbol} y[...], written `x {symbol} y`; a number stands for every element",
        cost="elements(z)",
        example=f"z = x {symbol} y",
        infer=_binary,
        flops=_per_element(1),
        linear=linear,
    )


def _activation(name: str, formula: str, cost: int) -> OpSpec:
    return OpSpec(
        name=name,
        summary=f"{formula}, one element at a time.",
        params=(Param("x"),),
        result="as x",
        constraints=_UNARY_CONSTRAINTS,
        semantics=f"y[...] = {formula} with x = x[...]",
        cost=f"{cost} * elements(x)",
        example=f"y = {name}(x)",
        infer=_unary,
        flops=_per_element(cost),
    )


SOFTCAP = OpSpec(
    name="softcap",
    summary="Bound values smoothly to plus or minus a cap.",
    params=(Param("x"), Param("cap", Role.FLOAT)),
    result="as x",
    constraints=_UNARY_CONSTRAINTS,
    semantics="y[...] = cap * tanh(x[...] / cap)",
    cost="3 * elements(x)",
    example="logits = softcap(logits, cap)",
    infer=_unary,
    flops=_per_element(3),
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
    linear=False,
)

SPECS = (
    _arithmetic("add", "+", "Add.", linear=True),
    _arithmetic("subtract", "-", "Subtract.", linear=True),
    _arithmetic("multiply", "*", "Multiply.", linear=False),
    _arithmetic("divide", "/", "Divide.", linear=False),
    _activation("silu", "x / (1 + exp(-x))", 4),
    _activation("gelu", "x / 2 * (1 + erf(x / sqrt(2)))", 8),
    _activation("gelu_tanh", "x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))", 8),
    _activation("relu", "max(x, 0)", 1),
    _activation("sigmoid", "1 / (1 + exp(-x))", 3),
    _activation("tanh", "tanh(x)", 2),
    _activation("exp", "exp(x)", 2),
    _activation("softplus", "log(1 + exp(x))", 4),
    SOFTCAP,
    CAST,
)
