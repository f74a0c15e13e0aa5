# SPDX-License-Identifier: Apache-2.0
"""Contractions and look-ups: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

from tests.dsl.snippets import gives, violated

X, W = "bf16[B, S, D]", "bf16[F, D]"


def test_matmul_type() -> None:
    assert gives("matmul(x, w)", "bf16[B, S, F]", x=X, w=W)
    assert gives("matmul(x, w)", "bf16[F]", x="bf16[D]", w=W)
    assert gives("matmul(x, w)", "bf16[B, S, F @tp]", x=X, w="bf16[F @tp, D]")
    assert gives('matmul(x, w, dtype="f32")', "f32[B, S, F]", x=X, w=W)
    assert gives(
        "all_reduce(matmul(x, w), tp)", "bf16[B, S, F]", x="bf16[B, S, D @tp]", w="bf16[F, D @tp]"
    )


def test_matmul_c1() -> None:
    assert violated("matmul(x, w)", x="i32[B, S, D]", w=W) == "matmul_c1"
    assert violated("matmul(x, w)", x="bf16[]", w=W) == "matmul_c1"


def test_matmul_c2() -> None:
    assert violated("matmul(x, w)", x=X, w="bf16[D]") == "matmul_c2"


def test_matmul_c3() -> None:
    assert violated("matmul(x, w)", x=X, w="bf16[D, F]") == "matmul_c3"
    assert violated("matmul(x, w)", x="bf16[B, S, H*E]", w="bf16[H*E, D]") == "matmul_c3"


def test_matmul_c4() -> None:
    assert violated("matmul(x, w)", x=X, w="f16[F, D]") == "matmul_c4"


def test_matmul_c5() -> None:
    assert violated("matmul(x, w)", x="bf16[B, S, D @tp]", w=W) == "matmul_c5"
    assert violated("matmul(x, w)", x=X, w="bf16[F, D @tp]") == "matmul_c5"
    assert violated("matmul(x, w)", x="bf16[B, S, D @tp]", w="bf16[F, D @ep]") == "matmul_c5"


def test_matmul_c6() -> None:
    assert violated("matmul(x, w)", x="bf16[B @tp, S, D]", w="bf16[F @tp, D]") == "matmul_c6"


def test_head_matmul_type() -> None:
    assert gives("head_matmul(x, w)", "bf16[B, H, S, N]", x="bf16[B, H, S, K]", w="bf16[H, N, K]")
    assert gives(
        "head_matmul(x, w)", "bf16[B, H @tp, S, N]", x="bf16[B, H @tp, S, K]", w="bf16[H @tp, N, K]"
    )


def test_head_matmul_c1() -> None:
    assert violated("head_matmul(x, w)", x="bf16[B, S, K]", w="bf16[H, N, K]") == "head_matmul_c1"


def test_head_matmul_c2() -> None:
    assert violated("head_matmul(x, w)", x="bf16[B, H, S, K]", w="bf16[N, K]") == "head_matmul_c2"


def test_head_matmul_c3() -> None:
    for dtype in ("f16", "i32"):
        w = f"{dtype}[H, N, K]"
        assert violated("head_matmul(x, w)", x="bf16[B, H, S, K]", w=w) == "head_matmul_c3"


def test_head_matmul_c4() -> None:
    for w in ("bf16[G, N, K]",):
        assert violated("head_matmul(x, w)", x="bf16[B, H, S, K]", w=w) == "head_matmul_c4"


def test_head_matmul_c5() -> None:
    x, w = "bf16[B, H, S, K]", "bf16[H, K, N]"
    assert violated("head_matmul(x, w)", x=x, w=w) == "head_matmul_c5"


def test_head_matmul_c6() -> None:
    x, w = "bf16[B, H, S, K]", "bf16[H, N, K]"
    assert violated("head_matmul(x, w)", x=x, w="bf16[H @tp, N, K]") == "head_matmul_c6"
    assert violated("head_matmul(x, w)", x=x, w="bf16[H, N @tp, K]") == "head_matmul_c6"
    assert violated("head_matmul(x, w)", x=x, w="partial bf16[H, N, K]") == "head_matmul_c6"
    both = {"x": "bf16[B, H, S, K @tp]", "w": "bf16[H, N, K @tp]"}
    assert violated("head_matmul(x, w)", **both) == "head_matmul_c6"
    assert gives("head_matmul(x, w)", "bf16[B, H, S, N]", x=x, w=w)


def test_gather_type() -> None:
    assert gives("gather(t, ids)", "bf16[B, S, D]", t="bf16[V, D]", ids="i32[B, S]")
    assert gives("gather(t, ids)", "f32[B, D]", t="f32[V, D]", ids="i64[B]")
    assert gives(
        "all_reduce(gather(t, ids), tp)", "bf16[B, S, D]", t="bf16[V @tp, D]", ids="i32[B, S]"
    )


def test_gather_c1() -> None:
    assert violated("gather(t, ids)", t="bf16[V, D, D]", ids="i32[B, S]") == "gather_c1"
    assert gives("gather(t, ids)", "f32[B, S, T]", t="f32[X]", ids="i32[B, S, T]")


def test_gather_c2() -> None:
    assert violated("gather(t, ids)", t="bf16[V, D]", ids="bf16[B, S]") == "gather_c2"


def test_gather_c3() -> None:
    assert violated("gather(t, ids)", t="bf16[V @tp, D]", ids="i32[B @tp, S]") == "gather_c3"
    assert violated("gather(t, ids)", t="bf16[V, D @tp]", ids="i32[B @tp, S]") == "gather_c3"
