# SPDX-License-Identifier: Apache-2.0
"""Match the arguments of an operation with its parameters, and apply its shape rule.

Errors become diagnostics that point at the argument. What arguments mean is asked of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, counted, did_you_mean
from dsl.graph import Attr
from dsl.inference.scope import LayerIndex, Meaning, Poison, Tensor
from dsl.linking.static import MeshAxis, Static, StaticError, Unknown, show
from dsl.ops import OPS
from dsl.ops.spec import OpSpec, Param, Required, Role
from dsl.symbolic import Poly, equal, symbol
from dsl.text import syntax as sx
from dsl.types import DTYPES, DType


@dataclass(frozen=True, slots=True)
class Argument:
    """A parameter with the expressions given for it."""

    param: Param
    exprs: tuple[sx.Expr, ...]


def match_arguments(spec: OpSpec, call: sx.Call) -> dict[str, Argument]:
    """Return the arguments of a call by parameter name; raises `StaticError` for a mismatch."""
    taken: dict[str, Argument] = {}
    rest = list(call.arguments)
    for param in spec.params:
        if not rest:
            break
        count = len(rest) if param.variadic else 1
        taken[param.name] = Argument(param, tuple(rest[:count]))
        del rest[:count]
    if rest:
        message = f"{spec.name} takes {counted(len(spec.params), 'argument')}: {spec.signature}"
        raise StaticError(Diagnostic("S204", message, rest[0].span))
    known = {p.name: p for p in spec.params}
    for keyword in call.keywords:
        name = keyword.name.id
        if name not in known:
            help_ = did_you_mean(name, known) or f"it is {spec.signature}"
            message = f"{spec.name} has no parameter `{name}`"
            raise StaticError(Diagnostic("S204", message, keyword.name.span, help=help_))
        if name in taken:
            message = f"{spec.name} gets `{name}` twice"
            raise StaticError(Diagnostic("S204", message, keyword.span))
        taken[name] = Argument(known[name], (keyword.value,))
    _complete(spec, call, taken)
    return taken


def _complete(spec: OpSpec, call: sx.Call, taken: Mapping[str, Argument]) -> None:
    missing = [
        p.name for p in spec.params if isinstance(p.default, Required) and p.name not in taken
    ]
    if missing:
        message = f"{spec.name} needs {', '.join(f'`{m}`' for m in missing)}"
        help_ = f"it is {spec.signature}"
        raise StaticError(Diagnostic("S204", message, call.span, help=help_))


def attribute(param: Param, expr: sx.Expr, value: Static, context: str) -> Attr | Unknown:
    """Return a static argument in the form its role asks for; raises `StaticError` if it cannot be."""
    if isinstance(value, Unknown) and param.role in _OPEN:
        return value
    converted = _CONVERT[param.role](param, value, context)
    if converted is None:
        wanted = f"a {param.role.value}"
        help_ = f"write {context}" if param.role is Role.CONTEXT else ""
        if param.role is Role.CHOICE:
            wanted = " or ".join(f'"{c}"' for c in param.choices)
            help_ = did_you_mean(value, param.choices) if isinstance(value, str) else ""
        if param.role is Role.DTYPE and isinstance(value, str):
            help_ = did_you_mean(value, DTYPES)
        message = f"`{param.name}` is {show(value)}; {wanted} is needed"
        raise StaticError(Diagnostic("S207", message, expr.span, help=help_))
    return converted


def _dim(param: Param, value: Static, context: str) -> Attr | None:
    ok = isinstance(value, Poly) or (
        isinstance(value, int) and not isinstance(value, bool) and value >= 0
    )
    return value if ok and isinstance(value, (int, Poly)) else None


def _float(param: Param, value: Static, context: str) -> Attr | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Poly)):
        return None
    return value if isinstance(value, Poly) else float(value)


def _floats(param: Param, value: Static, context: str) -> Attr | None:
    items = value if isinstance(value, tuple) else (None,)
    if any(isinstance(item, bool) or not isinstance(item, (int, float)) for item in items):
        return None
    return tuple(float(item) for item in items if isinstance(item, (int, float)))


def _dtype(param: Param, value: Static, context: str) -> Attr | None:
    if isinstance(value, DType):
        return value
    return DTYPES.get(value) if isinstance(value, str) else None


_OPEN = frozenset({Role.FLOAT, Role.FLOATS, Role.BOOL, Role.CHOICE, Role.DIM})
"""Roles whose argument may be known to the config alone."""

_CONVERT: Mapping[Role, Callable[[Param, Static, str], Attr | None]] = {
    Role.DIM: _dim,
    Role.FLOAT: _float,
    Role.FLOATS: _floats,
    Role.BOOL: lambda p, v, c: v if isinstance(v, bool) else None,
    Role.CHOICE: lambda p, v, c: v if isinstance(v, str) and v in p.choices else None,
    Role.DTYPE: _dtype,
    Role.MESH: lambda p, v, c: v.name if isinstance(v, MeshAxis) else None,
    Role.BATCH_MESH: lambda p, v, c: (
        v.name if isinstance(v, MeshAxis) and v.splits_batch is not False else None
    ),
    Role.CONTEXT: lambda p, v, c: v if isinstance(v, Poly) and equal(v, symbol(c)) else None,
}


def single(meaning: Meaning, expr: sx.Expr) -> int | Poison:
    """Return the one value an argument stands for; raises `StaticError` for anything else."""
    if isinstance(meaning, Poison):
        return meaning
    if not isinstance(meaning, Tensor):
        shown = meaning.variable if isinstance(meaning, LayerIndex) else show(meaning)
        message = f"a tensor is needed here; this is {shown}"
        raise StaticError(Diagnostic("S207", message, expr.span))
    if len(meaning.ids) != 1:
        message = f"this gives {len(meaning.ids)} values; assign them to names first"
        raise StaticError(Diagnostic("S205", message, expr.span))
    return meaning.ids[0]


def operator_op(sign: str) -> str | None:
    """Return the operation that an arithmetic operator stands for."""
    return {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}.get(sign)


def is_op(name: str) -> bool:
    """Tell whether a name is an operation's."""
    return name in OPS
