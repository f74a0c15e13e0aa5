"""Operations on single elements: arithmetic with broadcasting, activation functions, casts.

Each computes in float32 and rounds once. A second operand may have fewer axes (it repeats over the leading ones) or
be a literal. Fusing several of them is not done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from device_model.kernels import compiled as c
from device_model.kernels import opcodes
from device_model.kernels.call import Call, number
from device_model.kernels.compiled import floats, read, size_of, write
from device_model.kernels.deferred import compiled
from device_model.kernels.kernel import Kernel, as_first, declared
from device_model.numerics import Array, wide
from device_model.places import Buffer, Held, Item
from device_model.program import Argument, Builder, kind_of

ADD, SUBTRACT, MULTIPLY, DIVIDE = 0, 1, 2, 3
SILU, GELU, GELU_TANH, RELU, SIGMOID, TANH, EXP, SOFTPLUS, SOFTCAP = 0, 1, 2, 3, 4, 5, 6, 7, 8
CHUNK = 2048
"""Elements that are staged at a time, so that they stay in the first-level cache."""

Binary = Callable[[Array, Array], Array]
BINARIES: dict[str, tuple[int, Binary]] = {
    "add": (ADD, np.add),
    "subtract": (SUBTRACT, np.subtract),
    "multiply": (MULTIPLY, np.multiply),
    "divide": (DIVIDE, np.divide),
}

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _gelu_tanh(x: Array) -> Array:
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))


def _gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1.0 + (_erf(x / math.sqrt(2.0)) if x.size else x)))


Unary = Callable[[Array], Array]
UNARIES: dict[str, tuple[int, Unary]] = {
    "silu": (SILU, lambda x: np.asarray(x * _sigmoid(x))),
    "gelu": (GELU, _gelu),
    "gelu_tanh": (GELU_TANH, _gelu_tanh),
    "relu": (RELU, lambda x: np.maximum(x, 0.0)),
    "sigmoid": (SIGMOID, _sigmoid),
    "tanh": (TANH, np.tanh),
    "exp": (EXP, np.exp),
    "softplus": (SOFTPLUS, lambda x: np.logaddexp(x, 0.0)),
}


def _reference_binary(function: Binary) -> Callable[[Call], tuple[Array, ...]]:
    def reference(call: Call) -> tuple[Array, ...]:
        a, b = wide(call.array(0)), _second(call)
        if call.attrs.get("reverse", False):
            a, b = b, a
        return (function(a, b),)

    return reference


def _second(call: Call) -> Array:
    b = call.optional("y")
    return np.asarray(call.number("scalar", 0.0), np.float32) if b is None else wide(b)


def _reference_unary(function: Unary) -> Callable[[Call], tuple[Array, ...]]:
    def reference(call: Call) -> tuple[Array, ...]:
        with np.errstate(over="ignore"):
            return (function(call.array(0).astype(np.float64)).astype(np.float32),)

    return reference


def reference_softcap(call: Call) -> tuple[Array, ...]:
    """Return cap * tanh(x / cap)."""
    cap = call.number("cap", 0.0)
    return ((np.tanh(call.array(0).astype(np.float64) / cap) * cap).astype(np.float32),)


def reference_cast(call: Call) -> tuple[Array, ...]:
    """Return the value; the executor rounds it to the declared format."""
    return (call.array(0),)


@compiled
def convert(
    source: int, kind: int, target: int, target_kind: int, count: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy this part's elements to another format."""
    first, last = count * part // parts, count * (part + 1) // parts
    while first < last:
        size = min(CHUNK, last - first)
        read(source + first * size_of(kind), kind, scratch, size)
        write(scratch, target + first * size_of(target_kind), target_kind, size)
        first += size


@compiled
def binary(
    function: int, a: int, a_kind: int, b: int, b_kind: int, out: int, out_kind: int, rows: int,
    width: int, period: int, reverse: int, scalar: float, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Combine this part's rows; `b` repeats every `period` rows, and is a literal where its address is 0."""
    right_at = scratch + 4 * CHUNK
    left, right = floats(scratch, CHUNK), floats(right_at, CHUNK)
    chunks = (width + CHUNK - 1) // CHUNK
    total = rows * chunks
    for index in range(total * part // parts, total * (part + 1) // parts):
        row = index // chunks
        start = index % chunks * CHUNK
        size = min(CHUNK, width - start)
        at = row * width + start
        read(a + at * size_of(a_kind), a_kind, scratch, size)
        if b == 0:
            for i in range(size):
                right[i] = np.float32(scalar)
        else:
            read(b + (row % period * width + start) * size_of(b_kind), b_kind, right_at, size)
        if reverse:
            for i in range(size):
                left[i], right[i] = right[i], left[i]
        if function == ADD:
            for i in range(size):
                left[i] = left[i] + right[i]
        elif function == SUBTRACT:
            for i in range(size):
                left[i] = left[i] - right[i]
        elif function == MULTIPLY:
            for i in range(size):
                left[i] = left[i] * right[i]
        else:
            for i in range(size):
                left[i] = left[i] / right[i]
        write(scratch, out + at * size_of(out_kind), out_kind, size)


_SQRT_HALF = np.float32(math.sqrt(0.5))
_SQRT_2_PI = np.float32(math.sqrt(2.0 / math.pi))
_CUBIC, _HALF, _ONE, _ZERO = np.float32(0.044715), np.float32(0.5), np.float32(1), np.float32(0)


@compiled
def _silu(x: Any, cap: Any) -> Any:
    return x * c.sigmoid(x)


@compiled
def _gelu_erf(x: Any, cap: Any) -> Any:
    return _HALF * x * (_ONE + c.erf(x * _SQRT_HALF))


@compiled
def _gelu_by_tanh(x: Any, cap: Any) -> Any:
    return _HALF * x * (_ONE + c.tanh(_SQRT_2_PI * (x + _CUBIC * x * x * x)))


@compiled
def _relu(x: Any, cap: Any) -> Any:
    return max(x, _ZERO)


@compiled
def _capped(x: Any, cap: Any) -> Any:
    return cap * c.tanh(x / cap)


def _loop(function: Callable[..., Any]) -> Callable[[int, int, Any], None]:
    """Make the loop that applies a function of an element and the cap to staged elements."""

    @compiled
    def loop(at: int, count: int, cap: Any) -> None:
        x = floats(at, count)
        for i in range(count):
            x[i] = function(x[i], cap)

    result: Callable[[int, int, Any], None] = loop
    return result


def _plain(function: Callable[..., Any]) -> Callable[[int, int, Any], None]:
    @compiled
    def ignoring(x: Any, cap: Any) -> Any:
        return function(x)

    return _loop(ignoring)


_silus, _gelus, _gelus_by_tanh = _loop(_silu), _loop(_gelu_erf), _loop(_gelu_by_tanh)
_relus, _caps = _loop(_relu), _loop(_capped)
_sigmoids, _tanhs, _exps = _plain(c.sigmoid), _plain(c.tanh), _plain(c.exp)
_softpluses = _plain(c.softplus)


@compiled
def unary(
    function: int, source: int, kind: int, out: int, out_kind: int, count: int, cap: float,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Apply a function to this part's elements."""
    first, last = count * part // parts, count * (part + 1) // parts
    bound = np.float32(cap)
    while first < last:
        size = min(CHUNK, last - first)
        read(source + first * size_of(kind), kind, scratch, size)
        if function == SILU:
            _silus(scratch, size, bound)
        elif function == GELU:
            _gelus(scratch, size, bound)
        elif function == GELU_TANH:
            _gelus_by_tanh(scratch, size, bound)
        elif function == RELU:
            _relus(scratch, size, bound)
        elif function == SIGMOID:
            _sigmoids(scratch, size, bound)
        elif function == TANH:
            _tanhs(scratch, size, bound)
        elif function == EXP:
            _exps(scratch, size, bound)
        elif function == SOFTPLUS:
            _softpluses(scratch, size, bound)
        else:
            _caps(scratch, size, bound)
        write(scratch, out + first * size_of(out_kind), out_kind, size)
        first += size


def lower_binary(target: Builder, item: Item) -> bool:
    """Emit arithmetic where the second operand is a literal or repeats over leading axes."""
    a, *others = item.inputs
    (out,) = item.outputs
    reverse = bool(item.attrs.get("reverse", False))
    if isinstance(a, Held) and others:
        a, others, reverse = others[0], [a], not reverse
    if not (isinstance(a, Buffer) and isinstance(out, Buffer)) or a.shape != out.shape:
        return False
    second: tuple[Argument, int] = (0, 0)
    rows, width, period = target.rows(), a.elements, 1
    if others:
        b = others[0]
        if isinstance(b, Buffer):
            if b.shape != a.shape:
                return False
            period = 1 << 62
        elif isinstance(b, Held):
            if b.array.shape != a.shape[len(a.shape) - b.array.ndim :]:
                return False
            width = prod(b.array.shape)
            rows = target.rows(a.elements // width)
        else:
            return False
        dtype = b.dtype if isinstance(b, Buffer) else b.array.dtype
        second = (target.at(b), kind_of(dtype))
    target.reserve(8 * CHUNK)
    target.emit(
        opcodes.BINARY, BINARIES[item.op][0], target.at(a), kind_of(a.dtype), *second,
        target.at(out), kind_of(out.dtype), rows, width, period,
        int(reverse),
        reals=(number(item.attrs, "scalar", 0.0),),
    )  # fmt: skip
    return True


def lower_unary(target: Builder, item: Item) -> bool:
    """Emit an activation function."""
    (x,), (out,) = item.inputs, item.outputs
    if not (isinstance(x, Buffer) and isinstance(out, Buffer)):
        return False
    function = SOFTCAP if item.op == "softcap" else UNARIES[item.op][0]
    target.reserve(4 * CHUNK)
    target.emit(
        opcodes.UNARY, function, target.at(x), kind_of(x.dtype), target.at(out),
        kind_of(out.dtype), target.rows(x.elements), reals=(number(item.attrs, "cap", 0.0),),
    )  # fmt: skip
    return True


def lower_cast(target: Builder, item: Item) -> bool:
    """Emit a change of format."""
    (x,), (out,) = item.inputs, item.outputs
    if not (isinstance(x, Buffer) and isinstance(out, Buffer)):
        return False
    target.reserve(4 * CHUNK)
    target.emit(
        opcodes.CONVERT, target.at(x), kind_of(x.dtype), target.at(out), kind_of(out.dtype),
        target.rows(x.elements),
    )  # fmt: skip
    return True


ARITHMETIC = {
    name: Kernel(_reference_binary(function), lower_binary)
    for name, (_, function) in BINARIES.items()
}
FUNCTIONS = {
    name: Kernel(_reference_unary(function), lower_unary, as_first)
    for name, (_, function) in UNARIES.items()
}
SOFTCAP_KERNEL = Kernel(reference_softcap, lower_unary, as_first)
CAST = Kernel(reference_cast, lower_cast, declared)
