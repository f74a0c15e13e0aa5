# SPDX-License-Identifier: Apache-2.0
"""Blocks: arguments, dimensions bound by use, results, and what a block may not do."""

from __future__ import annotations

import pytest

from dsl.diagnostics import Diagnostic
from dsl.inference.inference import check_block
from tests.dsl.snippets import checked, family, graph, program

X = "input x: bf16[B, S, D]\n"
OUT = "\noutput y: bf16[B, S, D] = "
SCALE = "block scale(x: dtype[B, S, D], by: float = 2.0) -> dtype[B, S, D] { return x * by }"
WIDEN = """block widen(at: string, x: dtype[B, S, D], F: dim, bias: bool = false) -> dtype[B, S, F] {
  weight w: dtype[F, D] from "{at}.weight"
  y = matmul(x, w)
  if bias {
    weight b: dtype[F] from "{at}.bias"
    y = y + b
  }
  return y
}"""


def called(head: str, call: str, result: str = "bf16[B, S, D]", config: str = "D = d") -> list[Diagnostic]:  # fmt: skip
    text = family(f"{X}output y: {result} = {call}", head=head, config=config)
    return list(checked(text).diagnostics)


def alone(text: str) -> list[Diagnostic]:
    made = program(f"sohu 1.0\n{text}")
    return [d for b in made.file.blocks for d in check_block(b, made.blocks).diagnostics]


def codes(found: list[Diagnostic]) -> list[str]:
    return [d.code for d in found]


@pytest.mark.parametrize(
    "call", ["scale(x)", "scale(x, 3)", "scale(x, by=0.5)", "scale(by=1, x=x)"]
)
def test_arguments_by_place_and_by_name(call: str) -> None:
    assert called(SCALE, call) == []


@pytest.mark.parametrize(
    ("call", "code", "place"),
    [
        ("scale()", "S204", "scale()"),
        ("scale(x, 1, 2)", "S204", "2"),
        ("scale(x, bye=2)", "S204", "bye"),
        ("scale(x, x=x)", "S204", "x"),
        ("scale(x, by=true)", "S207", "true"),
        ('scale(x, by="a")', "S207", '"a"'),
        ("scale(x, by=x)", "S207", "x"),
        ("scale(D)", "S207", "D"),
        ("scale(gather)", "S201", "gather"),
        ('scale(cast(x, "f32"))', "S213", 'scale(cast(x, "f32"))'),
    ],
)
def test_arguments_that_do_not_fit(call: str, code: str, place: str) -> None:
    (found,) = called(SCALE, call)
    assert found.code == code
    assert found.span is not None
    assert found.span.text == place


def test_dimensions_are_bound_by_use() -> None:
    assert called(WIDEN, 'widen("up", x, F=4*D)', "bf16[B, S, 4*D]") == []
    assert codes(called(WIDEN, 'widen("up", x, F=4*D)', "bf16[B, S, D]")) == ["S213"]


def test_a_dimension_used_twice_must_agree() -> None:
    head = "block both(x: dtype[B, S, D], y: dtype[B, S, D]) -> dtype[B, S, D] { return x + y }"
    (found,) = called(head, "both(x, slice(x, 0, 2))", config="D = d")
    assert found.code == "S213"
    assert "D is D" not in " ".join(found.notes)


def test_the_data_type_is_bound_by_use() -> None:
    half = '{ return cast(scale(cast(x, "f32")), "bf16") }'
    head = f"{SCALE}\nblock half(x: bf16[B, S, D]) -> bf16[B, S, D] {half}"
    assert called(head, "half(x)") == []


def test_strings_are_filled_by_the_caller() -> None:
    made = graph(
        family(X + 'h = widen("a.b", x, F=D)' + OUT + "h", head=WIDEN, config="D = d"), d=8
    )
    (weight,) = made.body.weights
    assert getattr(weight.source, "name", "") == "a.b.weight"


def test_a_block_keeps_its_own_names() -> None:
    head = "block own(x: dtype[B, S, D]) -> dtype[B, S, D] { h = silu(x)\nreturn h }"
    assert called(head, "own(own(x))") == []
    assert codes(called(head, "own(x) + h")) == ["S201"]
    leak = "block own(x: dtype[B, S, D]) -> dtype[B, S, D] { return x * eps }"
    assert codes(called(leak, "own(x)", config="D = d\neps = eps\nrequire eps == 1")) == ["S201"]


def test_several_results() -> None:
    head = (
        'block two(x: dtype[B, S, D]) -> dtype[B, S, D], f32[B, S, D] { return x, cast(x, "f32") }'
    )
    text = family(X + "a, b = two(x)\noutput y: bf16[B, S, D] = a\noutput z: f32[B, S, D] = b",
                  head=head, config="D = d")  # fmt: skip
    assert checked(text).diagnostics == ()
    assert codes(called(head, "silu(two(x))")) == ["S205"]


def test_an_early_return() -> None:
    head = """block chosen(x: dtype[B, S, D], wide: bool) -> dtype[B, S, D] {
        if wide { return gelu(x) }
        return silu(x)
    }"""
    assert called(head, "chosen(x, true)") == []
    assert called(head, "chosen(x, wide)", config="D = d\nwide = wide") == []
    half = head.replace("return silu(x)", "")
    assert codes(called(half, "chosen(x, true)")) == []
    assert codes(called(half, "chosen(x, false)")) == ["S220"]


def test_blocks_call_blocks_but_not_themselves() -> None:
    head = SCALE + "\nblock twice(x: dtype[B, S, D]) -> dtype[B, S, D] { return scale(scale(x)) }"
    assert called(head, "twice(x)") == []
    ring = "block a(x: bf16[B]) -> bf16[B] { return b(x) }\nblock b(x: bf16[B]) -> bf16[B] { return a(x) }"
    assert set(codes(alone(ring))) == {"S206"}


def test_a_long_chain_of_blocks_is_told_as_what_it_is() -> None:
    chain = [f"block b{i}(x: bf16[B]) -> bf16[B] {{ return b{i + 1}(x) }}" for i in range(20)]
    first = alone("\n".join([*chain, "block b20(x: bf16[B]) -> bf16[B] { return x }"]))[0]
    assert first.code == "S206"
    assert "16 blocks deep" in first.message


def test_a_fault_in_a_block_is_reported_once_however_often_it_is_called() -> None:
    head = "block bad(x: dtype[B, S, D]) -> dtype[B, S, D] { return wrong(x) }"
    assert codes(called(head, "bad(bad(x)) + bad(x)")) == ["S206"]


def test_a_wrong_argument_does_not_fault_the_body() -> None:
    assert codes(called(WIDEN, 'widen("up", wrong(x), F=D)')) == ["S206"]
    assert codes(called(WIDEN, 'widen("up", x, F=x)')) == ["S207"]


def test_state_of_a_block_is_one_a_call() -> None:
    head = """block cache(k: dtype[B, K, S, E], K: dim, E: dim) -> dtype[B, K, C + S, E] {
        state keys: dtype[B, K, C, E]
        return append(keys, k)
    }"""
    text = family(
        "input x: bf16[B, 4, S, 8]\n"
        'a = attention(x, cache(x, K=4, E=8), cache(x, K=4, E=8), mask="causal")\n'
        "output y: bf16[B, 4, S, 8] = a",
        head=head,
    )
    assert len(graph(text).body.states) == 2


def test_a_block_alone_is_checked_with_free_parameters() -> None:
    assert alone(WIDEN) == []
    assert codes(alone(WIDEN.replace("dtype[F, D] from", "dtype[D, F] from"))) == ["S203"]
    assert codes(alone(WIDEN.replace("-> dtype[B, S, F]", "-> dtype[B, S, D]"))) == ["S213"]


@pytest.mark.parametrize("taken", ["bias", "not bias"])
def test_both_branches_of_a_block_alone_are_checked(taken: str) -> None:
    text = WIDEN.replace("return y", f"if {taken} {{ y = wrong(y) }}\n  return y")
    (found,) = alone(text)
    assert found.code == "S206"
    assert found.notes == (f"this is where `{taken}`",)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("block b(x: bf16[D], unused: float) -> bf16[D] { return x }", "S215"),
        ("block b(x: bf16[D], y: bf16[D]) -> bf16[D] { return x }", "S215"),
        ("block b(x: bf16[D], k: flot) -> bf16[D] { return x }", "S211"),
        ("block b(x: bf61[D]) -> bf16[D] { return x }", "S211"),
        ("block b(x: bf16[D]) -> bf16[D] { y = x }", "S220"),
        ("block b(x: bf16[D]) -> bf16[D] { return x, x }", "S205"),
        ("block b(x: bf16[D]) -> bf16[D] { input y: bf16[D]\nreturn x + y }", "S222"),
        ("block b(x: bf16[D]) -> bf16[D] { output y: bf16[D] = x\nreturn x }", "S222"),
        ("block b(x: bf16[D]) -> bf16[D] { repeat i < 2 carry x { x = silu(x) }\nreturn x }", "S222"),
        ('block b(x: bf16[D]) -> bf16[D] { weight D: bf16[D] from "a"\nreturn x }', "S202"),
        ("block b(x: bf16[D]) -> bf16[D] { x = silu(x)\nreturn y }", "S201"),
        ("block b(x: bf16[D], F: dim) -> bf16[D] { F = 3\nreturn x * F }", "S202"),
        ("block b(x: bf16[D @tp]) -> bf16[D] { return x }", "S213"),
    ],
)  # fmt: skip
def test_what_a_block_may_not_do(text: str, code: str) -> None:
    assert codes(alone(text)) == [code]
