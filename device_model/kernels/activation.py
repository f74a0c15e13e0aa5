# SPDX-License-Identifier: Apache-2.0
"""Activations: functions of single elements, of their own names or of the names of configs.

Each computes in float32 and rounds once. Those that no common model needs have no compiled loop; the loops are in
`unary`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from device_model.kernels.unary import (
    ABS,
    EXP,
    GELU,
    GELU_TANH,
    LEAKY_RELU,
    MISH,
    QUICK_GELU,
    RELU,
    RSQRT,
    SIGMOID,
    SILU,
    SOFTCAP,
    SOFTPLUS,
    SQRT,
    SQUARED_RELU,
    TANH,
    UNCOMPILED,
    XIELU,
    lower,
)
from device_model.numbers.numerics import Array, wide
from device_model.program.builder import Builder
from device_model.program.call import Call, number, word
from device_model.program.kernel import Kernel, as_first
from device_model.program.places import Fixed, Operation

Unary = Callable[[Array], Array]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _gelu_tanh(x: Array) -> Array:
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))


def _erf_of(x: Array) -> Array:
    return np.asarray(_erf(x) if x.size else x)


def _gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1.0 + _erf_of(x / math.sqrt(2.0))))


def _relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, 0.0))


def _laplace(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + _erf_of((x - 0.707107) / (0.282095 * math.sqrt(2.0)))))


# What operations are called, their number in an instruction, and their meaning in float64.
UNARIES: dict[str, tuple[int, Unary]] = {
    "silu": (SILU, lambda x: np.asarray(x * _sigmoid(x))),
    "gelu": (GELU, _gelu),
    "gelu_tanh": (GELU_TANH, _gelu_tanh),
    "relu": (RELU, _relu),
    "sigmoid": (SIGMOID, _sigmoid),
    "tanh": (TANH, np.tanh),
    "exp": (EXP, np.exp),
    "softplus": (SOFTPLUS, _softplus),
    "quick_gelu": (QUICK_GELU, lambda x: np.asarray(x * _sigmoid(1.702 * x))),
    "squared_relu": (SQUARED_RELU, lambda x: np.asarray(_relu(x) ** 2)),
    "mish": (MISH, lambda x: np.asarray(x * np.tanh(_softplus(x)))),
    "abs": (ABS, np.abs),
    "sqrt": (SQRT, np.sqrt),
    "rsqrt": (RSQRT, lambda x: np.asarray(1.0 / np.sqrt(x))),
}
# The functions that `activation` knows besides, by the names of configs.
NAMED: dict[str, tuple[int, Unary]] = {
    **UNARIES,
    **dict.fromkeys(
        ("gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh"),
        UNARIES["gelu_tanh"],
    ),
    "swish": UNARIES["silu"],
    "gelu_python": UNARIES["gelu"],
    "relu2": UNARIES["squared_relu"],
    "gelu_10": (UNCOMPILED, lambda x: np.clip(_gelu(x), -10.0, 10.0)),
    "hardswish": (UNCOMPILED, lambda x: np.asarray(x * np.clip(x + 3.0, 0.0, 6.0) / 6.0)),
    "laplace": (UNCOMPILED, _laplace),
    "leaky_relu": (UNCOMPILED, lambda x: np.where(x < 0, 0.01 * x, x)),
    "linear": (UNCOMPILED, lambda x: x),
    "relu6": (UNCOMPILED, lambda x: np.clip(x, 0.0, 6.0)),
    "sqrtsoftplus": (UNCOMPILED, lambda x: np.sqrt(_softplus(x))),
}


def _rounded(function: Unary, x: Array) -> tuple[Array, ...]:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return (function(x.astype(np.float64)).astype(np.float32),)


def _reference(function: Unary) -> Callable[[Call], tuple[Array, ...]]:
    return lambda call: _rounded(function, call.array(0))


def reference_activation(call: Call) -> tuple[Array, ...]:
    """Return the function of a name."""
    return _rounded(NAMED[call.word("act", "")][1], call.array(0))


def reference_softcap(call: Call) -> tuple[Array, ...]:
    """Return cap * tanh(x / cap)."""
    cap = call.number("cap", 0.0)
    return _rounded(lambda x: np.tanh(x / cap) * cap, call.array(0))


def reference_leaky_relu(call: Call) -> tuple[Array, ...]:
    """Return x, or a share of it where it is negative."""
    x = wide(call.array(0))
    return (np.where(x < 0, x * np.float32(call.number("slope", 0.01)), x),)


def reference_xielu(call: Call) -> tuple[Array, ...]:
    """Return a quadratic function of what is positive, an exponential one of what is negative."""
    x, *numbers = (wide(call.array(i)).astype(np.float64) for i in range(5))
    rising, falling, beta, eps = _slopes(numbers)
    below = (np.expm1(np.minimum(x, eps)) - x) * falling
    return ((np.where(x > 0, rising * x * x, below) + beta * x).astype(np.float32),)


def _slopes(numbers: Sequence[Array]) -> tuple[float, float, float, float]:
    """Return the factors of the square and of the exponential, beta and eps."""
    positive, negative, beta, eps = (wide(n).astype(np.float64).reshape(()) for n in numbers)
    rising, falling = _softplus(positive), beta + _softplus(negative)
    return float(rising), float(falling), float(beta), float(eps)


def lower_unary(target: Builder, operation: Operation) -> bool:
    """Emit a function of its own name."""
    return lower(target, operation, UNARIES[operation.op][0])


def lower_activation(target: Builder, operation: Operation) -> bool:
    """Emit the function of a name."""
    return lower(target, operation, NAMED[word(operation.attrs, "act", "")][0])


def lower_softcap(target: Builder, operation: Operation) -> bool:
    """Emit a smooth bound."""
    return lower(target, operation, SOFTCAP, number(operation.attrs, "cap", 0.0))


def lower_leaky_relu(target: Builder, operation: Operation) -> bool:
    """Emit a share of what is negative."""
    return lower(target, operation, LEAKY_RELU, number(operation.attrs, "slope", 0.01))


def lower_xielu(target: Builder, operation: Operation) -> bool:
    """Emit the function with its weights' values in the instruction."""
    held = [place.array for place in operation.inputs[1:] if isinstance(place, Fixed)]
    return len(held) == 4 and lower(target, operation, XIELU, *_slopes(held))


KERNELS: dict[str, Kernel] = {
    **{
        name: Kernel(_reference(function), lower_unary, as_first)
        for name, (_, function) in UNARIES.items()
    },
    "leaky_relu": Kernel(reference_leaky_relu, lower_leaky_relu, as_first),
    "activation": Kernel(reference_activation, lower_activation, as_first),
    "xielu": Kernel(reference_xielu, lower_xielu, as_first),
    "softcap": Kernel(reference_softcap, lower_softcap, as_first),
}
