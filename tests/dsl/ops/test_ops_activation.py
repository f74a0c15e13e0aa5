# SPDX-License-Identifier: Apache-2.0
"""Activation functions: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

import pytest

from tests.dsl.snippets import checked, family, found, gives, violated

X, INTEGER = "bf16[B, S, D]", "i32[B, S, D]"
XIELU = "xielu(x, p, n, b, e)"
ONE = "bf16[1]"


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


def test_quick_gelu_type() -> None:
    assert gives("quick_gelu(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_quick_gelu_c1() -> None:
    assert violated("quick_gelu(x)", x=INTEGER) == "quick_gelu_c1"


def test_squared_relu_type() -> None:
    assert gives("squared_relu(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_squared_relu_c1() -> None:
    assert violated("squared_relu(x)", x=INTEGER) == "squared_relu_c1"


def test_mish_type() -> None:
    assert gives("mish(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_mish_c1() -> None:
    assert violated("mish(x)", x=INTEGER) == "mish_c1"


def test_abs_type() -> None:
    assert gives("abs(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_abs_c1() -> None:
    assert violated("abs(x)", x=INTEGER) == "abs_c1"


def test_sqrt_type() -> None:
    assert gives("sqrt(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_sqrt_c1() -> None:
    assert violated("sqrt(x)", x=INTEGER) == "sqrt_c1"


def test_rsqrt_type() -> None:
    assert gives("rsqrt(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_rsqrt_c1() -> None:
    assert violated("rsqrt(x)", x=INTEGER) == "rsqrt_c1"


def test_leaky_relu_type() -> None:
    assert gives("leaky_relu(x)", "f32[B, F @tp]", x="f32[B, F @tp]")


def test_leaky_relu_c1() -> None:
    assert violated("leaky_relu(x)", x=INTEGER) == "leaky_relu_c1"


def test_activation_type() -> None:
    assert gives('activation(x, "gelu_new")', "f32[B, F @tp]", x="f32[B, F @tp]")


def test_activation_c1() -> None:
    assert violated('activation(x, "silu")', x=INTEGER) == "activation_c1"


def test_activations_without_a_known_name_are_refused() -> None:
    assert [d.code for d in found('activation(x, "selu")', x=X)] == ["S207"]


def test_a_config_may_name_the_activation() -> None:
    body = "input x: bf16[B, S, D]\noutput y: bf16[B, S, D] = activation(x, act)"
    said = checked(family(body, config='D = hidden\nact = hidden_act ?? "silu"'))
    assert said.diagnostics == ()
    assert said.paths == 1


def test_xielu_type() -> None:
    assert gives(XIELU, X, x=X, p=ONE, n=ONE, b="bf16[]", e="bf16[]")


def test_xielu_c1() -> None:
    assert violated(XIELU, x=INTEGER, p=ONE, n=ONE, b=ONE, e=ONE) == "xielu_c1"


def test_xielu_c2() -> None:
    assert violated(XIELU, x=X, p="bf16[D]", n=ONE, b=ONE, e=ONE) == "xielu_c2"
    assert violated(XIELU, x=X, p=ONE, n="f32[1]", b=ONE, e=ONE) == "xielu_c2"


def test_the_root_of_a_number_stays_a_number() -> None:
    body = """input x: bf16[B, S, D]
    scale = rsqrt(D)
    output y: bf16[B, S, D] = sqrt(abs(x)) * scale * sqrt(2.0)"""
    assert checked(family(body, config="D = hidden")).diagnostics == ()


@pytest.mark.parametrize("call", ["silu(x)", "mish(x)", 'activation(x, "relu")', "sqrt(x)"])
def test_what_is_not_linear_refuses_partial_sums(call: str) -> None:
    assert [d.code for d in found(call, x="partial bf16[B, S, D]")] == ["S301"]
