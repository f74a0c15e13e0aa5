# SPDX-License-Identifier: Apache-2.0
"""Activation functions, one element at a time."""

from __future__ import annotations

from collections.abc import Mapping

from dsl.ops.elementwise import UNARY_CONSTRAINTS, per_element, unary
from dsl.ops.spec import OpSpec, Param, Role, Site
from dsl.symbolic import Dim, equal
from dsl.types import TensorType

# What transformers calls activation functions, and their FLOPs an element.
ACTIVATIONS: Mapping[str, int] = {
    "gelu": 8,
    "gelu_10": 10,
    "gelu_accurate": 8,
    "gelu_fast": 8,
    "gelu_new": 8,
    "gelu_python": 8,
    "gelu_python_tanh": 8,
    "gelu_pytorch_tanh": 8,
    "gelu_tanh": 8,
    "hardswish": 4,
    "laplace": 6,
    "leaky_relu": 2,
    "linear": 0,
    "mish": 7,
    "quick_gelu": 5,
    "relu": 1,
    "relu2": 2,
    "relu6": 2,
    "sigmoid": 3,
    "silu": 4,
    "sqrtsoftplus": 5,
    "swish": 4,
    "tanh": 2,
}
MAX_COST = max(ACTIVATIONS.values())


def _xielu(site: Site) -> tuple[TensorType, ...]:
    x, *_ = unary(site)
    for name in ("positive", "negative", "beta", "eps"):
        number = site.type(name)
        one = all(equal(axis.dim, 1) for axis in number.axes) and number.rank <= 1
        site.need(one and number.dtype == x.dtype, 2, f"{name} is {number}, x is {x}", name)
    return (x,)


def _named_cost(site: Site, results: tuple[TensorType, ...]) -> Dim:
    act = site.attrs["act"]
    cost = ACTIVATIONS.get(act, MAX_COST) if isinstance(act, str) else MAX_COST
    return cost * results[0].local_elements()


def _activation(name: str, formula: str, cost: int) -> OpSpec:
    return OpSpec(
        name=name,
        summary=f"{formula}, one element at a time.",
        params=(Param("x"),),
        result="as x",
        constraints=UNARY_CONSTRAINTS,
        semantics=f"y[...] = {formula} with x = x[...]",
        cost=f"{cost} * elements(x)",
        example=f"y = {name}(x)",
        infer=unary,
        flops=per_element(cost),
        keeps_axes=True,
    )


LEAKY_RELU = OpSpec(
    name="leaky_relu",
    summary="Keep what is positive, and a share of what is negative.",
    params=(Param("x"), Param("slope", Role.FLOAT, 0.01)),
    result="as x",
    constraints=UNARY_CONSTRAINTS,
    semantics="y[...] = x[...] where that is not negative, else slope * x[...]",
    cost="2 * elements(x)",
    example="y = leaky_relu(x, slope=0.1)",
    infer=unary,
    flops=per_element(2),
    keeps_axes=True,
)

ACTIVATION = OpSpec(
    name="activation",
    summary="The activation function of a name, as configs spell it.",
    params=(Param("x"), Param("act", Role.CHOICE, choices=tuple(ACTIVATIONS))),
    result="as x",
    constraints=UNARY_CONSTRAINTS,
    semantics=(
        "y[...] = f(x[...]) for the function f that transformers calls so: swish is silu, relu2 squared_relu; "
        "gelu_new, gelu_fast, gelu_accurate, gelu_pytorch_tanh and gelu_python_tanh are gelu_tanh, gelu_python is "
        "gelu, gelu_10 is gelu bounded to [-10, 10], relu6 is relu up to 6, leaky_relu has slope 0.01, hardswish is "
        "x * clamp(x + 3, 0, 6) / 6, laplace is (1 + erf((x - 0.707107) / (0.282095 * sqrt(2)))) / 2, sqrtsoftplus is "
        "sqrt(softplus(x)), linear is x"
    ),
    cost="up to 10 * elements(x)",
    example="m = activation(matmul(h, gate), act) * matmul(h, up)",
    infer=unary,
    flops=_named_cost,
    keeps_axes=True,
)

XIELU = OpSpec(
    name="xielu",
    summary="Quadratic where positive, exponential where negative, with learned weights.",
    params=(Param("x"), Param("positive"), Param("negative"), Param("beta"), Param("eps")),
    result="as x",
    constraints=(
        *UNARY_CONSTRAINTS,
        "positive, negative, beta and eps are one number each, in the dtype of x",
    ),
    semantics=(
        "y[...] = softplus(positive) * x^2 + beta * x where x = x[...] > 0, else (beta + softplus(negative)) * "
        "(exp(min(x, eps)) - 1 - x) + beta * x (arXiv:2411.13010)"
    ),
    cost="8 * elements(x)",
    example="m = xielu(matmul(h, up), positive, negative, beta, eps)",
    infer=_xielu,
    flops=per_element(8),
    keeps_axes=True,
)


SOFTCAP = OpSpec(
    name="softcap",
    summary="Bound values smoothly to plus or minus a cap.",
    params=(Param("x"), Param("cap", Role.FLOAT)),
    result="as x",
    constraints=UNARY_CONSTRAINTS,
    semantics="y[...] = cap * tanh(x[...] / cap)",
    cost="3 * elements(x)",
    example="logits = softcap(logits, cap)",
    infer=unary,
    flops=per_element(3),
    keeps_axes=True,
)

SPECS = (
    _activation("silu", "x / (1 + exp(-x))", 4),
    _activation("gelu", "x / 2 * (1 + erf(x / sqrt(2)))", 8),
    _activation("gelu_tanh", "x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))", 8),
    _activation("relu", "max(x, 0)", 1),
    _activation("sigmoid", "1 / (1 + exp(-x))", 3),
    _activation("tanh", "tanh(x)", 2),
    _activation("exp", "exp(x)", 2),
    _activation("softplus", "log(1 + exp(x))", 4),
    _activation("quick_gelu", "x / (1 + exp(-1.702 * x))", 5),
    _activation("squared_relu", "max(x, 0)^2", 2),
    _activation("mish", "x * tanh(log(1 + exp(x)))", 7),
    _activation("abs", "|x|", 1),
    _activation("sqrt", "sqrt(x)", 1),
    _activation("rsqrt", "1 / sqrt(x)", 2),
    LEAKY_RELU,
    ACTIVATION,
    XIELU,
    SOFTCAP,
)
