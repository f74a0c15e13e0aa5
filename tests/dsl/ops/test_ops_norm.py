# SPDX-License-Identifier: Apache-2.0
"""Normalisations: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

from tests.dsl.snippets import gives, violated

X, W = "bf16[B, S, D]", "bf16[D]"
RMS, LAYER = "rms_norm(x, w, eps=1e-6)", "layer_norm(x, w, b, eps=1e-5)"


def test_rms_norm_type() -> None:
    assert gives(RMS, X, x=X, w=W)
    assert gives("rms_norm(x, eps=1e-6)", X, x=X)
    assert gives(RMS, "bf16[B, H @tp, S, E]", x="bf16[B, H @tp, S, E]", w="bf16[E]")


HEADED, ROWS = "bf16[B, H @tp, S, E]", "bf16[H @tp, E]"


def test_norms_with_weights_for_each_head() -> None:
    assert gives(RMS, HEADED, x=HEADED, w=ROWS)
    assert gives(LAYER, HEADED, x=HEADED, w=ROWS, b=ROWS)
    for call, op in ((RMS, "rms_norm"), ("layer_norm(x, w, eps=1e-5)", "layer_norm")):
        for w in ("bf16[K @tp, E]", "bf16[E, H]", "bf16[H @tp, E, E]"):
            assert violated(call, x=HEADED, w=w) == f"{op}_c2"
        assert violated(call, x=HEADED, w="bf16[H, E]") == f"{op}_c3"


def test_rms_norm_c1() -> None:
    assert violated(RMS, x="i32[B, S, D]", w=W) == "rms_norm_c1"
    assert violated("rms_norm(x, eps=1e-6)", x="bf16[]") == "rms_norm_c1"


def test_rms_norm_c2() -> None:
    assert violated(RMS, x=X, w="bf16[F]") == "rms_norm_c2"
    assert violated(RMS, x=X, w="bf16[S, D]") == "rms_norm_c2"
    assert violated(RMS, x=X, w="i32[D]") == "rms_norm_c2"


def test_rms_norm_c3() -> None:
    assert violated(RMS, x="bf16[B, S, D @tp]", w=W) == "rms_norm_c3"
    assert violated(RMS, x=X, w="bf16[D @tp]") == "rms_norm_c3"


def test_layer_norm_type() -> None:
    assert gives(LAYER, X, x=X, w=W, b=W)
    assert gives("layer_norm(x, w, eps=1e-5)", X, x=X, w=W)
    assert gives("layer_norm(x, eps=1e-5)", X, x=X)


def test_layer_norm_c1() -> None:
    assert violated(LAYER, x="bool[B, S, D]", w=W, b=W) == "layer_norm_c1"


def test_layer_norm_c2() -> None:
    assert violated(LAYER, x=X, w="bf16[F]", b=W) == "layer_norm_c2"
    assert violated(LAYER, x=X, w=W, b="bf16[F]") == "layer_norm_c2"


def test_layer_norm_c3() -> None:
    assert violated(LAYER, x="bf16[B, S, D @tp]", w=W, b=W) == "layer_norm_c3"
    assert violated(LAYER, x=X, w=W, b="bf16[D @ep]") == "layer_norm_c3"


def test_rms_norm_c4() -> None:
    assert violated(RMS, x=X, w="f32[D]") == "rms_norm_c4"


def test_layer_norm_c4() -> None:
    assert violated(LAYER, x=X, w=W, b="f32[D]") == "layer_norm_c4"
