"""Functions of single elements: activations, roots, bounds.

Each computes in float32 and rounds once. Those that no common model needs have no compiled loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from device_model.kernels.elementwise import CHUNK
from device_model.machine import elementary as c
from device_model.machine import opcodes
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, read, size_of, write
from device_model.numbers.numerics import Array, wide
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call, number, word
from device_model.program.kernel import Kernel, as_first
from device_model.program.places import Buffer, Fixed, Operation

SILU, GELU, GELU_TANH, RELU, SIGMOID, TANH, EXP, SOFTPLUS, SOFTCAP = 0, 1, 2, 3, 4, 5, 6, 7, 8
QUICK_GELU, SQUARED_RELU, MISH, ABS, SQRT, RSQRT, CLAMP, LEAKY_RELU, XIELU = (
    9, 10, 11, 12, 13, 14, 15, 16, 17,
)  # fmt: skip
UNCOMPILED = -1

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


def reference_clamp(call: Call) -> tuple[Array, ...]:
    """Return min(max(x, low), high)."""
    low, high = _bounds(call.number("low", -math.inf), call.number("high", math.inf))
    return (np.minimum(np.maximum(wide(call.array(0)), low), high),)


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


def _bounds(low: float, high: float) -> tuple[np.float32, np.float32]:
    return np.float32(low), np.float32(high)


_SQRT_HALF = np.float32(math.sqrt(0.5))
_SQRT_2_PI = np.float32(math.sqrt(2.0 / math.pi))
_CUBIC, _HALF, _ONE, _ZERO = np.float32(0.044715), np.float32(0.5), np.float32(1), np.float32(0)
_QUICK = np.float32(1.702)

# A compiled function of an element takes four more numbers, of which most need none.


@compiled
def _silu(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return x * c.sigmoid(x)


@compiled
def _gelu_erf(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return _HALF * x * (_ONE + c.erf(x * _SQRT_HALF))


@compiled
def _gelu_by_tanh(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return _HALF * x * (_ONE + c.tanh(_SQRT_2_PI * (x + _CUBIC * x * x * x)))


@compiled
def _positive(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return max(x, _ZERO)


@compiled
def _capped(x: Any, cap: Any, q: Any, r: Any, s: Any) -> Any:
    return cap * c.tanh(x / cap)


@compiled
def _quick(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return x * c.sigmoid(_QUICK * x)


@compiled
def _squared(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return max(x, _ZERO) * max(x, _ZERO)


@compiled
def _mish(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return x * c.tanh(c.softplus(x))


@compiled
def _size(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return abs(x)


@compiled
def _root(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return np.sqrt(x)


@compiled
def _inverse_root(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    return _ONE / np.sqrt(x)


@compiled
def _between(x: Any, low: Any, high: Any, r: Any, s: Any) -> Any:
    return min(max(x, low), high)


@compiled
def _leaky(x: Any, slope: Any, q: Any, r: Any, s: Any) -> Any:
    return x * slope if x < _ZERO else x


@compiled
def _xielu(x: Any, rising: Any, falling: Any, beta: Any, eps: Any) -> Any:
    above = rising * x * x
    below = (np.float32(math.expm1(np.float64(min(x, eps)))) - x) * falling
    return (above if x > _ZERO else below) + beta * x


Loop = Callable[[int, int, Any, Any, Any, Any], None]


def _loop(function: Callable[..., Any]) -> Loop:
    """Make the loop that applies a function of an element and four numbers to staged elements."""

    @compiled
    def loop(at: int, count: int, p: Any, q: Any, r: Any, s: Any) -> None:
        x = floats(at, count)
        for i in range(count):
            x[i] = function(x[i], p, q, r, s)

    result: Loop = loop
    return result


def _plain(function: Callable[..., Any]) -> Loop:
    @compiled
    def ignoring(x: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
        return function(x)

    return _loop(ignoring)


_silus, _gelus, _gelus_by_tanh = _loop(_silu), _loop(_gelu_erf), _loop(_gelu_by_tanh)
_relus, _caps = _loop(_positive), _loop(_capped)
_sigmoids, _tanhs, _exps = _plain(c.sigmoid), _plain(c.tanh), _plain(c.exp)
_softpluses = _plain(c.softplus)
_quicks, _squares, _mishes = _loop(_quick), _loop(_squared), _loop(_mish)
_sizes, _roots, _inverse_roots = _loop(_size), _loop(_root), _loop(_inverse_root)
_clamps, _leaks, _xielus = _loop(_between), _loop(_leaky), _loop(_xielu)


@compiled
def _apply(function: int, at: int, size: int, p: Any, q: Any, r: Any, s: Any) -> None:
    if function == SILU:
        _silus(at, size, p, q, r, s)
    elif function == GELU:
        _gelus(at, size, p, q, r, s)
    elif function == GELU_TANH:
        _gelus_by_tanh(at, size, p, q, r, s)
    elif function == RELU:
        _relus(at, size, p, q, r, s)
    elif function == SIGMOID:
        _sigmoids(at, size, p, q, r, s)
    elif function == TANH:
        _tanhs(at, size, p, q, r, s)
    elif function == EXP:
        _exps(at, size, p, q, r, s)
    elif function == SOFTPLUS:
        _softpluses(at, size, p, q, r, s)
    elif function == SOFTCAP:
        _caps(at, size, p, q, r, s)
    else:
        _apply_more(function, at, size, p, q, r, s)


@compiled
def _apply_more(function: int, at: int, size: int, p: Any, q: Any, r: Any, s: Any) -> None:
    if function == QUICK_GELU:
        _quicks(at, size, p, q, r, s)
    elif function == SQUARED_RELU:
        _squares(at, size, p, q, r, s)
    elif function == MISH:
        _mishes(at, size, p, q, r, s)
    elif function == ABS:
        _sizes(at, size, p, q, r, s)
    elif function == SQRT:
        _roots(at, size, p, q, r, s)
    elif function == RSQRT:
        _inverse_roots(at, size, p, q, r, s)
    elif function == CLAMP:
        _clamps(at, size, p, q, r, s)
    elif function == LEAKY_RELU:
        _leaks(at, size, p, q, r, s)
    else:
        _xielus(at, size, p, q, r, s)


@compiled
def unary(
    function: int, source: int, kind: int, out: int, out_kind: int, count: int, p: float,
    q: float, r: float, s: float, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Apply a function with up to four numbers to this part's elements."""
    first, last = count * part // parts, count * (part + 1) // parts
    while first < last:
        size = min(CHUNK, last - first)
        read(source + first * size_of(kind), kind, scratch, size)
        _apply(function, scratch, size, np.float32(p), np.float32(q), np.float32(r), np.float32(s))
        write(scratch, out + first * size_of(out_kind), out_kind, size)
        first += size


def _lower(target: Builder, operation: Operation, function: int, *numbers: float) -> bool:
    x, (out,) = operation.inputs[0], operation.outputs
    if function == UNCOMPILED or not (isinstance(x, Buffer) and isinstance(out, Buffer)):
        return False
    target.reserve(4 * CHUNK)
    target.emit(
        opcodes.UNARY, function, target.at(x), kind_of(x.dtype), target.at(out),
        kind_of(out.dtype), target.tokens(x.elements), reals=numbers,
    )  # fmt: skip
    return True


def lower_unary(target: Builder, operation: Operation) -> bool:
    """Emit a function of its own name."""
    return _lower(target, operation, UNARIES[operation.op][0])


def lower_activation(target: Builder, operation: Operation) -> bool:
    """Emit the function of a name."""
    return _lower(target, operation, NAMED[word(operation.attrs, "act", "")][0])


def lower_softcap(target: Builder, operation: Operation) -> bool:
    """Emit a smooth bound."""
    return _lower(target, operation, SOFTCAP, number(operation.attrs, "cap", 0.0))


def lower_clamp(target: Builder, operation: Operation) -> bool:
    """Emit sharp bounds; one that is absent is infinite."""
    low, high = number(operation.attrs, "low", -math.inf), number(operation.attrs, "high", math.inf)
    return _lower(target, operation, CLAMP, low, high)


def lower_leaky_relu(target: Builder, operation: Operation) -> bool:
    """Emit a share of what is negative."""
    return _lower(target, operation, LEAKY_RELU, number(operation.attrs, "slope", 0.01))


def lower_xielu(target: Builder, operation: Operation) -> bool:
    """Emit the function with its weights' values in the instruction."""
    held = [place.array for place in operation.inputs[1:] if isinstance(place, Fixed)]
    return len(held) == 4 and _lower(target, operation, XIELU, *_slopes(held))


FUNCTIONS = {
    name: Kernel(_reference(function), lower_unary, as_first)
    for name, (_, function) in UNARIES.items()
}
NUMBERED = {
    "activation": Kernel(reference_activation, lower_activation, as_first),
    "softcap": Kernel(reference_softcap, lower_softcap, as_first),
    "clamp": Kernel(reference_clamp, lower_clamp, as_first),
    "leaky_relu": Kernel(reference_leaky_relu, lower_leaky_relu, as_first),
    "xielu": Kernel(reference_xielu, lower_xielu, as_first),
}
