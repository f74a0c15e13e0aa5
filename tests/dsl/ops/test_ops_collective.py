# SPDX-License-Identifier: Apache-2.0
"""Communication: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

from tests.dsl.snippets import gives, violated

X, PARTIAL, SPLIT = "bf16[B, S, D]", "partial bf16[B, S, D]", "bf16[B, S, D @tp]"


def test_all_reduce_type() -> None:
    assert gives("all_reduce(x, tp)", X, x=PARTIAL)


def test_all_reduce_c1() -> None:
    assert violated("all_reduce(x, tp, tp)", x=PARTIAL) == "all_reduce_c1"


def test_all_reduce_c2() -> None:
    assert violated("all_reduce(x, tp)", x=X) == "all_reduce_c2"
    assert violated("all_reduce(x, ep)", x=PARTIAL) == "all_reduce_c2"
    assert violated("all_reduce(x, tp, ep)", x=PARTIAL) == "all_reduce_c2"
    assert violated("all_reduce(all_reduce(x, tp), tp)", x=PARTIAL) == "all_reduce_c2"


def test_all_gather_type() -> None:
    assert gives("all_gather(x, tp)", X, x=SPLIT)
    assert gives("all_gather(x, ep)", "bf16[V @tp]", x="bf16[V @tp @ep]")


def test_all_gather_c1() -> None:
    assert violated("all_gather(x, tp)", x=X) == "all_gather_c1"
    assert violated("all_gather(x, ep)", x=SPLIT) == "all_gather_c1"


def test_all_gather_c2() -> None:
    assert violated("all_gather(x, tp)", x="bf16[V @tp @ep]") == "all_gather_c2"


def test_reduce_scatter_type() -> None:
    assert gives("reduce_scatter(x, tp)", SPLIT, x=PARTIAL)


def test_reduce_scatter_c1() -> None:
    assert violated("reduce_scatter(x, tp)", x=X) == "reduce_scatter_c1"
    assert violated("reduce_scatter(x, ep)", x=PARTIAL) == "reduce_scatter_c1"


def test_owned_experts_may_be_scattered() -> None:
    types = {"y": "bf16[B, S, T @ep, D]", "share": "bf16[B, S, T]"}
    assert gives("reduce_scatter(combine(y, share), ep)", "bf16[B, S, D @ep]", **types)


def test_shard_type() -> None:
    assert gives("shard(x, tp)", SPLIT, x=X)
    assert gives("shard(x, ep)", "bf16[B, S, D @tp @ep]", x=SPLIT)
    assert gives("shard(all_gather(x, tp), tp)", SPLIT, x=SPLIT)


def test_shard_c1() -> None:
    assert violated("shard(x, tp)", x=SPLIT) == "shard_c1"
    assert violated("shard(x, tp)", x="bf16[B, S @tp, D]") == "shard_c1"
    assert violated("shard(x, tp)", x=PARTIAL) == "shard_c1"
