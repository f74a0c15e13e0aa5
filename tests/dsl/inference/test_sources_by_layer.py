# SPDX-License-Identifier: Apache-2.0
"""Weights that come from one source in some layers and from another in the rest."""

from __future__ import annotations

import pytest

from dsl.graph import Repeat
from dsl.inference.inference import infer
from dsl.linking.program import port_of
from dsl.stored_tensors import tensors
from dsl.text.formatter import format_file
from tests.dsl.snippets import family, program

BODY = """input x: bf16[B, S, D]
repeat i < 4 carry x {
  weight w: bf16[D, D] from SOURCE
  x = matmul(x, w)
}
output y: bf16[B, S, D] = x"""
PACKED = 'scaled("f8e4m3", "w.{i}", "w.{i}.scale", 0, 0)'
HELD = {"w.0", "w.1", "w.1.scale", "w.2", "w.2.scale", "w.3"}


def classes(source: str, held: set[str] | None = None) -> list[tuple[tuple[int, ...], list[str]]]:
    made = program(family(BODY.replace("SOURCE", source), config="D = 8"))
    graph = infer(made.family(), made.blocks, {}, held).graph
    assert graph is not None
    (step,) = [step for step in graph.body.steps if isinstance(step, Repeat)]
    return [
        (each.layers, [name for name, _ in tensors(each.body.weights[0].source, each.layers[0])])
        for each in step.classes
    ]


def test_layers_of_different_sources_are_classes() -> None:
    assert classes(f'in_layers([0, 3], "w.{{i}}", {PACKED})') == [
        ((0, 3), ["w.0"]),
        ((1, 2), ["w.1", "w.1.scale"]),
    ]


def test_of_alternatives_one_that_fits_every_layer_is_taken() -> None:
    right = f'in_layers([1, 2], {PACKED}, "w.{{i}}")'
    wrong = f'in_layers([1], {PACKED}, "w.{{i}}")'
    assert classes(f'{right} or {PACKED} or "w.{{i}}"', HELD) == [
        ((0, 3), ["w.0"]),
        ((1, 2), ["w.1", "w.1.scale"]),
    ]
    assert classes(f'{wrong.replace("w.", "v.")} or "w.{{i}}"', HELD) == [((0, 1, 2, 3), ["w.0"])]


def test_a_port_keeps_it_as_one_source() -> None:
    text = family(BODY.replace("SOURCE", f'in_layers([2], {PACKED}, "w.{{i}}")'), config="D = 8")
    made = program(text)
    checked = infer(made.family(), made.blocks, {})
    assert checked.graph is not None
    port = format_file(port_of(made, checked.uses, (), [checked.graph]))
    assert "in_layers(" in port
    assert "or " not in port.split("from ", 1)[1].split("\n", 1)[0]


@pytest.mark.parametrize("listed", ["2", '["a"]', "[true]"])
def test_layers_are_numbers_in_a_list(listed: str) -> None:
    made = program(family(BODY.replace("SOURCE", f'in_layers({listed}, "a", "b")'), config="D = 8"))
    found = infer(made.family(), made.blocks, {}).diagnostics
    assert "S208" in {d.code for d in found}
