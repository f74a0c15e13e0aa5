"""Dimensions: Python integers, or polynomials in named positive integers.

The only module that touches sympy. Expressions are built from names and integers, never from text; equality is equality
of expanded polynomials. It deliberately has no `simplify`, no assumptions database and no answer where it cannot prove.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

import sympy

MAX_OPERATIONS = 400


class Poly:
    """A non-constant canonical polynomial; constants are plain integers (see `Dim`)."""

    __slots__ = ("expr",)

    def __init__(self, expr: sympy.Expr) -> None:
        self.expr = expr

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.expr == other.expr

    def __hash__(self) -> int:
        return hash(self.expr)

    def __repr__(self) -> str:
        return text(self)

    def __add__(self, other: Dim) -> Dim:
        return _canonical(self.expr + _expr(other))

    __radd__ = __add__

    def __sub__(self, other: Dim) -> Dim:
        return _canonical(self.expr - _expr(other))

    def __rsub__(self, other: Dim) -> Dim:
        return _canonical(_expr(other) - self.expr)

    def __mul__(self, other: Dim) -> Dim:
        return _canonical(self.expr * _expr(other))

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return _canonical(-self.expr)


Dim: TypeAlias = int | Poly


class TooComplex(Exception):
    """Raised when an expression grows past `MAX_OPERATIONS` terms; callers turn it into a diagnostic."""


def _expr(value: Dim) -> sympy.Expr:
    return value.expr if isinstance(value, Poly) else sympy.Integer(value)


def _wrap(expr: sympy.Expr) -> Dim:
    return int(expr) if expr.is_Integer else Poly(expr)


@lru_cache(maxsize=65536)
def _canonical(expr: sympy.Expr) -> Dim:
    expanded = sympy.expand(expr)
    if isinstance(expanded, sympy.Add) and len(expanded.args) > MAX_OPERATIONS:
        raise TooComplex(f"an expression of {len(expanded.args)} terms")
    return _wrap(expanded)


@lru_cache(maxsize=4096)
def symbol(name: str) -> Poly:
    """Return the positive integer of this name."""
    return Poly(sympy.Symbol(name, integer=True, positive=True))


def equal(a: Dim, b: Dim) -> bool:
    """Tell whether two dimensions are the same polynomial."""
    return a == b


def quotient(a: Dim, b: Dim) -> Dim | None:
    """Return a / b where the division is exact as a polynomial, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    if a == b:
        return 1
    if b == 0:
        return None
    result = sympy.expand(_expr(a) / _expr(b))
    return _wrap(result) if _is_polynomial(result) else None


def _is_polynomial(expr: sympy.Expr) -> bool:
    for term in sympy.Add.make_args(expr):
        for factor in sympy.Mul.make_args(term):
            if factor.is_Rational and not factor.is_Integer:
                return False
            if isinstance(factor, sympy.Pow) and not (factor.exp.is_Integer and factor.exp > 0):
                return False
    return True


def ratio(a: Dim, b: Dim) -> Dim:
    """Return a / b as a formula; the caller has proved or recorded that b divides a."""
    if isinstance(a, int) and isinstance(b, int) and b and a % b == 0:
        return a // b
    return _canonical(_expr(a) / _expr(b))


def opaque(function: str, a: Dim, b: Dim) -> Dim:
    """Return a positive symbol that stands for a non-polynomial function of two dimensions."""
    return symbol(f"{function}({text(a)}, {text(b)})")


def at_least(a: Dim, b: Dim) -> bool | None:
    """Tell whether a >= b for all positive values; None when it cannot be proved."""
    if isinstance(a, int) and isinstance(b, int):
        return a >= b
    difference = _expr(a - b) if isinstance(a, Poly) else _expr(-(b - a))
    terms = [_coefficient(term) for term in sympy.Add.make_args(difference)]
    if all(c >= 0 for c in terms):
        return True
    return None


def _coefficient(term: sympy.Expr) -> sympy.Rational:
    return term.as_coeff_Mul()[0]


def names(value: Dim) -> frozenset[str]:
    """Return the names that a dimension depends on."""
    if isinstance(value, int):
        return frozenset()
    return frozenset(s.name for s in value.expr.free_symbols)


def substitute(value: Dim, values: Mapping[str, Dim]) -> Dim:
    """Replace names by dimensions."""
    if isinstance(value, int):
        return value
    table = {s: _expr(values[s.name]) for s in value.expr.free_symbols if s.name in values}
    return _canonical(value.expr.xreplace(table)) if table else value


def evaluate(value: Dim, values: Mapping[str, int]) -> Fraction:
    """Return the exact value; raises `KeyError` for a name without one."""
    if isinstance(value, int):
        return Fraction(value)
    table = {s: sympy.Integer(values[s.name]) for s in value.expr.free_symbols}
    result = value.expr.xreplace(table)
    return Fraction(int(result.p), int(result.q))


def function(value: Dim, arguments: tuple[str, ...]) -> Callable[..., float]:
    """Compile a dimension into a fast function of the named arguments.

    The names become fresh dummy symbols, so that no text of a file reaches the code generator.
    """
    dummies = {name: sympy.Symbol(f"a{i}") for i, name in enumerate(arguments)}
    expr = _expr(value)
    table = {s: dummies[s.name] for s in expr.free_symbols}
    compiled: Callable[..., float] = sympy.lambdify(
        list(dummies.values()), expr.xreplace(table), modules="math"
    )
    return compiled


def text(value: Dim) -> str:
    """Return a dimension as a person writes it, factored where that is shorter."""
    if isinstance(value, int):
        return str(value)
    return _text(value.expr)


@lru_cache(maxsize=65536)
def _text(expr: sympy.Expr) -> str:
    if isinstance(expr, sympy.Symbol):
        return str(expr.name)
    plain: str = sympy.sstr(expr, order="grlex")
    if not isinstance(expr, sympy.Add):
        return plain
    factored: str = sympy.sstr(sympy.factor_terms(expr), order="grlex")
    return min(plain, factored, key=len)
