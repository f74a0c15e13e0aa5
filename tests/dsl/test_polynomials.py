# SPDX-License-Identifier: Apache-2.0
"""Polynomials against sympy: the same sums, products and quotients, and the same text of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.formula_text import by_sympy
from dsl.polynomials import MAX_DEGREE, SUMS, Dim, Poly, TooComplex, parts_of, product, text
from dsl.symbolic import equal, evaluate, opaque, quotient, ratio, substitute, symbol

NAMES = ("S", "N", "E", "lambda", "beta", "a2", "min(C, 8191)")
Pair = tuple[Dim, Any]
checked = settings(max_examples=400, deadline=None, derandomize=True)
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


def _name(name: str) -> Pair:
    return symbol(name), sympy.Symbol(name, integer=True, positive=True)


def _number(value: int) -> Pair:
    return value, sympy.Integer(value)


def _node(sign: str, a: Pair, b: Pair) -> Pair:
    apply = OPERATIONS[sign]
    return apply(a[0], b[0]), sympy.expand(apply(a[1], b[1]))


def pairs(signs: str = "+-*") -> st.SearchStrategy[Pair]:
    leaves = st.one_of(st.sampled_from(NAMES).map(_name), st.integers(-9, 9).map(_number))
    return st.recursive(
        leaves, lambda t: st.builds(_node, st.sampled_from(signs), t, t), max_leaves=8
    )


def factors() -> st.SearchStrategy[Pair]:
    return pairs("*").filter(lambda pair: pair[0] != 0)


def same(ours: Dim, theirs: Any) -> bool:
    """Tell whether sympy makes the same of its own terms as of ours."""
    mine = sum(
        sympy.Rational(c.numerator, c.denominator)
        * sympy.prod([sympy.Symbol(n, integer=True, positive=True) ** e for n, e in monomial])
        for monomial, c in parts_of(ours).items()
    )
    return bool(sympy.expand(mine - theirs) == 0)


@checked
@given(pairs())
def test_arithmetic_is_sympys(pair: Pair) -> None:
    assert same(*pair)
    assert isinstance(pair[0], int) == bool(pair[1].is_Integer)


@checked
@given(pairs(), factors())
def test_a_ratio_is_sympys(a: Pair, b: Pair) -> None:
    assert same(ratio(a[0], b[0]), sympy.expand(a[1] / b[1]))


@checked
@given(pairs(), factors())
def test_a_quotient_is_there_where_sympys_is_a_polynomial(a: Pair, b: Pair) -> None:
    theirs = sympy.expand(a[1] / b[1])
    symbols = [_name(name)[1] for name in NAMES]
    whole = theirs.is_polynomial(*symbols) and all(
        c.is_Integer for c in sympy.Poly(theirs, *symbols).coeffs()
    )
    assert (quotient(a[0], b[0]) is not None) == bool(whole)


@checked
@given(pairs(), st.one_of(st.just(_number(1)), factors()))
def test_text_is_sympys(a: Pair, b: Pair) -> None:
    made = ratio(a[0], b[0])
    if isinstance(made, Poly):
        assert text(made) == by_sympy(made.parts, lambda _name: None)


@checked
@given(pairs(), st.sampled_from(NAMES[:4]), pairs())
def test_a_name_is_replaced_as_sympy_does(a: Pair, name: str, b: Pair) -> None:
    wanted = sympy.expand(a[1].subs(sympy.Symbol(name, integer=True, positive=True), b[1]))
    assert same(substitute(a[0], {name: b[0]}), wanted)


def test_a_sum_below_the_line_cancels_with_itself() -> None:
    heads, keys, width = symbol("H"), symbol("K"), symbol("D")
    each = heads + 2 * keys
    size = ratio(width, each)
    assert text(size) == "D/(H + 2*K)"
    assert equal(size * each, width)
    assert equal(size * each * 3, 3 * width)
    assert evaluate(size, {"D": 24, "H": 4, "K": 2}) == 3
    assert substitute(size, {"H": 4, "K": 2}) == ratio(width, 8)
    assert quotient(width, each) is None
    assert any(made == each for made in SUMS.values())


def test_a_power_beyond_the_limit_is_too_complex() -> None:
    value: Dim = symbol("N")
    for _ in range(6):
        value = product(value, value)
    with pytest.raises(TooComplex):
        product(value, symbol("N"))
    with pytest.raises(TooComplex):
        product(symbol("N"), 2 ** (8 * MAX_DEGREE + 8))


def test_equal_polynomials_have_one_hash_also_in_another_process() -> None:
    made = 3 * symbol("S") * symbol("E") + opaque("min", symbol("C"), 8)
    assert hash(made) == hash(opaque("min", symbol("C"), 8) + symbol("E") * symbol("S") * 3)
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own bytes
