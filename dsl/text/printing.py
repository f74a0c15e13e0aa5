# SPDX-License-Identifier: Apache-2.0
"""Expressions and types as text, with no more parentheses than the grammar needs.

Long calls and lists break once, at the outermost call or list that can; lines and comments are the formatter's.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsl.text import syntax as sx

_BINARY = {
    "or": 1,
    "and": 2,
    **dict.fromkeys(("==", "!=", "<=", ">=", "<", ">", "in"), 4),
    **dict.fromkeys(("+", "-"), 5),
    **dict.fromkeys(("*", "/", "//", "%"), 6),
}
_NOT, _NEGATE, _ATOM = 3, 7, 8
_COMPARISON = 4
INDENT = "  "


def print_expr(expr: sx.Expr) -> str:
    """Return an expression on one line."""
    return _expr(expr, 0, tight=False)


def print_type(type_: sx.TypeSyntax) -> str:
    """Return a type; sizes are printed without spaces."""
    axes = []
    for axis in type_.axes:
        shards = "".join(f" @{name.id}" for name in axis.shards)
        axes.append(f"{_expr(axis.size, 0, tight=True)}{shards}")
    return f"{type_.dtype.id}[{', '.join(axes)}]"


def _expr(expr: sx.Expr, level: int, tight: bool) -> str:
    match expr:
        case sx.Number(text=text):
            return text
        case sx.String(value=value):
            return f'"{value}"'
        case sx.Boolean(value=truth):
            return "true" if truth else "false"
        case sx.Name(id=name):
            return name
        case sx.Index(name=name, index=index):
            return f"{name.id}[{_expr(index, 0, tight)}]"
        case sx.Listing(items=items):
            return f"[{', '.join(_expr(i, 0, tight) for i in items)}]"
        case sx.Call():
            return f"{expr.function.id}({', '.join(_arguments(expr))})"
        case sx.Unary(operator=operator, operand=operand):
            own = _NOT if operator == "not" else _NEGATE
            inner = _expr(operand, own, tight)
            return _wrapped(f"not {inner}" if operator == "not" else f"-{inner}", own, level)
        case sx.Binary(operator=operator, left=left, right=right):
            own = _BINARY[operator]
            chained = own + 1 if own == _COMPARISON else own
            space = "" if tight and own >= 6 else " "
            text = f"{_expr(left, chained, tight)}{space}{operator}{space}{_expr(right, own + 1, tight)}"
            return _wrapped(text, own, level)


def _wrapped(text: str, own: int, level: int) -> str:
    return f"({text})" if own < level else text


def _arguments(call: sx.Call) -> list[str]:
    plain = [print_expr(a) for a in call.arguments]
    return plain + [f"{k.name.id}={print_expr(k.value)}" for k in call.keywords]


@dataclass(frozen=True, slots=True)
class Style:
    """How wide a line may be."""

    width: int

    def broken(self, expr: sx.Expr) -> list[str]:
        """Return an expression over several lines where it is, or ends in, a call or a list."""
        match expr:
            case sx.Call():
                return self._filled(f"{expr.function.id}(", _arguments(expr), ")")
            case sx.Listing(items=items):
                return self._filled("[", [print_expr(i) for i in items], "]")
            case sx.Binary(operator=operator, left=left, right=sx.Call() | sx.Listing() as right):
                own = _BINARY[operator]
                head = _expr(left, own + 1 if own == _COMPARISON else own, tight=False)
                first, *rest = self.broken(right)
                return [f"{head} {operator} {first}", *rest]
        return [print_expr(expr)]

    def _filled(self, opening: str, parts: list[str], closing: str) -> list[str]:
        if not parts:
            return [f"{opening}{closing}"]
        rows: list[str] = []
        for part in parts:
            last = rows[-1] if rows else ""
            if rows and len(last) + len(part) + 3 <= self.width:
                rows[-1] = f"{last} {part},"
            else:
                rows.append(f"{INDENT}{part},")
        rows[-1] = rows[-1][:-1]
        return [opening, *rows, closing]
