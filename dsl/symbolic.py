# SPDX-License-Identifier: Apache-2.0
"""Dimensions: Python integers, or polynomials in named positive integers.

The only module that touches sympy. Expressions are built from names and integers, never from text; equality is equality
of expanded polynomials. It deliberately has no `simplify`, no assumptions database and no answer where it cannot prove.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

import sympy

from dsl.diagnostics import Diagnostic, Refused

MAX_OPERATIONS = 400
MAX_PRODUCTS = 4000
MAX_DEGREE = 64
MAX_NAME = 2000


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
        # A sum of expanded polynomials is one; to expand it again takes most of the time of long ones.
        return _checked(self.expr + _expr(other))

    __radd__ = __add__

    def __sub__(self, other: Dim) -> Dim:
        return _canonical(self.expr - _expr(other))

    def __rsub__(self, other: Dim) -> Dim:
        return _canonical(_expr(other) - self.expr)

    def __mul__(self, other: Dim) -> Dim:
        terms = _terms(self.expr) * _terms(_expr(other))
        if terms > MAX_PRODUCTS:
            raise TooComplex(f"a product of {terms} terms")
        return _canonical(self.expr * _expr(other))

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return _canonical(-self.expr)


Dim: TypeAlias = int | Poly


class TooComplex(Refused):
    """Raised when an expression grows past `MAX_OPERATIONS` terms; callers that know a place give it that."""

    def __init__(self, what: str) -> None:
        super().__init__((Diagnostic("S218", f"{what} is too complex"),))
        self.what = what

    def __str__(self) -> str:
        return self.what

    def __reduce__(self) -> tuple[type[TooComplex], tuple[str]]:  # type: ignore[override]  # from its words
        """Return how another process makes it again."""
        return type(self), (self.what,)


def _expr(value: Dim) -> sympy.Expr:
    return value.expr if isinstance(value, Poly) else sympy.Integer(value)


def _wrap(expr: sympy.Expr) -> Dim:
    return int(expr) if expr.is_Integer else Poly(expr)


@lru_cache(maxsize=65536)
def _canonical(expr: sympy.Expr) -> Dim:
    return _checked(sympy.expand(expr))


def _checked(expanded: sympy.Expr) -> Dim:
    if _terms(expanded) > MAX_OPERATIONS:
        raise TooComplex(f"an expression of {len(expanded.args)} terms")
    if any(_degree(term) > MAX_DEGREE for term in sympy.Add.make_args(expanded)):
        raise TooComplex(f"an expression of a degree above {MAX_DEGREE}")
    return _wrap(expanded)


def _terms(expr: sympy.Expr) -> int:
    return len(expr.args) if isinstance(expr, sympy.Add) else 1


def terms(value: Dim) -> int:
    """Return how many terms a dimension is the sum of."""
    return _terms(value.expr) if isinstance(value, Poly) else 1


def _degree(term: sympy.Expr) -> int:
    """Return the largest exponent of a term, where a coefficient of many digits counts as one."""
    powers = [abs(int(f.exp)) for f in sympy.Mul.make_args(term) if isinstance(f, sympy.Pow)]
    coefficient = term.as_coeff_Mul()[0]
    digits = int(coefficient.p).bit_length() // 8
    return max([digits, *powers])


@lru_cache(maxsize=4096)
def symbol(name: str) -> Poly:
    """Return the positive integer of this name."""
    return Poly(sympy.Symbol(name, integer=True, positive=True))


def named(name: str) -> Poly:
    """Return the positive integer that a computation of this name gives; raises `TooComplex` for a long one."""
    if len(name) > MAX_NAME:
        raise TooComplex(f"an expression of {len(name)} characters")
    return symbol(name)


def equal(a: Dim, b: Dim) -> bool:
    """Tell whether two dimensions are the same polynomial."""
    return a == b


@lru_cache(maxsize=65536)
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


@lru_cache(maxsize=65536)
def ratio(a: Dim, b: Dim) -> Dim:
    """Return a / b as a formula; the caller has proved or recorded that b divides a."""
    if isinstance(a, int) and isinstance(b, int) and b and a % b == 0:
        return a // b
    return _canonical(_expr(a) / _expr(b))


@dataclass(frozen=True, slots=True)
class Opaque:
    """What a symbol stands for that is no polynomial: a function of two dimensions."""

    function: str
    a: Dim
    b: Dim


OPAQUE: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "min": min,
    "max": max,
    "floor": lambda a, b: Fraction(a // b),
    "mod": lambda a, b: a - b * (a // b),
    "ceil_div": lambda a, b: Fraction(-(-a // b)),
}
_DEFINITIONS: dict[str, Opaque] = {}


def opaque(function: str, a: Dim, b: Dim) -> Dim:
    """Return a non-polynomial function of two dimensions: its value, or a positive symbol with this definition."""
    if isinstance(a, int) and isinstance(b, int):
        return int(OPAQUE[function](Fraction(a), Fraction(b)))
    name = f"{function}({text(a)}, {text(b)})"
    if len(name) > MAX_NAME:
        raise TooComplex(f"an expression of {len(name)} characters")
    _DEFINITIONS[name] = Opaque(function, a, b)
    return symbol(name)


def definition(value: Dim) -> Opaque | None:
    """Return what a symbol stands for; None where it is no opaque symbol."""
    if isinstance(value, Poly) and isinstance(value.expr, sympy.Symbol):
        return _DEFINITIONS.get(value.expr.name)
    return None


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
    """Return the names that a dimension depends on, also through opaque functions."""
    if isinstance(value, int):
        return frozenset()
    atoms: set[str] = set()
    for name in (s.name for s in value.expr.free_symbols):
        made = _DEFINITIONS.get(name)
        atoms |= {name} if made is None else names(made.a) | names(made.b)
    return frozenset(atoms)


def substitute(value: Dim, values: Mapping[str, Dim]) -> Dim:
    """Replace names by dimensions."""
    if isinstance(value, int):
        return value
    table: dict[sympy.Symbol, sympy.Expr] = {}
    for s in value.expr.free_symbols:
        made = _DEFINITIONS.get(s.name)
        if made is not None:
            a, b = substitute(made.a, values), substitute(made.b, values)
            table[s] = _expr(opaque(made.function, a, b))
        elif s.name in values:
            table[s] = _expr(values[s.name])
    return _canonical(value.expr.xreplace(table)) if table else value


def evaluate(value: Dim, values: Mapping[str, int]) -> Fraction:
    """Return the exact value; raises `KeyError` for a name without one."""
    if isinstance(value, int):
        return Fraction(value)
    table = {s: _rational(_value_of(s.name, values)) for s in value.expr.free_symbols}
    result = value.expr.xreplace(table)
    return Fraction(int(result.p), int(result.q))


def evaluate_over(
    value: Dim, values: Mapping[str, Any], functions: Mapping[str, Callable[[Any, Any], Any]]
) -> Any:
    """Return the value over numbers of any kind, such as arrays of points, with their own operators.

    `functions` computes what `OPAQUE` does on such numbers. A division is the last step of a term, so that floats give
    an exact quotient where there is one. Raises `KeyError` for a name without a value.
    """
    if isinstance(value, int):
        return value
    return _over(value.expr, values, functions)


def _over(
    expr: sympy.Expr, values: Mapping[str, Any], functions: Mapping[str, Callable[[Any, Any], Any]]
) -> Any:
    if isinstance(expr, sympy.Symbol):
        made = _DEFINITIONS.get(expr.name)
        if made is None:
            return values[expr.name]
        a, b = (evaluate_over(d, values, functions) for d in (made.a, made.b))
        return functions[made.function](a, b)
    if isinstance(expr, sympy.Add):
        first, *rest = (_over(term, values, functions) for term in expr.args)
        for term in rest:
            first = first + term
        return first
    above: Any = 1
    below: Any = 1
    for factor in sympy.Mul.make_args(expr):
        if factor.is_Rational:
            above, below = above * int(factor.p), below * int(factor.q)
            continue
        base, power = factor.as_base_exp()
        powered = _over(base, values, functions) ** abs(int(power))
        above, below = (above * powered, below) if power > 0 else (above, below * powered)
    return above if isinstance(below, int) and below == 1 else above / below


def _value_of(name: str, values: Mapping[str, int]) -> Fraction:
    made = _DEFINITIONS.get(name)
    if made is None:
        return Fraction(values[name])
    return OPAQUE[made.function](evaluate(made.a, values), evaluate(made.b, values))


def _rational(value: Fraction) -> sympy.Rational:
    return sympy.Rational(value.numerator, value.denominator)


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
