# SPDX-License-Identifier: Apache-2.0
"""State of fixed size: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

from tests.dsl.snippets import gives, violated

MEMORY, GROWING = "state f32[B, H, E, N]", "state f32[B, H, C, N]"
VALUE = "f32[B, H, E, N]"
TAPS, X = "bf16[D, W]", "bf16[B, S, D]"
CONV, WINDOW = "causal_conv(state, x, w)", "state bf16[B, D, W - 1]"
LINEAR = "linear_attention(state, q, k, v, decay)"
HEADS = {
    "state": MEMORY,
    "q": "f32[B, H, S, E]",
    "k": "f32[B, H, S, E]",
    "v": "f32[B, H, S, N]",
    "decay": "f32[B, S, H]",
}


def test_read_type() -> None:
    assert gives("read(state) + write(state, new)", VALUE, state=MEMORY, new=VALUE)


def test_read_c1() -> None:
    assert violated("read(state)", state=GROWING) == "read_c1"
    assert violated("read(state)", state="state f32[B, min(C, 8)]") == "read_c1"


def test_write_type() -> None:
    assert gives("write(state, new)", VALUE, state=MEMORY, new=VALUE)


def test_write_c1() -> None:
    assert violated("write(state, new)", state=GROWING, new="f32[B, H, S, N]") == "write_c1"


def test_write_c2() -> None:
    for new in ("f32[B, H, N, E]", "bf16[B, H, E, N]", "f32[B, H, E]"):
        assert violated("write(state, new)", state=MEMORY, new=new) == "write_c2"


def test_write_c3() -> None:
    new = "f32[B, H @tp, E, N]"
    assert violated("write(state, new)", state=MEMORY, new=new) == "write_c3"


def test_reuse_type() -> None:
    both = "append(state, new) + reuse(state)"
    state, new = "state bf16[B, K, C, E]", "bf16[B, K, S, E]"
    assert gives(both, "bf16[B, K, C + S, E]", state=state, new=new)


def test_reuse_c1() -> None:
    assert violated("reuse(state)", state=MEMORY) == "reuse_c1"


def test_causal_conv_type() -> None:
    assert gives(CONV, X, state=WINDOW, x=X, w=TAPS)
    split = {"state": "state bf16[B, D @tp, 3]", "x": "bf16[B, S, D @tp]", "w": "bf16[D @tp, 4]"}
    assert gives(CONV, "bf16[B, S, D @tp]", **split)


def test_causal_conv_c1() -> None:
    assert violated(CONV, state="state bf16[B, D, C]", x=X, w=TAPS) == "causal_conv_c1"


def test_causal_conv_c2() -> None:
    assert violated(CONV, state=WINDOW, x="bf16[S, D]", w=TAPS) == "causal_conv_c2"


def test_causal_conv_c3() -> None:
    assert violated(CONV, state=WINDOW, x=X, w="bf16[D, 1, W]") == "causal_conv_c3"


def test_causal_conv_c4() -> None:
    for state in ("state bf16[D, W - 1]", "state bf16[D, D, W - 1]"):
        assert violated(CONV, state=state, x=X, w=TAPS) == "causal_conv_c4"


def test_causal_conv_c5() -> None:
    assert violated(CONV, state=WINDOW, x="bf16[B, S, F]", w=TAPS) == "causal_conv_c5"
    assert violated(CONV, state="state bf16[B, F, W - 1]", x=X, w=TAPS) == "causal_conv_c5"


def test_causal_conv_c6() -> None:
    assert violated(CONV, state="state bf16[B, D, W]", x=X, w=TAPS) == "causal_conv_c6"


def test_causal_conv_c7() -> None:
    assert violated(CONV, state=WINDOW, x=X, w="f32[D, W]") == "causal_conv_c7"
    ints = {"state": "state i32[B, D, W - 1]", "x": "i32[B, S, D]", "w": "i32[D, W]"}
    assert violated(CONV, **ints) == "causal_conv_c7"


def test_causal_conv_c8() -> None:
    assert violated(CONV, state=WINDOW, x="bf16[B, S, D @tp]", w=TAPS) == "causal_conv_c8"
    assert violated(CONV, state=WINDOW, x=X, w="bf16[D @tp, W]") == "causal_conv_c8"


def test_linear_attention_type() -> None:
    assert gives(LINEAR, "f32[B, H, S, N]", **HEADS)


def test_linear_attention_c1() -> None:
    assert violated(LINEAR, **(HEADS | {"state": GROWING})) == "linear_attention_c1"


def test_linear_attention_c2() -> None:
    for name in ("q", "k", "v"):
        assert violated(LINEAR, **(HEADS | {name: "f32[B, S, E]"})) == "linear_attention_c2"
    assert violated(LINEAR, **(HEADS | {"v": "bf16[B, H, S, N]"})) == "linear_attention_c2"


def test_linear_attention_c3() -> None:
    assert violated(LINEAR, **(HEADS | {"decay": "f32[H]"})) == "linear_attention_c3"


def test_linear_attention_c4() -> None:
    assert violated(LINEAR, **(HEADS | {"k": "f32[B, H, S, N]"})) == "linear_attention_c4"


def test_linear_attention_c5() -> None:
    assert violated(LINEAR, **(HEADS | {"v": "f32[B, E, S, N]"})) == "linear_attention_c5"


def test_linear_attention_c6() -> None:
    assert violated(LINEAR, **(HEADS | {"decay": "f32[B, H, S]"})) == "linear_attention_c6"


def test_linear_attention_c7() -> None:
    assert violated(LINEAR, **(HEADS | {"state": "state f32[B, H, N, E]"})) == "linear_attention_c7"


def test_linear_attention_c8() -> None:
    for name in ("state", "q", "k", "v", "decay"):
        split = HEADS | {name: HEADS[name].replace("H", "H @tp")}
        assert violated(LINEAR, **split) == "linear_attention_c8"
