# SPDX-License-Identifier: Apache-2.0
"""Heads, cache and attention: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

import pytest

from tests.dsl.snippets import found, gives, violated

STATE = "state bf16[B, K, C, E]"
Q = "bf16[B, H, S, E]"
K = "bf16[B, K, C + S, E]"
ATTENTION = 'attention(q, k, v, mask="causal")'
SLOPED = 'attention(q, k, v, slopes=slopes, mask="causal")'
GROUPED = ("H % K == 0",)


def test_heads_type() -> None:
    assert gives("heads(x, H)", "bf16[B, H, S, E]", x="bf16[B, S, H*E]")
    assert gives("heads(x, H)", "bf16[B, H @tp, S, E]", x="bf16[B, S, H*E @tp]")
    assert gives("heads(x, 4)", "bf16[B, 4, S, 8]", x="bf16[B, S, 32]")
    partial = gives("all_reduce(heads(x, 4), tp)", "bf16[B, 4, S, 8]", x="partial bf16[B, S, 32]")
    assert partial


def test_heads_c1() -> None:
    assert violated("heads(x, H)", x="bf16[S, H*E]") == "heads_c1"


def test_heads_c2() -> None:
    assert violated("heads(x, H)", x="bf16[B, S, D]") == "heads_c2"
    assert violated("heads(x, 5)", x="bf16[B, S, 32]") == "heads_c2"
    assert violated("heads(x, 0)", x="bf16[B, S, 32]") == "heads_c2"
    assert violated("heads(x, H + 1)", x="bf16[B, S, H*E]") == "heads_c2"


def test_merge_type() -> None:
    assert gives("merge(x)", "bf16[B, S, H*E @tp]", x="bf16[B, H @tp, S, E]")


def test_merge_c1() -> None:
    assert violated("merge(x)", x="bf16[B, S, D]") == "merge_c1"


def test_merge_c2() -> None:
    assert violated("merge(x)", x="bf16[B, H, S, E @tp]") == "merge_c2"


def test_append_type() -> None:
    new = "bf16[B, K, S, E]"
    assert gives("append(state, new)", "bf16[B, K, C + S, E]", state=STATE, new=new)
    latent = {"state": "state bf16[B, C, R]", "new": "bf16[B, S, R]"}
    assert gives("append(state, new)", "bf16[B, C + S, R]", **latent)


def test_append_c1() -> None:
    new = "bf16[B, K, S, E]"
    for state in ("state bf16[B, K, S, E]", "state bf16[B, C, C, E]"):
        assert violated("append(state, new)", state=state, new=new) == "append_c1"


@pytest.mark.parametrize("new", ["bf16[B, S, E]", "bf16[B, K, C, E]", "bf16[B, H, S, E]"])
def test_append_c2(new: str) -> None:
    assert violated("append(state, new)", state=STATE, new=new) == "append_c2"


def test_append_c3() -> None:
    new = "bf16[B, K @tp, S, E]"
    assert violated("append(state, new)", state=STATE, new=new) == "append_c3"


def test_append_c4() -> None:
    new = "f32[B, K, S, E]"
    assert violated("append(state, new)", state=STATE, new=new) == "append_c4"


def test_attention_type() -> None:
    assert gives(ATTENTION, Q, require=GROUPED, q=Q, k=K, v=K)
    wide = "bf16[B, K, C + S, N]"
    assert gives(ATTENTION, "bf16[B, H, S, N]", require=GROUPED, q=Q, k=K, v=wide)
    q, k = "bf16[B, H @tp, S, E]", "bf16[B, K @tp, C + S, E]"
    assert gives(ATTENTION, q, require=GROUPED, q=q, k=k, v=k)
    one = "bf16[B, 1, C + S, E]"
    assert gives(ATTENTION, q, q=q, k=one, v=one)
    sinks = 'attention(q, k, v, sinks, mask="causal")'
    assert gives(sinks, Q, require=GROUPED, q=Q, k=K, v=K, sinks="bf16[H]")


@pytest.mark.parametrize("flat", ["q", "k", "v"])
def test_attention_c1(flat: str) -> None:
    types = {"q": Q, "k": K, "v": K, flat: "bf16[B, S, E]"}
    assert violated(ATTENTION, GROUPED, **types) == "attention_c1"


def test_attention_c2() -> None:
    wide = "f32[B, K, C + S, E]"
    assert violated(ATTENTION, GROUPED, q=Q, k=K, v=wide) == "attention_c2"
    assert violated(ATTENTION, GROUPED, q=Q, k=wide, v=wide) == "attention_c2"
    ints = {"q": "i32[B, H, S, E]", "k": "i32[B, K, S, E]", "v": "i32[B, K, S, E]"}
    assert violated(ATTENTION, GROUPED, **ints) == "attention_c2"


def test_attention_c3() -> None:
    for k in ("bf16[B, K, C + S, N]", "bf16[N, K, C + S, E]"):
        assert violated(ATTENTION, GROUPED, q=Q, k=k, v=k) == "attention_c3"


@pytest.mark.parametrize("v", ["bf16[B, H, C + S, E]", "bf16[B, K, S, E]", "bf16[N, K, C + S, E]"])
def test_attention_c4(v: str) -> None:
    assert violated(ATTENTION, GROUPED, q=Q, k=K, v=v) == "attention_c4"


def test_attention_c5() -> None:
    assert violated(ATTENTION, q=Q, k=K, v=K) == "attention_c5"
    k = "bf16[B, 4, S, E]"
    assert violated(ATTENTION, q="bf16[B, 6, S, E]", k=k, v=k) == "attention_c5"


def test_attention_c6() -> None:
    split = "bf16[B, K @tp, C + S, E]"
    assert violated(ATTENTION, GROUPED, q=Q, k=split, v=split) == "attention_c6"
    assert violated(ATTENTION, GROUPED, q="bf16[B, H @tp, S, E]", k=split, v=K) == "attention_c6"
    width = {"q": "bf16[B, H, S, E @tp]", "k": "bf16[B, K, S, E @tp]", "v": "bf16[B, K, S, E @tp]"}
    assert violated(ATTENTION, GROUPED, **width) == "attention_c6"
    batch = "bf16[B @ep, K, C + S, E]"
    assert violated(ATTENTION, GROUPED, q=Q, k=batch, v=batch) == "attention_c6"
    length = "bf16[B, K, S @tp, E]"
    assert violated(ATTENTION, GROUPED, q=Q, k=length, v=length) == "attention_c6"
    sinks = 'attention(q, k, v, sinks, mask="causal")'
    owned = violated(sinks, GROUPED, q=Q, k=K, v=K, sinks="bf16[H @tp]")
    assert owned == "attention_c6"
    owned = violated(SLOPED, GROUPED, q=Q, k=K, v=K, slopes="f32[H @tp]")
    assert owned == "attention_c6"


def test_attention_c7() -> None:
    sinks = 'attention(q, k, v, sinks, mask="causal")'
    for type_ in ("bf16[K]", "bf16[H, E]"):
        assert violated(sinks, GROUPED, q=Q, k=K, v=K, sinks=type_) == "attention_c7"


def test_attention_c8() -> None:
    ring = "state bf16[B, K, min(C, 127), E]"
    call = 'attention(q, append(s, k), append(t, k), mask="causal", window={window})'
    types = {"q": Q, "k": "bf16[B, K, S, E]", "s": ring, "t": ring}
    for window in ("0", "129", "W"):
        assert violated(call.format(window=window), GROUPED, **types) == "attention_c8"
    assert found(call.format(window="128"), (Q,), GROUPED, **types) == ()
    for span, sound in (("128", True), ("129", False)):
        chunked = found(call.replace("window", "chunk").format(chunk=span), (Q,), GROUPED, **types)
        assert (chunked == ()) is sound


def test_attention_c9() -> None:
    assert gives(SLOPED, Q, require=GROUPED, q=Q, k=K, v=K, slopes="f32[H]")
    for type_ in ("f32[K]", "f32[H, E]", "bf16[H]"):
        assert violated(SLOPED, GROUPED, q=Q, k=K, v=K, slopes=type_) == "attention_c9"


def test_slopes_may_be_whole_where_heads_are_sharded() -> None:
    q, k = "bf16[B, H @tp, S, E]", "bf16[B, K @tp, C + S, E]"
    for slopes in ("f32[H]", "f32[H @tp]"):
        assert gives(SLOPED, q, require=GROUPED, q=q, k=k, v=k, slopes=slopes)


BIASED = 'attention(q, k, v, bias=bias, mask="causal")'


def test_attention_c10() -> None:
    assert gives(BIASED, Q, require=GROUPED, q=Q, k=K, v=K, bias="bf16[B, H, S, N]")
    for type_ in ("bf16[B, K, S, N]", "bf16[H, N]", "f32[B, H, S, N]", "bf16[B, H, N, S]"):
        assert violated(BIASED, GROUPED, q=Q, k=K, v=K, bias=type_) == "attention_c10"
    for type_ in ("bf16[B, H @tp, S, N]", "bf16[B, H, S, N @tp]"):
        assert violated(BIASED, GROUPED, q=Q, k=K, v=K, bias=type_) == "attention_c6"
