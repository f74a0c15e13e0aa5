# SPDX-License-Identifier: Apache-2.0
"""Layers: one class for equal bodies, what crosses their boundary, and what may not."""

from __future__ import annotations

import pytest

from dsl.graph import Graph, Repeat
from tests.dsl.snippets import codes, family, graph

X = "input x: bf16[B, S, D]\n"
OUT = "\noutput y: bf16[B, S, D] = x"
NORM = 'weight w: bf16[D] from "layers.{i}.norm.weight"\nx = rms_norm(x, w, eps=1e-6)'


def layers(body: str, config: str = "", **values: object) -> Repeat:
    text = family(f"{X}repeat i < L carry x {{\n{body}\n}}{OUT}", config=f"D = d\nL = l\n{config}")
    return repeat_of(graph(text, d=64, **values))


def repeat_of(made: Graph) -> Repeat:
    (found,) = (step for step in made.body.steps if isinstance(step, Repeat))
    return found


def classes(found: Repeat) -> list[tuple[int, ...]]:
    return [c.layers for c in found.classes]


@pytest.mark.parametrize("count", [1, 8, 80])
def test_equal_layers_are_one_class(count: int) -> None:
    assert classes(layers(NORM, l=count)) == [tuple(range(count))]


def test_the_graph_grows_with_classes_and_not_with_layers() -> None:
    text = family(f"{X}repeat i < L carry x {{\n{NORM}\n}}{OUT}", config="D = d\nL = l")
    assert len(graph(text, d=64, l=8).values) == len(graph(text, d=64, l=80).values)


def test_no_layers_have_no_class() -> None:
    assert classes(layers(NORM, l=0)) == []


def test_a_condition_on_the_index_splits_the_layers() -> None:
    body = f"if i < first {{ x = gelu(x) }}\n{NORM}"
    assert classes(layers(body, "first = first", l=8, first=3)) == [(0, 1, 2), (3, 4, 5, 6, 7)]
    assert classes(layers(body, "first = first", l=8, first=0)) == [tuple(range(8))]


def test_a_list_by_layer_splits_the_layers() -> None:
    body = f'if kinds[i] == "wide" {{ x = gelu(x) }}\n{NORM}'
    kinds = ["wide", "narrow", "narrow"] * 2
    assert classes(layers(body, "kinds = kinds", l=6, kinds=kinds)) == [(0, 3), (1, 2, 4, 5)]


def test_alternation_by_remainder_splits_the_layers() -> None:
    body = f"if (i + 1) % 6 == 0 {{ x = gelu(x) }}\n{NORM}"
    assert classes(layers(body, l=13)) == [(*range(5), *range(6, 11), 12), (5, 11)]


def test_sizes_by_layer_split_the_layers() -> None:
    body = (
        'weight up: bf16[sizes[i], D] from "layers.{i}.up"\n'
        'weight down: bf16[D, sizes[i]] from "layers.{i}.down"\n'
        "x = matmul(silu(matmul(x, up)), down)"
    )
    found = layers(body, "sizes = sizes", l=4, sizes=[32, 48, 32, 48])
    assert classes(found) == [(0, 2), (1, 3)]
    shown = [[str(w.type) for w in c.body.weights] for c in found.classes]
    assert shown == [["bf16[32, 64]", "bf16[64, 32]"], ["bf16[48, 64]", "bf16[64, 48]"]]


def test_numbers_by_layer_split_the_layers() -> None:
    assert classes(layers("x = x * (1.0 / (i + 1))", l=3)) == [(0,), (1,), (2,)]


def test_values_that_agree_do_not_split() -> None:
    assert classes(layers("x = x * max(i, 5)", l=7)) == [(0, 1, 2, 3, 4, 5), (6,)]


def test_two_questions_split_by_both_answers() -> None:
    body = "if i < 2 { x = silu(x) }\nif i % 2 == 0 { x = gelu(x) }\nx = relu(x)"
    assert classes(layers(body, l=5)) == [(0,), (1,), (2, 4), (3,)]


def test_a_question_in_a_branch_is_asked_only_there() -> None:
    body = "if i < 4 { if i % 2 == 0 { x = silu(x) } }\nx = relu(x)"
    assert classes(layers(body, l=8)) == [(0, 2), (1, 3), (4, 5, 6, 7)]


def test_every_layer_is_in_one_class() -> None:
    found = layers("if i % 3 == 0 { x = silu(x) }\nx = relu(x)", l=50)
    assert sorted(found.class_of()) == list(range(50))
    assert found.class_of()[48] is found.classes[0]


def test_the_index_fills_names_of_weights() -> None:
    found = layers(NORM, l=2)
    (weight,) = found.classes[0].body.weights
    assert getattr(weight.source, "name", "") == "layers.{i}.norm.weight"


def test_a_fault_of_any_class_is_found_and_nothing_else() -> None:
    body = f"{X}repeat i < 4 carry x {{\nif i == 2 {{ x = wrong(x) }}\nx = silu(x)\n}}{OUT}"
    assert codes(family(body, config="D = 8")) == ["S206"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("h = silu(x)", ["S224"]),
        ("x = silu(y)", ["S201"]),
        ("z = silu(x)\nx = x + z", ["S223"]),
        ('x = cast(x, "f32")', ["S225"]),
        ("x = gather(x, x)", ["S203"]),
        ("i = silu(x)\nx = silu(x)", ["S202"]),
        ("x = x", ["S224"]),
        ("x = matmul(x, m)", ["S225"]),
    ],
)
def test_what_crosses_the_boundary(body: str, found: list[str]) -> None:
    before = "input z: bf16[B, S, D]\ninput m: bf16[F, D]\n"
    after = "\noutput o: bf16[B, S, D] = x + z * slice(matmul(x, m), 0, D)"
    text = family(f"{X}{before}repeat i < 4 carry x {{\n{body}\n}}{after}", config="D = d\nF = f")
    assert [c for c in codes(text) if c != "S215"] == found


def test_names_of_a_layer_end_with_it() -> None:
    text = family(
        f"{X}repeat i < 4 carry x {{\nh = silu(x)\nx = h + x\n}}\nx = x + h{OUT}", config="D = d"
    )
    assert codes(text) == ["S201"]


def test_two_values_may_be_carried() -> None:
    body = "repeat i < 4 carry x, r {\nr = r + x\nx = silu(r)\n}\n"
    text = family(
        "input x: bf16[B]\ninput r: bf16[B]\n" + body + "output y: bf16[B] = x + r", config=""
    )
    assert codes(text) == []
    assert repeat_of(graph(text)).names == ("x", "r")
