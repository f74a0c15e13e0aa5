# SPDX-License-Identifier: Apache-2.0
"""Dimensions: Python integers, or polynomials in named positive integers, and functions of them as symbols.

Expressions are built from names and integers, never from text; equality is equality of expanded polynomials. It
deliberately has no simplification, no assumptions and no answer where it cannot prove.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from dsl.formula_text import Coefficient, Monomial
from dsl.polynomials import (
    SUMS,
    Dim,
    Poly,
    TooComplex,
    factors,
    inverse,
    made,
    parts_of,
    product,
    text,
)

__all__ = [
    "OPAQUE", "Dim", "Opaque", "Poly", "TooComplex", "at_least", "definition", "equal", "evaluate", "evaluate_over",
    "named", "names", "opaque", "quotient", "ratio", "substitute", "symbol", "terms", "text",
]  # fmt: skip

MAX_NAME = 2000


def terms(value: Dim) -> int:
    """Return how many terms a dimension is the sum of."""
    return len(value.parts) if isinstance(value, Poly) else 1


@lru_cache(maxsize=4096)
def symbol(name: str) -> Poly:
    """Return the positive integer of this name."""
    return Poly({((name, 1),): 1})


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
    if b == 0:
        return None
    result = ratio(a, b)
    return result if _is_polynomial(result) else None


def _is_polynomial(value: Dim) -> bool:
    return all(
        isinstance(coefficient, int) and all(exponent > 0 for _, exponent in monomial)
        for monomial, coefficient in parts_of(value).items()
    )


@lru_cache(maxsize=65536)
def ratio(a: Dim, b: Dim) -> Dim:
    """Return a / b as a formula; the caller has proved or recorded that b divides a."""
    if a == b:
        return 1
    if isinstance(b, int):
        return product(a, _constant(Fraction(1, b)))
    return product(a, inverse(b, f"({text(b)})"))


def _constant(value: Fraction) -> Dim:
    return value.numerator if value.denominator == 1 else Poly({(): value})


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
    if not isinstance(value, Poly) or len(value.parts) != 1:
        return None
    ((monomial, coefficient),) = value.parts.items()
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    return _DEFINITIONS.get(monomial[0][0])


def at_least(a: Dim, b: Dim) -> bool | None:
    """Tell whether a >= b for all positive values; None when it cannot be proved."""
    if isinstance(a, int) and isinstance(b, int):
        return a >= b
    return True if all(c >= 0 for c in parts_of(a - b).values()) else None


def names(value: Dim) -> frozenset[str]:
    """Return the names that a dimension depends on, also through opaque functions."""
    if isinstance(value, int):
        return frozenset()
    atoms: set[str] = set()
    for name in factors(value):
        function = _DEFINITIONS.get(name)
        if function is not None:
            atoms |= names(function.a) | names(function.b)
        else:
            atoms |= names(SUMS[name]) if name in SUMS else {name}
    return frozenset(atoms)


def substitute(value: Dim, values: Mapping[str, Dim]) -> Dim:
    """Replace names by dimensions."""
    if isinstance(value, int):
        return value
    table = {name: _replaced(name, values) for name in factors(value)}
    changed = {name: new for name, new in table.items() if new is not None}
    if not changed:
        return value
    total: Dim = 0
    for monomial, coefficient in value.parts.items():
        total = total + _term(monomial, coefficient, changed)
    return total


def _replaced(name: str, values: Mapping[str, Dim]) -> Dim | None:
    """Return what a factor becomes, none where it stays."""
    function = _DEFINITIONS.get(name)
    if function is not None:
        new = opaque(
            function.function, substitute(function.a, values), substitute(function.b, values)
        )
        return None if new == symbol(name) else new
    if name in SUMS:
        new = substitute(SUMS[name], values)
        return None if new == SUMS[name] else new
    return values.get(name)


def _term(monomial: Monomial, coefficient: Coefficient, changed: Mapping[str, Dim]) -> Dim:
    """Return one term with some of its factors replaced."""
    left = tuple((name, exponent) for name, exponent in monomial if name not in changed)
    term = made({left: coefficient})
    for name, exponent in monomial:
        for _ in range(abs(exponent) if name in changed else 0):
            new = changed[name]
            term = product(term, new) if exponent > 0 else ratio(term, new)
    return term


def evaluate(value: Dim, values: Mapping[str, int]) -> Fraction:
    """Return the exact value; raises `KeyError` for a name without one."""
    if isinstance(value, int):
        return Fraction(value)
    table = {name: _value_of(name, values) for name in factors(value)}
    total = Fraction(0)
    for monomial, coefficient in value.parts.items():
        above, below = coefficient.numerator, coefficient.denominator
        for name, exponent in monomial:
            at = table[name] ** exponent
            above, below = above * at.numerator, below * at.denominator
        total += Fraction(above, below)
    return total


def _value_of(name: str, values: Mapping[str, int]) -> Fraction:
    function = _DEFINITIONS.get(name)
    if function is not None:
        return OPAQUE[function.function](evaluate(function.a, values), evaluate(function.b, values))
    return evaluate(SUMS[name], values) if name in SUMS else Fraction(values[name])


def evaluate_over(
    value: Dim, values: Mapping[str, Any], functions: Mapping[str, Callable[[Any, Any], Any]]
) -> Any:
    """Return the value over numbers of any kind, such as arrays of points, with their own operators.

    `functions` computes what `OPAQUE` does on such numbers. A division is the last step of a term, so that floats give
    an exact quotient where there is one. Raises `KeyError` for a name without a value.
    """
    if isinstance(value, int):
        return value
    table = {name: _over(name, values, functions) for name in factors(value)}
    first, *rest = (_term_over(m, value.parts[m], table) for m in sorted(value.parts))
    for term in rest:
        first = first + term
    return first


def _over(
    name: str, values: Mapping[str, Any], functions: Mapping[str, Callable[[Any, Any], Any]]
) -> Any:
    function = _DEFINITIONS.get(name)
    if function is not None:
        a, b = (evaluate_over(d, values, functions) for d in (function.a, function.b))
        return functions[function.function](a, b)
    return evaluate_over(SUMS[name], values, functions) if name in SUMS else values[name]


def _term_over(monomial: Monomial, coefficient: Coefficient, table: Mapping[str, Any]) -> Any:
    above: Any = coefficient.numerator
    below: Any = coefficient.denominator
    for name, exponent in monomial:
        powered = table[name] ** abs(exponent)
        above, below = (above * powered, below) if exponent > 0 else (above, below * powered)
    return above if isinstance(below, int) and below == 1 else above / below
