# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: every constraint violated alone, and the types of sound calls."""

from __future__ import annotations

from tests.dsl.snippets import found, gives, violated

ROUTE = 'route(x, top=T, score="softmax")'
BIASED = 'route(x, bias, top=T, score="sigmoid")'
SCORES = "bf16[B, S, X]"
TOKENS, CHOSEN = "bf16[B, S, K]", "bf16[B, S, T, K]"
WEIGHTS, CHOICE = "bf16[X, N, K]", "i32[B, S, T]"
MATMUL, COMBINE = "expert_matmul(x, w, choice)", "combine(y, share)"
Y, SHARE = "bf16[B, S, T, D]", "bf16[B, S, T]"


def test_route_type() -> None:
    assert gives(ROUTE, CHOICE, SHARE, x=SCORES)
    assert gives(BIASED, CHOICE, "f32[B, S, T]", x="f32[B, S, X]", bias="f32[X]")
    groups = 'route(x, top=T, score="sigmoid", groups=G, top_groups=N)'
    assert gives(groups, CHOICE, SHARE, x=SCORES, require=("X % G == 0",))


def test_route_c1() -> None:
    assert violated(ROUTE, x="bf16[S, X]") == "route_c1"
    assert violated(ROUTE, x="i32[B, S, X]") == "route_c1"


def test_route_c2() -> None:
    assert violated(ROUTE, x="bf16[B, S, X @ep]") == "route_c2"
    assert violated(BIASED, x=SCORES, bias="bf16[X @ep]") == "route_c2"


def test_route_c3() -> None:
    for bias in ("bf16[T]", "bf16[S, X]"):
        assert violated(BIASED, x=SCORES, bias=bias) == "route_c3"


def test_route_c4() -> None:
    for top, experts in (("9", "8"), ("0", "8"), ("X + 1", "X")):
        call = f'route(x, top={top}, score="softmax")'
        assert violated(call, x=f"bf16[B, S, {experts}]") == "route_c4"


def test_route_c5() -> None:
    call = 'route(x, top=T, score="softmax", groups=3)'
    assert violated(call, x="bf16[B, S, 8]") == "route_c5"
    assert violated(call.replace("3", "G"), x=SCORES) == "route_c5"


def test_route_c6() -> None:
    call = 'route(x, top=T, score="softmax", groups=4, top_groups=5)'
    assert violated(call, x="bf16[B, S, 8]") == "route_c6"


def test_route_c7() -> None:
    call = 'route(x, top=T, score="softmax", groups=4, top_groups=2, group_best=3)'
    assert violated(call, x="bf16[B, S, 8]") == "route_c7"


def test_route_c8() -> None:
    mixer = 'route(x, top=2, score="sparsemixer", jitter=0.01{})'
    assert gives(mixer.format(""), "i32[B, S, 2]", "bf16[B, S, 2]", x=SCORES)
    assert violated(mixer.format(', order="after"'), x=SCORES) == "route_c8"
    biased = mixer.format("").replace("(x,", "(x, bias,")
    assert violated(biased, x=SCORES, bias="bf16[X]") == "route_c8"


def test_expert_matmul_type() -> None:
    assert gives(MATMUL, "bf16[B, S, T, N]", x=TOKENS, w=WEIGHTS, choice=CHOICE)
    assert gives(MATMUL, "bf16[B, S, T, N]", x=CHOSEN, w=WEIGHTS, choice=CHOICE)
    split = "bf16[X @ep, N @tp, K]"
    assert gives(MATMUL, "bf16[B, S, T @ep, N @tp]", x=TOKENS, w=split, choice=CHOICE)


def test_expert_matmul_c1() -> None:
    for x in ("bf16[S, K]", "i32[B, S, K]"):
        assert violated(MATMUL, x=x, w=WEIGHTS, choice=CHOICE) == "expert_matmul_c1"


def test_expert_matmul_c2() -> None:
    assert violated(MATMUL, x=TOKENS, w="bf16[N, K]", choice=CHOICE) == "expert_matmul_c2"


def test_expert_matmul_c3() -> None:
    for choice in ("i32[B, S]", "bf16[B, S, T]"):
        assert violated(MATMUL, x=TOKENS, w=WEIGHTS, choice=choice) == "expert_matmul_c3"


def test_expert_matmul_c4() -> None:
    assert violated(MATMUL, x=TOKENS, w="bf16[X, K, N]", choice=CHOICE) == "expert_matmul_c4"


def test_expert_matmul_c5() -> None:
    assert violated(MATMUL, x=TOKENS, w="f32[X, N, K]", choice=CHOICE) == "expert_matmul_c5"


def test_expert_matmul_c6() -> None:
    w = "bf16[X, N, K @tp]"
    assert violated(MATMUL, x=TOKENS, w=w, choice=CHOICE) == "expert_matmul_c6"


def test_expert_matmul_c7() -> None:
    for x in ("bf16[S, B, K]", "bf16[B, S, X, K]"):
        assert violated(MATMUL, x=x, w=WEIGHTS, choice=CHOICE) == "expert_matmul_c7"


def test_expert_matmul_c8() -> None:
    w = "bf16[X @ep, N, K]"
    assert violated(MATMUL, x=CHOSEN, w=w, choice=CHOICE) == "expert_matmul_c8"
    assert violated(MATMUL, x="bf16[B @ep, S, K]", w=w, choice=CHOICE) == "expert_matmul_c8"
    x = "bf16[B, S, T @ep, K]"
    assert violated(MATMUL, x=x, w=WEIGHTS, choice=CHOICE) == "expert_matmul_c8"


def test_expert_matmul_c9() -> None:
    call = "expert_matmul(x, w, choice, share)"
    y = "bf16[B, S, T, N]"
    assert gives(call, y, x=TOKENS, w=WEIGHTS, choice=CHOICE, share="f32[B, S, T]")
    for share in ("f32[B, S, X]", "i32[B, S, T]", "f32[B, S, T @tp]"):
        said = violated(call, x=TOKENS, w=WEIGHTS, choice=CHOICE, share=share)
        assert said == "expert_matmul_c9"


def test_expert_matmul_c10() -> None:
    call = "expert_matmul(x, w, choice, bias=b)"
    y, split = "bf16[B, S, T @ep, N @tp]", "bf16[X @ep, N @tp, K]"
    assert gives(call, y, x=TOKENS, w=split, choice=CHOICE, b="bf16[X @ep, N @tp]")
    for bias in ("bf16[N, X]", "f32[X, N]", "bf16[X, N @tp]"):
        said = violated(call, x=TOKENS, w=WEIGHTS, choice=CHOICE, b=bias)
        assert said == "expert_matmul_c10"
    x, w = "bf16[B, S, K @tp]", "bf16[X, N, K @tp]"
    assert violated(call, x=x, w=w, choice=CHOICE, b="bf16[X, N]") == "expert_matmul_c10"


def test_combine_type() -> None:
    assert gives("combine(y)", "bf16[B, S, D]", y=Y)
    assert gives(COMBINE, "bf16[B, S, D]", y=Y, share=SHARE)
    assert gives(COMBINE, "bf16[B, S, D]", y=Y, share="f32[B, S, T]")
    owned = "bf16[B, S, T @ep, D]"
    assert gives("all_reduce(combine(y, share), ep)", "bf16[B, S, D]", y=owned, share=SHARE)


def test_combining_owned_experts_leaves_a_partial_sum() -> None:
    said = found(COMBINE, ("bf16[B, S, D]",), y="bf16[B, S, T @ep, D]", share=SHARE)
    assert [d.code for d in said] == ["S301"]


def test_combine_c1() -> None:
    assert violated(COMBINE, y="bf16[B, S, T]", share=SHARE) == "combine_c1"


def test_combine_c2() -> None:
    assert violated(COMBINE, y=Y, share="bf16[B, S]") == "combine_c2"


def test_combine_c3() -> None:
    assert violated(COMBINE, y=Y, share="bf16[B, S, X]") == "combine_c3"
    assert violated(COMBINE, y=Y, share="bf16[B @ep, S, T]") == "combine_c3"


def test_combine_c4() -> None:
    assert violated(COMBINE, y=Y, share="f16[B, S, T]") == "combine_c4"


def test_combine_c5() -> None:
    assert violated(COMBINE, y=Y, share="partial bf16[B, S, T]") == "combine_c5"


PICK, WITHIN = "pick(x, choice)", "within(share, choice, 0, X)"


def test_pick_type() -> None:
    assert gives(PICK, "f32[B, S, T]", x="f32[B, S, X]", choice=CHOICE)


def test_pick_c1() -> None:
    assert violated(PICK, x="f32[B, X]", choice=CHOICE) == "pick_c1"


def test_pick_c2() -> None:
    assert violated(PICK, x="f32[B, S, X]", choice="f32[B, S, T]") == "pick_c2"
    assert violated(PICK, x="f32[B, S, X]", choice="i32[B, S]") == "pick_c2"


def test_pick_c3() -> None:
    assert violated(PICK, x="f32[S, B, X]", choice=CHOICE) == "pick_c3"


def test_pick_c4() -> None:
    assert violated(PICK, x="f32[B, S, X @tp]", choice=CHOICE) == "pick_c4"
    assert violated(PICK, x="f32[B @ep, S, X]", choice=CHOICE) == "pick_c4"


def test_within_type() -> None:
    assert gives(WITHIN, "f32[B, S, T]", share="f32[B, S, T]", choice=CHOICE)


def test_within_c1() -> None:
    assert violated(WITHIN, share="f32[B, S]", choice=CHOICE) == "within_c1"
    assert violated(WITHIN, share="f32[B, S, T]", choice="f32[B, S, T]") == "within_c1"


def test_within_c2() -> None:
    assert violated(WITHIN, share="f32[B, S, D]", choice=CHOICE) == "within_c2"
    assert violated(WITHIN, share="f32[B, S, T @tp]", choice=CHOICE) == "within_c2"


def test_within_c3() -> None:
    call = "within(share, choice, 3, 3)"
    assert violated(call, share="f32[B, S, T]", choice=CHOICE) == "within_c3"
