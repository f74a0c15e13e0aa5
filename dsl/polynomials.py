# SPDX-License-Identifier: Apache-2.0
"""Polynomials in named positive integers: sums of products of names, with whole or broken coefficients.

A name may stand below a fraction line, and so may a sum, which then has a name of its own. Arithmetic is exact, and
equality is equality of what is written out. Functions, and values at points, are in `symbolic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

from dsl.diagnostics import Diagnostic, Refused
from dsl.formula_text import Coefficient, Monomial, Parts, text_of

MAX_TERMS = 400
MAX_PRODUCTS = 4000
MAX_DEGREE = 64

Terms: TypeAlias = dict[Monomial, Coefficient]


class Poly:
    """A polynomial that is no whole number; those are plain integers (see `Dim`). It does not change."""

    __slots__ = ("_hash", "parts")

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._hash = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.parts == other.parts

    def __hash__(self) -> int:
        if not self._hash:
            self._hash = hash(frozenset(self.parts.items())) or 1
        return self._hash

    def __reduce__(self) -> tuple[type[Poly], tuple[dict[Monomial, Coefficient]]]:
        """Return how another process makes it again: hashes of text are another there."""
        return Poly, (dict(self.parts),)

    def __repr__(self) -> str:
        return text(self)

    def __add__(self, other: Dim) -> Dim:
        return made(_sum(self.parts, parts_of(other), 1))

    __radd__ = __add__

    def __sub__(self, other: Dim) -> Dim:
        return made(_sum(self.parts, parts_of(other), -1))

    def __rsub__(self, other: Dim) -> Dim:
        return made(_sum(parts_of(other), self.parts, -1))

    def __mul__(self, other: Dim) -> Dim:
        return product(self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return Poly({monomial: -c for monomial, c in self.parts.items()})


Dim: TypeAlias = int | Poly

SUMS: dict[str, Poly] = {}
"""Sums that stand below a fraction line, by the name of the factor that they are there."""


def text(value: Dim) -> str:
    """Return a dimension as a person writes it, factored where that is shorter."""
    return _text(value) if isinstance(value, Poly) else str(value)


@lru_cache(maxsize=65536)
def _text(value: Poly) -> str:
    return text_of(value.parts, lambda name: SUMS[name].parts if name in SUMS else None)


class TooComplex(Refused):
    """Raised when an expression grows past `MAX_TERMS` terms; callers that know a place give it that."""

    def __init__(self, what: str) -> None:
        super().__init__((Diagnostic("S218", f"{what} is too complex"),))
        self.what = what

    def __str__(self) -> str:
        return self.what

    def __reduce__(self) -> tuple[type[TooComplex], tuple[str]]:  # type: ignore[override]  # from its words
        """Return how another process makes it again."""
        return type(self), (self.what,)


def parts_of(value: Dim) -> Parts:
    """Return the coefficients of a dimension by their products of names."""
    if isinstance(value, Poly):
        return value.parts
    return {(): int(value)} if value else {}


def made(parts: Terms) -> Dim:
    """Return the dimension of some parts, none of which is 0; raises `TooComplex`."""
    if len(parts) > MAX_TERMS:
        raise TooComplex(f"an expression of {len(parts)} terms")
    for monomial, coefficient in parts.items():
        digits = coefficient.numerator.bit_length() // 8
        if digits > MAX_DEGREE or any(abs(e) > MAX_DEGREE for _, e in monomial):
            raise TooComplex(f"an expression of a degree above {MAX_DEGREE}")
    if not parts:
        return 0
    if len(parts) == 1 and () in parts and isinstance(parts[()], int):
        return int(parts[()])
    return Poly(parts)


def _sum(a: Parts, b: Parts, sign: int) -> Terms:
    total = dict(a)
    for monomial, coefficient in b.items():
        _put(total, monomial, sign * coefficient)
    return total


def _put(total: Terms, monomial: Monomial, coefficient: Coefficient) -> None:
    """Add one term; what becomes 0 goes, and what becomes whole is whole."""
    value = total.get(monomial, 0) + coefficient
    if value == 0:
        total.pop(monomial, None)
        return
    whole = isinstance(value, Fraction) and value.denominator == 1
    total[monomial] = value.numerator if whole else value


def product(a: Dim, b: Dim) -> Dim:
    """Return a · b; raises `TooComplex`."""
    left, right = parts_of(a), parts_of(b)
    terms = max(len(left), 1) * max(len(right), 1)
    if terms > MAX_PRODUCTS:
        raise TooComplex(f"a product of {terms} terms")
    cancelled = _cancelled(left, right) or _cancelled(right, left)
    if cancelled is not None:
        return made(cancelled)
    total: Terms = {}
    for one, c in left.items():
        for other, d in right.items():
            _put(total, joined(one, other), c * d)
    return made(total)


def _cancelled(above: Parts, factor: Parts) -> Terms | None:
    """Return the parts of a product with a sum that stands below the line of every one of them."""
    if len(factor) < 2 or not SUMS:
        return None
    names = {name for name, made_of in SUMS.items() if made_of.parts == factor}
    for name in names:
        if all(dict(monomial).get(name, 0) < 0 for monomial in above):
            total: Terms = {}
            for monomial, coefficient in above.items():
                _put(total, joined(monomial, ((name, 1),)), coefficient)
            return total
    return None


def joined(a: Monomial, b: Monomial) -> Monomial:
    """Return the product of two products of names."""
    if not a or not b:
        return a or b
    exponents = dict(a)
    for name, exponent in b:
        exponents[name] = exponents.get(name, 0) + exponent
    return tuple(sorted((name, e) for name, e in exponents.items() if e))


def inverse(value: Poly, named: str) -> Dim:
    """Return 1 / value; a sum goes below the line as a factor of this name."""
    if len(value.parts) > 1:
        SUMS[named] = value
        return Poly({((named, -1),): 1})
    ((monomial, coefficient),) = value.parts.items()
    turned = tuple((name, -exponent) for name, exponent in monomial)
    return made({turned: whole(Fraction(1) / coefficient)})


def whole(value: Fraction) -> Coefficient:
    """Return a number as an integer where it is one."""
    return value.numerator if value.denominator == 1 else value


def factors(value: Poly) -> Iterator[str]:
    """Yield the name of every factor, once each."""
    yield from dict.fromkeys(name for monomial in value.parts for name, _ in monomial)
