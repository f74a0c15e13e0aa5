"""Arithmetic and activations: every constraint violated alone, and the types of sound calls."""

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
    assert violated("x + y", x=X, y="bf16[B, S, 1]") == "add_c3"


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
    assert violated("x - y", x=X, y="bf16[B, S, 1]") == "subtract_c3"


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
    assert violated("x * y", x=X, y="bf16[B, S, 1]") == "multiply_c3"


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
    assert violated("x / y", x=X, y="bf16[B, S, 1]") == "divide_c3"


def test_divide_c4() -> None:
    assert violated("x / y", x=X, y="bf16[D @tp]") == "divide_c4"
    assert violated("x / y", x="bf16[B, S, D @ep]", y="bf16[D @tp]") == "divide_c4"


def test_divide_of_partial_sums_is_refused() -> None:
    assert [d.code for d in found("x / y", x=PARTIAL, y=X)] == ["S301"]
    assert [d.code for d in found("x / 2", x=PARTIAL)] == ["S301"]


def test_silu_type() -> None:
    assert gives("silu(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_silu_c1() -> None:
    assert violated("silu(x)", x=INTEGER) == "silu_c1"


def test_gelu_type() -> None:
    assert gives("gelu(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_gelu_c1() -> None:
    assert violated("gelu(x)", x=INTEGER) == "gelu_c1"


def test_gelu_tanh_type() -> None:
    assert gives("gelu_tanh(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_gelu_tanh_c1() -> None:
    assert violated("gelu_tanh(x)", x=INTEGER) == "gelu_tanh_c1"


def test_relu_type() -> None:
    assert gives("relu(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_relu_c1() -> None:
    assert violated("relu(x)", x=INTEGER) == "relu_c1"


def test_sigmoid_type() -> None:
    assert gives("sigmoid(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_sigmoid_c1() -> None:
    assert violated("sigmoid(x)", x=INTEGER) == "sigmoid_c1"


def test_tanh_type() -> None:
    assert gives("tanh(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_tanh_c1() -> None:
    assert violated("tanh(x)", x=INTEGER) == "tanh_c1"


def test_exp_type() -> None:
    assert gives("exp(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_exp_c1() -> None:
    assert violated("exp(x)", x=INTEGER) == "exp_c1"


def test_softplus_type() -> None:
    assert gives("softplus(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_softplus_c1() -> None:
    assert violated("softplus(x)", x=INTEGER) == "softplus_c1"


def test_softcap_type() -> None:
    assert gives("softcap(x, 30)", X, x=X)


def test_softcap_c1() -> None:
    assert violated("softcap(x, 30)", x=INTEGER) == "softcap_c1"


def test_cast_type() -> None:
    assert gives('cast(x, "f32")', "f32[B, S, D @tp]", x="bf16[B, S, D @tp]")
    assert gives('cast(x, "bf16")', X, x=INTEGER)


@pytest.mark.parametrize("call", ["-x", "silu(x)", "softcap(x, 2)", 'cast(x, "f32")'])
def test_what_is_not_linear_refuses_partial_sums(call: str) -> None:
    assert [d.code for d in found(call, x=PARTIAL)] == ["S301"]
