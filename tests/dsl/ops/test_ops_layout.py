# SPDX-License-Identifier: Apache-2.0
"""Cutting and joining: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

from tests.dsl.snippets import gives, violated

X = "bf16[B, S, D]"


def test_split_type() -> None:
    assert gives("split(x, D, F)", X, "bf16[B, S, F]", x="bf16[B, S, D + F]")
    assert gives("split(x, 2, 3)", "bf16[B, 2]", "bf16[B, 3]", x="bf16[B, 5]")
    assert gives("split(x, D)", X, x=X)


def test_split_c1() -> None:
    assert violated("split(x, D, D)", x=X) == "split_c1"
    assert violated("split(x, D, 0)", x=X) == "split_c1"
    assert violated("split(x, 1)", x="bf16[]") == "split_c1"


def test_split_c2() -> None:
    assert violated("split(x, D, D)", x="bf16[B, S, 2*D @tp]") == "split_c2"


def test_slice_type() -> None:
    assert gives("slice(x, 0, D)", X, x="bf16[B, S, 2*D]")
    assert gives("slice(x, N, N + R)", "bf16[R]", x="bf16[N + R]")
    assert gives("slice(x, 1, 5)", "bf16[B @tp, 4]", x="bf16[B @tp, 5]")


def test_slice_c1() -> None:
    for start, stop in (("3", "3"), ("0", "6"), ("4", "2"), ("D", "D")):
        assert violated(f"slice(x, {start}, {stop})", x="bf16[B, 5]") == "slice_c1"
    assert violated("slice(x, 0, D + 1)", x=X) == "slice_c1"
    assert violated("slice(x, 0, 1)", x="bf16[]") == "slice_c1"


def test_slice_c2() -> None:
    assert violated("slice(x, 0, 2)", x="bf16[B, 4 @tp]") == "slice_c2"


def test_concat_type() -> None:
    assert gives("concat(x, y)", "bf16[B, S, D + F]", x=X, y="bf16[B, S, F]")
    assert gives("concat(x, x, x)", "bf16[B, S, 3*D]", x=X)
    partial = "partial bf16[B, S, D]"
    assert gives("all_reduce(concat(x, y), tp)", "bf16[B, S, 2*D]", x=partial, y=partial)


def test_concat_c1() -> None:
    assert violated("concat(x, y)", x=X, y="bf16[B, C, D]") == "concat_c1"
    assert violated("concat(x, y)", x=X, y="bf16[S, D]") == "concat_c1"
    assert violated("concat(x, x)", x="bf16[]") == "concat_c1"


def test_concat_c2() -> None:
    assert violated("concat(x, y)", x=X, y="f32[B, S, D]") == "concat_c2"


def test_concat_c3() -> None:
    assert violated("concat(x, y)", x=X, y="bf16[B @tp, S, D]") == "concat_c3"
    split = "bf16[B, S, D @tp]"
    assert violated("concat(x, y)", x=split, y=split) == "concat_c3"


def test_concat_c4() -> None:
    assert violated("concat(x, y)", x=X, y="partial bf16[B, S, D]") == "concat_c4"


def test_column_type() -> None:
    assert gives("column(x)", "f32[B, S, T, 1]", x="f32[B, S, T]")
    assert gives("y * column(x)", "f32[B, S, T, D]", y="f32[B, S, T, D]", x="f32[B, S, T]")


CHOSEN, HEADS = "bf16[B, S, 2, 12]", "bf16[B, 6, S, 4]"


def test_expert_heads_type() -> None:
    assert gives("expert_heads(x, 3)", HEADS, x=CHOSEN)


def test_expert_heads_c1() -> None:
    assert violated("expert_heads(x, 3)", x="bf16[B, S, 12]") == "expert_heads_c1"


def test_expert_heads_c2() -> None:
    assert violated("expert_heads(x, 5)", x=CHOSEN) == "expert_heads_c2"


def test_expert_heads_c3() -> None:
    assert violated("expert_heads(x, 3)", x="bf16[B, S, 2 @ep, 12]") == "expert_heads_c3"


def test_expert_merge_type() -> None:
    assert gives("expert_merge(x, 2)", CHOSEN, x=HEADS)


def test_expert_merge_c1() -> None:
    assert violated("expert_merge(x, 2)", x="bf16[B, S, 12]") == "expert_merge_c1"


def test_expert_merge_c2() -> None:
    assert violated("expert_merge(x, 4)", x=HEADS) == "expert_merge_c2"


def test_expert_merge_c3() -> None:
    assert violated("expert_merge(x, 2)", x="bf16[B, 6 @tp, S, 4]") == "expert_merge_c3"
