# SPDX-License-Identifier: Apache-2.0
"""Arithmetic, bounds and sums of rows: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

import pytest

from tests.dsl.snippets import found, gives, violated

X, INTEGER = "bf16[B, S, D]", "i32[B, S, D]"
PARTIAL = "partial bf16[B, S, D]"


def test_add_type() -> None:
    assert gives("x + y", X, x=X, y=X)
    assert gives("x + w", X, x=X, w="bf16[D]")
    assert gives("w + x", X, x=X, w="bf16[D]")
    assert gives("x + 0.5", X, x=X)
    assert gives("2 + x", X, x=X)
    split = "bf16[B, S, F @tp]"
    assert gives("x + b", split, x=split, b="bf16[F @tp]")
    assert gives("all_reduce(x + y, tp)", X, x=PARTIAL, y=PARTIAL)


def test_add_c1() -> None:
    assert violated("x + y", x=INTEGER, y=INTEGER) == "add_c1"
    assert violated("x + 2", x=INTEGER) == "add_c1"
    assert violated("add(x)", x=X) == "add_c1"
    assert violated("add(x, x, 2.0)", x=X) == "add_c1"


def test_add_c2() -> None:
    assert violated("x + y", x=X, y="f32[B, S, D]") == "add_c2"


def test_add_c3() -> None:
    assert violated("x + y", x=X, y="bf16[B, S, F]") == "add_c3"
    assert violated("x + y", x=X, y="bf16[S]") == "add_c3"
    assert violated("x + y", x=X, y="bf16[B, 1, D]") == "add_c3"


def test_add_c4() -> None:
    assert violated("x + y", x=X, y="bf16[D @tp]") == "add_c4"
    assert violated("x + y", x="bf16[B, S, D @ep]", y="bf16[D @tp]") == "add_c4"


def test_add_c5() -> None:
    assert violated("x + y", x=X, y=PARTIAL) == "add_c5"
    assert violated("x + y", x=PARTIAL, y=X) == "add_c5"
    assert violated("x + 1", x=PARTIAL) == "add_c5"


def test_subtract_type() -> None:
    assert gives("x - y", X, x=X, y=X)
    assert gives("x - w", X, x=X, w="bf16[D]")
    assert gives("w - x", X, x=X, w="bf16[D]")
    assert gives("x - 0.5", X, x=X)
    assert gives("2 - x", X, x=X)
    split = "bf16[B, S, F @tp]"
    assert gives("x - b", split, x=split, b="bf16[F @tp]")
    assert gives("all_reduce(x - y, tp)", X, x=PARTIAL, y=PARTIAL)


def test_subtract_c1() -> None:
    assert violated("x - y", x=INTEGER, y=INTEGER) == "subtract_c1"
    assert violated("x - 2", x=INTEGER) == "subtract_c1"
    assert violated("subtract(x)", x=X) == "subtract_c1"
    assert violated("subtract(x, x, 2.0)", x=X) == "subtract_c1"


def test_subtract_c2() -> None:
    assert violated("x - y", x=X, y="f32[B, S, D]") == "subtract_c2"


def test_subtract_c3() -> None:
    assert violated("x - y", x=X, y="bf16[B, S, F]") == "subtract_c3"
    assert violated("x - y", x=X, y="bf16[S]") == "subtract_c3"
    assert violated("x - y", x=X, y="bf16[B, 1, D]") == "subtract_c3"


def test_subtract_c4() -> None:
    assert violated("x - y", x=X, y="bf16[D @tp]") == "subtract_c4"
    assert violated("x - y", x="bf16[B, S, D @ep]", y="bf16[D @tp]") == "subtract_c4"


def test_subtract_c5() -> None:
    assert violated("x - y", x=X, y=PARTIAL) == "subtract_c5"
    assert violated("x - y", x=PARTIAL, y=X) == "subtract_c5"
    assert violated("x - 1", x=PARTIAL) == "subtract_c5"


def test_multiply_type() -> None:
    assert gives("x * y", X, x=X, y=X)
    assert gives("x * w", X, x=X, w="bf16[D]")
    assert gives("w * x", X, x=X, w="bf16[D]")
    assert gives("x * 0.5", X, x=X)
    assert gives("2 * x", X, x=X)
    split = "bf16[B, S, F @tp]"
    assert gives("x * b", split, x=split, b="bf16[F @tp]")


def test_multiply_c1() -> None:
    assert violated("x * y", x=INTEGER, y=INTEGER) == "multiply_c1"
    assert violated("x * 2", x=INTEGER) == "multiply_c1"
    assert violated("multiply(x)", x=X) == "multiply_c1"
    assert violated("multiply(x, x, 2.0)", x=X) == "multiply_c1"


def test_multiply_c2() -> None:
    assert violated("x * y", x=X, y="f32[B, S, D]") == "multiply_c2"


def test_multiply_c3() -> None:
    assert violated("x * y", x=X, y="bf16[B, S, F]") == "multiply_c3"
    assert violated("x * y", x=X, y="bf16[S]") == "multiply_c3"
    assert violated("x * y", x=X, y="bf16[B, 1, D]") == "multiply_c3"


def test_multiply_c4() -> None:
    assert violated("x * y", x=X, y="bf16[D @tp]") == "multiply_c4"
    assert violated("x * y", x="bf16[B, S, D @ep]", y="bf16[D @tp]") == "multiply_c4"


def test_multiply_of_partial_sums_is_refused() -> None:
    assert [d.code for d in found("x * y", x=PARTIAL, y=X)] == ["S301"]
    assert [d.code for d in found("x * 2", x=PARTIAL)] == ["S301"]


def test_divide_type() -> None:
    assert gives("x / y", X, x=X, y=X)
    assert gives("x / w", X, x=X, w="bf16[D]")
    assert gives("w / x", X, x=X, w="bf16[D]")
    assert gives("x / 0.5", X, x=X)
    assert gives("2 / x", X, x=X)
    split = "bf16[B, S, F @tp]"
    assert gives("x / b", split, x=split, b="bf16[F @tp]")


def test_divide_c1() -> None:
    assert violated("x / y", x=INTEGER, y=INTEGER) == "divide_c1"
    assert violated("x / 2", x=INTEGER) == "divide_c1"
    assert violated("divide(x)", x=X) == "divide_c1"
    assert violated("divide(x, x, 2.0)", x=X) == "divide_c1"


def test_divide_c2() -> None:
    assert violated("x / y", x=X, y="f32[B, S, D]") == "divide_c2"


def test_divide_c3() -> None:
    assert violated("x / y", x=X, y="bf16[B, S, F]") == "divide_c3"
    assert violated("x / y", x=X, y="bf16[S]") == "divide_c3"
    assert violated("x / y", x=X, y="bf16[B, 1, D]") == "divide_c3"


def test_divide_c4() -> None:
    assert violated("x / y", x=X, y="bf16[D @tp]") == "divide_c4"
    assert violated("x / y", x="bf16[B, S, D @ep]", y="bf16[D @tp]") == "divide_c4"


def test_divide_of_partial_sums_is_refused() -> None:
    assert [d.code for d in found("x / y", x=PARTIAL, y=X)] == ["S301"]
    assert [d.code for d in found("x / 2", x=PARTIAL)] == ["S301"]


def test_maximum_type() -> None:
    assert gives("maximum(x, y)", X, x=X, y=X)
    assert gives("maximum(x, w)", X, x=X, w="bf16[D]")
    assert gives("maximum(w, x)", X, x=X, w="bf16[D]")
    assert gives("x * 0.5", X, x=X)
    assert gives("maximum(x, scalar=2.0, reverse=true)", X, x=X)
    split = "bf16[B, S, F @tp]"
    assert gives("maximum(x, b)", split, x=split, b="bf16[F @tp]")


def test_maximum_c1() -> None:
    assert violated("maximum(x, y)", x=INTEGER, y=INTEGER) == "maximum_c1"
    assert violated("maximum(x, scalar=2.0)", x=INTEGER) == "maximum_c1"
    assert violated("maximum(x)", x=X) == "maximum_c1"
    assert violated("maximum(x, x, 2.0)", x=X) == "maximum_c1"


def test_maximum_c2() -> None:
    assert violated("maximum(x, y)", x=X, y="f32[B, S, D]") == "maximum_c2"


def test_maximum_c3() -> None:
    assert violated("maximum(x, y)", x=X, y="bf16[B, S, F]") == "maximum_c3"
    assert violated("maximum(x, y)", x=X, y="bf16[S]") == "maximum_c3"
    assert violated("maximum(x, y)", x=X, y="bf16[B, 1, D]") == "maximum_c3"


def test_maximum_c4() -> None:
    assert violated("maximum(x, y)", x=X, y="bf16[D @tp]") == "maximum_c4"
    assert violated("maximum(x, y)", x="bf16[B, S, D @ep]", y="bf16[D @tp]") == "maximum_c4"


def test_minimum_type() -> None:
    assert gives("minimum(x, y)", X, x=X, y=X)
    assert gives("minimum(x, w)", X, x=X, w="bf16[D]")
    assert gives("minimum(w, x)", X, x=X, w="bf16[D]")
    assert gives("x * 0.5", X, x=X)
    assert gives("minimum(x, scalar=2.0, reverse=true)", X, x=X)
    split = "bf16[B, S, F @tp]"
    assert gives("minimum(x, b)", split, x=split, b="bf16[F @tp]")


def test_minimum_c1() -> None:
    assert violated("minimum(x, y)", x=INTEGER, y=INTEGER) == "minimum_c1"
    assert violated("minimum(x, scalar=2.0)", x=INTEGER) == "minimum_c1"
    assert violated("minimum(x)", x=X) == "minimum_c1"
    assert violated("minimum(x, x, 2.0)", x=X) == "minimum_c1"


def test_minimum_c2() -> None:
    assert violated("minimum(x, y)", x=X, y="f32[B, S, D]") == "minimum_c2"


def test_minimum_c3() -> None:
    assert violated("minimum(x, y)", x=X, y="bf16[B, S, F]") == "minimum_c3"
    assert violated("minimum(x, y)", x=X, y="bf16[S]") == "minimum_c3"
    assert violated("minimum(x, y)", x=X, y="bf16[B, 1, D]") == "minimum_c3"


def test_minimum_c4() -> None:
    assert violated("minimum(x, y)", x=X, y="bf16[D @tp]") == "minimum_c4"
    assert violated("minimum(x, y)", x="bf16[B, S, D @ep]", y="bf16[D @tp]") == "minimum_c4"


def test_clamp_type() -> None:
    assert gives("clamp(x, -1.0, 1.0)", "f32[B, F @tp]", x="f32[B, F @tp]")
    assert gives("clamp(x, high=7.0)", X, x=X)


def test_clamp_c1() -> None:
    assert violated("clamp(x, low=0.0)", x=INTEGER) == "clamp_c1"


def test_clamp_c2() -> None:
    assert violated("clamp(x)", x=X) == "clamp_c2"
    assert violated("clamp(x, 1.0, -1.0)", x=X) == "clamp_c2"


def test_sum_type() -> None:
    assert gives("sum(x)", "bf16[B, S, 1]", x=X)
    assert gives("x - all_reduce(sum(y), tp)", X, x=X, y=PARTIAL)


def test_sum_c1() -> None:
    assert violated("sum(x)", x=INTEGER) == "sum_c1"


def test_sum_c2() -> None:
    assert violated("sum(x)", x="bf16[B, S, D @tp]") == "sum_c2"


def test_mean_type() -> None:
    assert gives("mean(x)", "f32[B, 1]", x="f32[B, D]")


def test_mean_c1() -> None:
    assert violated("mean(x)", x=INTEGER) == "mean_c1"


def test_mean_c2() -> None:
    assert violated("mean(x)", x="bf16[B, S, D @tp]") == "mean_c2"


def test_one_number_a_row_repeats() -> None:
    assert gives("x * g", X, x=X, g="bf16[B, S, 1]")
    assert gives("g / x", X, x=X, g="bf16[B, S, 1]")
    assert gives("x * g", "bf16[B, S, F @tp]", x="bf16[B, S, F @tp]", g="bf16[B, S, 1]")
    assert gives("x * g", X, x=X, g="bf16[1]")
    assert violated("x * g", x=X, g="bf16[B, D, 1]") == "multiply_c3"
    assert violated("x * g", x="bf16[B @ep, S, D]", g="bf16[B, S, 1]") == "multiply_c4"


def test_cast_type() -> None:
    assert gives('cast(x, "f32")', "f32[B, S, D @tp]", x="bf16[B, S, D @tp]")
    assert gives('cast(x, "bf16")', X, x=INTEGER)


@pytest.mark.parametrize("call", ["-x", "silu(x)", "softcap(x, 2)", 'cast(x, "f32")'])
def test_what_is_not_linear_refuses_partial_sums(call: str) -> None:
    assert [d.code for d in found(call, x=PARTIAL)] == ["S301"]
