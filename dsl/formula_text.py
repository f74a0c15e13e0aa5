# SPDX-License-Identifier: Apache-2.0
"""Dimensions as a person writes them: terms of high degree first, factored where that is shorter.

What sympy writes of the same polynomial, without sympy where that is plain: to load it takes longer than most checks.
Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import gcd
from typing import Any, TypeAlias

Coefficient: TypeAlias = int | Fraction
Monomial: TypeAlias = tuple[tuple[str, int], ...]
"""Names in order, each with its exponent, which is not 0 and may be below."""
Parts: TypeAlias = Mapping[Monomial, Coefficient]
SumOf: TypeAlias = Callable[[str], Parts | None]
"""What a name stands for that is a sum below a fraction line; none for any other name."""


def text_of(parts: Parts, sum_of: SumOf) -> str:
    """Return the text of the sum of some terms, of which there is at least one."""
    if any(sum_of(name) is not None for monomial in parts for name, _ in monomial):
        return by_sympy(parts, sum_of)
    if len(parts) == 1:
        return _term(*next(iter(parts.items())))
    above = all(e > 0 for monomial in parts for _, e in monomial)
    if not above or any(not isinstance(c, int) for c in parts.values()) or max(parts.values()) < 0:
        return by_sympy(parts, sum_of)
    plain = _sum(parts)
    return min(plain, _factored(parts) or plain, key=len)


def _term(monomial: Monomial, coefficient: Coefficient) -> str:
    """Return one term: what is below the line stands behind `/`, in parentheses where it is several factors."""
    sign, coefficient = ("-", -coefficient) if coefficient < 0 else ("", coefficient)
    above = [_power(name, e) for name, e in monomial if e > 0]
    below = [_power(name, -e) for name, e in monomial if e < 0]
    if coefficient.numerator != 1 or not above:
        above.insert(0, str(coefficient.numerator))
    if coefficient.denominator != 1:
        below.insert(0, str(coefficient.denominator))
    line = "*".join(above)
    if not below:
        return sign + line
    return f"{sign}{line}/{below[0]}" if len(below) == 1 else f"{sign}{line}/({'*'.join(below)})"


def _power(name: str, exponent: int) -> str:
    return name if exponent == 1 else f"{name}**{exponent}"


def _sum(parts: Parts) -> str:
    first, *rest = (_term(monomial, parts[monomial]) for monomial in _ordered(parts))
    more = (f" - {term[1:]}" if term.startswith("-") else f" + {term}" for term in rest)
    return first + "".join(more)


def _ordered(parts: Parts) -> Sequence[Monomial]:
    """Return terms by degree, high ones first, and those of one degree by their names (graded lexicographic)."""
    names = sorted({name for monomial in parts for name, _ in monomial})

    def key(monomial: Monomial) -> tuple[int, tuple[int, ...]]:
        exponents = dict(monomial)
        return -sum(exponents.values()), tuple(-exponents.get(name, 0) for name in names)

    return sorted(parts, key=key)


def _factored(parts: Parts) -> str:
    """Return what all terms share before the sum of what is left; nothing where they share nothing."""
    content = gcd(*(int(c) for c in parts.values()))
    shared = dict(next(iter(parts)))
    for monomial in parts:
        exponents = dict(monomial)
        shared = {name: min(e, exponents.get(name, 0)) for name, e in shared.items()}
    common = tuple((name, e) for name, e in sorted(shared.items()) if e)
    if content == 1 and not common:
        return ""
    inner: dict[Monomial, Coefficient] = {}
    for monomial, coefficient in parts.items():
        left = tuple((n, e - shared.get(n, 0)) for n, e in monomial if e != shared.get(n, 0))
        inner[left] = int(coefficient) // content
    before = [*([str(content)] if content != 1 else []), *(_power(n, e) for n, e in common)]
    return f"{'*'.join(before)}*({_sum(inner)})"


def by_sympy(parts: Parts, sum_of: SumOf) -> str:
    """Return what sympy writes."""
    import sympy  # noqa: PLC0415 - a quarter of a second

    expression = _expression(parts, sum_of, sympy)
    plain: str = sympy.sstr(expression, order="grlex")
    if not isinstance(expression, sympy.Add):
        return plain
    factored: str = sympy.sstr(sympy.factor_terms(expression), order="grlex")
    return min(plain, factored, key=len)


def _expression(parts: Parts, sum_of: SumOf, sympy: Any) -> Any:
    """Return a polynomial of sympy's."""

    def factor(name: str) -> Any:
        below = sum_of(name)
        if below is not None:
            return _expression(below, sum_of, sympy)
        return sympy.Symbol(name, integer=True, positive=True)

    terms = []
    for monomial, coefficient in parts.items():
        number = sympy.Rational(coefficient.numerator, coefficient.denominator)
        terms.append(sympy.Mul(number, *(factor(name) ** exponent for name, exponent in monomial)))
    return sympy.Add(*terms)
