# SPDX-License-Identifier: Apache-2.0
"""Sources that a checkpoint decides between, and the port that keeps the decision."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from dsl.diagnostics import Refused
from dsl.graph import Repeat
from dsl.inference.inference import Checked, infer
from dsl.linking.program import port_of
from dsl.source import Source
from dsl.stored_tensors import tensors
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from tests.dsl.snippets import checked, family, program

CONFIG = "D = hidden\nF = ffn"
BODY = """input tokens: i32[B, S]
weight embed: bf16[D, D] from "embed"
x = gather(embed, tokens)
repeat i < 2 carry x {
  weight gate: bf16[F, D] from rows("layers.{i}.fused", 0, F) or "layers.{i}.gate" or "{i}.old"
  weight up: bf16[F, D] from rows("layers.{i}.fused", F, 2*F) or "layers.{i}.up"
  weight down: bf16[D, F] from "layers.{i}.down"
  x = matmul(matmul(x, gate) * matmul(x, up), down)
}
output y: bf16[B, S, D] = x"""
VALUES = {"hidden": 8, "ffn": 4}
SPLIT = {"embed", *(f"layers.{i}.{n}" for i in range(2) for n in ("gate", "up", "down"))}
FUSED = {"embed", *(f"layers.{i}.{n}" for i in range(2) for n in ("fused", "down"))}
OLDEST = SPLIT - {"layers.0.gate", "layers.1.gate"} | {"0.old", "1.old"}


def bound(held: Collection[str] | None, body: str = BODY) -> Checked:
    made = program(family(body, config=CONFIG))
    found = infer(made.family(), made.blocks, VALUES, held)
    assert found.diagnostics == ()
    return found


def names(found: Checked) -> set[str]:
    assert found.graph is not None
    return {
        name
        for body, layers in found.graph.bodies()
        for layer in layers
        for weight in body.weights
        for name, _ in tensors(weight.source, layer)
    }


@pytest.mark.parametrize("held", [SPLIT, FUSED, OLDEST])
def test_the_checkpoint_decides(held: Collection[str]) -> None:
    assert names(bound(held)) == held


def test_the_first_source_counts_where_nothing_decides() -> None:
    assert names(bound(None)) == names(bound(())) == FUSED


def test_the_source_of_which_most_is_there_counts() -> None:
    assert names(bound(SPLIT - {"layers.1.gate"})) == SPLIT


def test_a_class_of_layers_reads_one_layout() -> None:
    found = bound(SPLIT).graph
    assert found is not None
    (repeat,) = (s for s in found.body.steps if isinstance(s, Repeat))
    assert [c.layers for c in repeat.classes] == [(0, 1)]


def test_a_port_keeps_what_was_read() -> None:
    made = program(family(BODY, config=CONFIG))
    found = infer(made.family(), made.blocks, VALUES, SPLIT)
    text = format_file(port_of(made, found.uses, ("Port.",), found.entries.values()))
    assert " or " not in text
    assert "fused" not in text
    file = parse(Source("port.sohu", text))
    again = infer(file.families[0], {}, None)
    assert names(again) == SPLIT
    assert format_file(file) == text


@pytest.mark.parametrize(
    "source",
    [
        '"{i}a" or rows("{i}b", 0, 2*F)',
        '"{i}a" or columns("{i}b", 0, D)',
        '"{i}a" or nothing("{i}b")',
        '"{i}a" or F',
    ],
)
def test_every_alternative_must_fit(source: str) -> None:
    body = BODY.replace('"layers.{i}.down"', source)
    assert [d.code for d in checked(family(body, config=CONFIG)).diagnostics][:1] in (
        ["S208"],
        ["S209"],
    )


def test_alternatives_inside_of_a_function_are_refused() -> None:
    body = BODY.replace('"layers.{i}.down"', 'transpose("a" or "b")')
    (said,) = checked(family(body, config=CONFIG)).diagnostics
    assert said.code == "S208"


def test_one_statement_that_reads_two_layouts_makes_no_port() -> None:
    block = """block part(at: string, x: bf16[B, S, D]) -> bf16[B, S, D] {
      weight w: bf16[D, D] from "{at}.new" or "{at}.old"
      return matmul(x, w)
    }"""
    body = """input x: bf16[B, S, D]
    output y: bf16[B, S, D] = part("b", part("a", x))"""
    made = program(family(body, config="D = hidden", head=block))
    found = infer(made.family(), made.blocks, VALUES, {"a.new", "b.old"})
    assert names(found) == {"a.new", "b.old"}
    with pytest.raises(Refused, match="different sources"):
        port_of(made, found.uses, (), found.entries.values())


@pytest.mark.parametrize("kind", ["new", "old"])
def test_the_checkpoint_decides_in_a_block_of_a_layer(kind: str) -> None:
    block = """block part(at: string, x: bf16[B, S, D]) -> bf16[B, S, D] {
      weight w: bf16[D, D] from "{at}.new" or "{at}.old"
      return matmul(x, w)
    }"""
    body = """input x: bf16[B, S, D]
    repeat i < 2 carry x {
      x = part("layers.{i}", x)
    }
    output y: bf16[B, S, D] = x"""
    held = {f"layers.{i}.{kind}" for i in range(2)}
    made = program(family(body, config="D = hidden", head=block))
    assert names(infer(made.family(), made.blocks, VALUES, held)) == held


def test_beside_a_whole_source_another_need_not_fit() -> None:
    misfit = '"layers.{i}.down" or rows("b", 0, 3*F)'
    held = bound(SPLIT, BODY.replace('"layers.{i}.down"', misfit))
    assert names(held) == SPLIT
    lacking = SPLIT - {"layers.0.down", "layers.1.down"}
    made = program(family(BODY.replace('"layers.{i}.down"', misfit), config=CONFIG))
    assert [d.code for d in infer(made.family(), made.blocks, VALUES, lacking).diagnostics] == [
        "S209"
    ]


def test_long_alternatives_stand_on_lines_of_their_own() -> None:
    long = '"a_long_name_of_a_tensor.{i}.weight"'
    body = BODY.replace('"layers.{i}.down"', f"stack(e < D, {long}) or transpose({long}) or {long}")
    text = format_file(parse(Source("x.sohu", family(body, config=CONFIG))))
    assert "\n      or transpose(" in text
    assert format_file(parse(Source("x.sohu", text))) == text
