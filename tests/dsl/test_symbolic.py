# SPDX-License-Identifier: Apache-2.0
"""Dimensions against brute force: what the algebra claims must hold at points."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl import symbolic
from dsl.symbolic import Dim, Poly, TooComplex, at_least, equal, evaluate, opaque, quotient, symbol

NAMES = ("S", "N", "E", "lambda", "beta")
Point = dict[str, int]
Tree = tuple[Dim, Callable[[Point], int]]
points = st.fixed_dictionaries({name: st.integers(1, 30) for name in NAMES})
checked = settings(max_examples=200, deadline=None, derandomize=True)


def _leaf(name: str) -> Tree:
    return symbol(name), lambda p: p[name]


def _number(value: int) -> Tree:
    return value, lambda _p: value


def _node(sign: str, a: Tree, b: Tree) -> Tree:
    if sign == "+":
        return a[0] + b[0], lambda p: a[1](p) + b[1](p)
    if sign == "-":
        return a[0] - b[0], lambda p: a[1](p) - b[1](p)
    return a[0] * b[0], lambda p: a[1](p) * b[1](p)


def trees(signs: str = "+-*", least: int = -9) -> st.SearchStrategy[Tree]:
    leaves = st.one_of(st.sampled_from(NAMES).map(_leaf), st.integers(least, 9).map(_number))
    return st.recursive(
        leaves, lambda t: st.builds(_node, st.sampled_from(signs), t, t), max_leaves=6
    )


@checked
@given(trees(), points)
def test_a_polynomial_evaluates_as_its_arithmetic(tree: Tree, point: Point) -> None:
    dim, arithmetic = tree
    assert evaluate(dim, point) == arithmetic(point)


@checked
@given(trees(), trees(), st.lists(points, min_size=8, max_size=8))
def test_equal_dimensions_are_equal_everywhere(a: Tree, b: Tree, where: list[Point]) -> None:
    if equal(a[0], b[0]):
        assert all(a[1](p) == b[1](p) for p in where)


@checked
@given(trees(), trees())
def test_the_same_arithmetic_in_another_order_is_equal(a: Tree, b: Tree) -> None:
    assert equal(a[0] + b[0], b[0] + a[0])
    assert equal(a[0] * b[0], b[0] * a[0])
    assert equal((a[0] - b[0]) * (a[0] + b[0]), a[0] * a[0] - b[0] * b[0])


@checked
@given(trees(), trees(), points)
def test_an_exact_quotient_times_the_divisor_is_the_dividend(a: Tree, b: Tree, p: Point) -> None:
    exact = quotient(a[0], b[0])
    if exact is not None:
        assert equal(exact * b[0], a[0])
        assert evaluate(exact, p) * b[1](p) == a[1](p)


@checked
@given(trees("+*", 0), trees("*", 1))
def test_a_product_is_divisible_by_its_factors(a: Tree, b: Tree) -> None:
    exact = quotient(a[0] * b[0], b[0])
    assert exact is not None
    assert equal(exact, a[0])


@checked
@given(trees(), trees(), st.lists(points, min_size=8, max_size=8))
def test_at_least_is_sound(a: Tree, b: Tree, where: list[Point]) -> None:
    answer = at_least(a[0], b[0])
    if answer is True:
        assert all(a[1](p) >= b[1](p) for p in where)
    if answer is False:
        assert all(a[1](p) < b[1](p) for p in where)


@checked
@given(trees(), trees("+*", 0), points)
def test_substitution_and_evaluation_commute(a: Tree, b: Tree, point: Point) -> None:
    replaced = symbolic.substitute(a[0], {"S": b[0]})
    assert evaluate(replaced, point) == a[1](point | {"S": b[1](point)})


@checked
@given(trees(), points)
def test_substituting_every_name_leaves_a_number(tree: Tree, point: Point) -> None:
    assert symbolic.substitute(tree[0], point) == tree[1](point)


@checked
@given(st.sampled_from(sorted(symbolic.OPAQUE)), trees("+*", 1), trees("+*", 1), points)
def test_opaque_functions_have_their_values(name: str, a: Tree, b: Tree, point: Point) -> None:
    made = opaque(name, a[0], b[0])
    one, two = a[1](point), b[1](point)
    wanted = {
        "min": min(one, two), "max": max(one, two), "floor": one // two,
        "mod": one % two, "ceil_div": -(-one // two),
    }  # fmt: skip
    assert evaluate(made, point) == wanted[name]
    assert symbolic.substitute(made, point) == wanted[name]
    assert symbolic.names(made) == symbolic.names(a[0]) | symbolic.names(b[0])


@checked
@given(trees())
def test_a_dimension_depends_on_the_names_it_shows(tree: Tree) -> None:
    dim = tree[0]
    assert isinstance(dim, (int, Poly))
    assert all(name in symbolic.text(dim) for name in symbolic.names(dim))


def test_names_of_sympy_and_python_are_plain_names() -> None:
    for name in ("S", "N", "E", "I", "Q", "O", "beta", "gamma", "pi", "oo", "lambda", "__class__"):
        assert evaluate(symbol(name) * 2, {name: 3}) == 6
        assert symbolic.text(symbol(name) + 1) == f"{name} + 1"


def test_what_cannot_be_proved_is_not_guessed() -> None:
    d, h, e = symbol("D"), symbol("H"), symbol("E")
    assert not equal(d, h * e)
    assert quotient(d, h) is None
    assert at_least(d, h) is None
    assert at_least(d, 2) is None
    assert at_least(d + h, h) is True


def test_a_ratio_is_an_exact_formula() -> None:
    k, tp = symbol("K"), symbol("tp")
    assert evaluate(symbolic.ratio(k, tp), {"K": 3, "tp": 2}) == Fraction(3, 2)
    assert symbolic.ratio(12, 4) == 3
    assert equal(symbolic.ratio(k * tp, tp), k)


def test_division_by_nothing_has_no_quotient() -> None:
    assert quotient(4, 0) is None
    assert quotient(symbol("D"), 0) is None
    assert quotient(0, symbol("D")) == 0


def grown(start: Dim, grow: Callable[[Dim], Dim]) -> Dim:
    """Apply a function again and again."""
    for _ in range(100):
        start = grow(start)
    return start


def test_what_grows_without_bound_is_too_complex() -> None:
    total: Dim = 1
    for name in NAMES:
        total = total + symbol(name)
    with pytest.raises(TooComplex, match="terms"):
        grown(total, lambda d: d * d)
    with pytest.raises(TooComplex, match="degree"):
        grown(symbol("S"), lambda d: d * d)
    with pytest.raises(TooComplex, match="degree"):
        grown(symbol("S"), lambda d: d * (2**60))
    with pytest.raises(TooComplex, match="characters"):
        grown(symbol("S"), lambda d: opaque("floor", d, 2) + opaque("floor", d, 3))
