# SPDX-License-Identifier: Apache-2.0
"""The compiled functions of single elements, and the instruction that applies one of them.

Which operation is which function is said where the operation is. Nothing here adds or moves anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from device_model.machine import elementary as c
from device_model.machine.deferred import compiled
from device_model.machine.elementary import CHUNK, floats, read, size_of, write
from device_model.program.builder import Builder, kind_of
from device_model.program.instruction import Instruction
from device_model.program.places import Buffer, Operation

SILU, GELU, GELU_TANH, RELU, SIGMOID, TANH, EXP, SOFTPLUS, SOFTCAP = 0, 1, 2, 3, 4, 5, 6, 7, 8
QUICK_GELU, SQUARED_RELU, MISH, ABS, SQRT, RSQRT, CLAMP, LEAKY_RELU, XIELU = (
    9, 10, 11, 12, 13, 14, 15, 16, 17,
)  # fmt: skip
UNCOMPILED = -1


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
    """Apply a function with up to four numbers to this part of source[count] kind, into out[count] out_kind."""
    first, last = count * part // parts, count * (part + 1) // parts
    while first < last:
        size = min(CHUNK, last - first)
        read(source + first * size_of(kind), kind, scratch, size)
        _apply(function, scratch, size, np.float32(p), np.float32(q), np.float32(r), np.float32(s))
        write(scratch, out + first * size_of(out_kind), out_kind, size)
        first += size


UNARY = Instruction.of("unary", unary)


def lower(
    target: Builder, operation: Operation, function: int, p: float = 0.0, q: float = 0.0,
    r: float = 0.0, s: float = 0.0,
) -> bool:  # fmt: skip
    """Emit a function with its numbers, if it has a compiled loop."""
    x, (out,) = operation.inputs[0], operation.outputs
    if function == UNCOMPILED or not (isinstance(x, Buffer) and isinstance(out, Buffer)):
        return False
    target.reserve(4 * CHUNK)
    target.emit(
        UNARY, function=function, source=target.at(x), kind=kind_of(x.dtype), out=target.at(out),
        out_kind=kind_of(out.dtype), count=target.tokens(x.elements), p=p, q=q, r=r, s=s,
    )  # fmt: skip
    return True
