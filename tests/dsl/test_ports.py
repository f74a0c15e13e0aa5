# SPDX-License-Identifier: Apache-2.0
"""Ports: the text that a bound family becomes says the same as the family with its config, in the same language."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from dsl.counting.footprint import footprint
from dsl.graph import Body, Graph, Node, Repeat
from dsl.inference.inference import Checked, infer
from dsl.linking.program import Program, link, port_of
from dsl.source import Source
from dsl.text import syntax as sx
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from porting.config.reader import parse_config
from porting.planning.library import family_for
from tests.conftest import TESTS
from tests.dsl.snippets import family, program

CONFIGS = sorted((TESTS / "data" / "configs").glob("*.json"))
HEADER = ("A port.", "", "revision abc")


@dataclass(frozen=True)
class Ported:
    """A family with its config, and the port read back from its text."""

    program: Program
    bound: Checked
    text: str
    port: sx.File
    again: Checked


@cache
def ported(path: Path) -> Ported:
    raw = path.read_bytes()
    made = family_for(json.loads(raw)["architectures"][0])
    values = dict(parse_config(raw).values) | {"dtype": "bf16"}
    bound = infer(made.family(), made.blocks, values)
    assert bound.diagnostics == ()
    return reread(made, bound)


def reread(made: Program, bound: Checked) -> Ported:
    text = format_file(port_of(made, bound.uses, HEADER, bound.entries.values()))
    port = parse(Source("port.sohu", text))
    alone = link(port, _no_file)
    return Ported(made, bound, text, port, infer(alone.family(), alone.blocks, None))


def _no_file(use: sx.String) -> sx.File:
    raise AssertionError(f"a port uses no file, not {use.value}")


def graph(checked: Checked) -> Graph:
    assert checked.diagnostics == ()
    assert checked.graph is not None
    return checked.graph


def outline(body: Body) -> list[object]:
    """Return what a body computes, without places."""
    steps: list[object] = [(w.value, str(w.type)) for w in body.weights]
    steps += [(s.value, str(s.type)) for s in body.states]
    for step in body.steps:
        if isinstance(step, Node):
            steps.append((step.op, step.inputs, step.outputs, dict(step.attrs)))
        else:
            steps += [(c.layers, c.carry_in, c.carry_out, outline(c.body)) for c in step.classes]
    return steps


each = pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)


@each
def test_a_port_is_canonical_text(path: Path) -> None:
    made = ported(path)
    assert format_file(made.port) == made.text


@each
def test_a_port_is_the_family_with_its_config(path: Path) -> None:
    made = ported(path)
    family_graph, port_graph = graph(made.bound), graph(made.again)
    assert [str(v.type) for v in port_graph.values] == [str(v.type) for v in family_graph.values]
    assert outline(port_graph.body) == outline(family_graph.body)
    assert footprint(port_graph) == footprint(family_graph)


@each
def test_a_port_reads_no_key_and_uses_no_file(path: Path) -> None:
    made = ported(path)
    assert made.port.uses == ()
    assert made.again.uses == ()


@each
def test_a_port_shows_every_key_beside_its_value(path: Path) -> None:
    made = ported(path)
    shown = {c.text for c in made.port.comments if c.trailing}
    for use in made.bound.uses:
        assert f"# {use.key}{' (default)' if use.defaulted else ''}" in shown


@each
def test_a_port_keeps_the_comments_of_what_it_keeps(path: Path) -> None:
    made = ported(path)
    kept = {c.text for c in made.port.comments}
    family_file = made.program.file
    own = [
        c.text for c in family_file.comments if c.span.start > family_file.families[0].span.start
    ]
    assert set(own) <= kept
    assert {f"# {line}".rstrip() for line in HEADER} <= kept | {"#"}


@each
def test_a_port_has_the_blocks_that_it_calls_and_no_others(path: Path) -> None:
    made = ported(path)
    called = {
        name for body, _ in graph(made.bound).bodies() for s in body.steps
        if isinstance(s, Node) for name in s.path
    }  # fmt: skip
    assert called <= {b.name.id for b in made.port.blocks}


def small(config: str, body: str, head: str = "", **values: object) -> Ported:
    lines = f"input x: bf16[B, D]\n{body}\noutput y: bf16[B, D] = x"
    text = family(lines, config=f"D = d\n{config}", head=head)
    made = program(text)
    bound = infer(made.family(), made.blocks, {"d": 8} | values)
    assert bound.diagnostics == ()
    return reread(made, bound)


@pytest.mark.parametrize(
    ("value", "written"),
    [(3, "3"), (-3, "-3"), (1e-06, "1e-06"), (0.5, "0.5"), (1e20, "1e+20"), (True, "true"), (10**17, str(10**17)),
     ("silu", '"silu"'), (["a", 1, False], '["a", 1, false]'), ([], "[]"), (-0.5, "-0.5")],
)  # fmt: skip
def test_values_of_every_kind_are_written(value: object, written: str) -> None:
    made = small("k = key", "if k == 1 { x = silu(x) }", key=value)
    assert f" = {written}" in made.text
    assert made.again.diagnostics == ()


def test_a_long_list_is_broken_over_lines() -> None:
    kinds = ["full_attention", "sliding_attention"] * 40
    body = 'repeat i < 80 carry x { if kinds[i] == "full_attention" { x = silu(x) }\nx = gelu(x) }'
    made = small("kinds = layer_types", body, layer_types=kinds)
    assert max(len(line) for line in made.text.splitlines()) <= 100
    assert format_file(made.port) == made.text
    (repeat,) = (s for s in graph(made.again).body.steps if isinstance(s, Repeat))
    assert len(repeat.classes) == 2


def test_only_the_taken_branch_of_the_section_is_kept() -> None:
    config = 'k = kind\nif k == "a" { e = ea } else { e = eb }'
    made = small(config, 'if k == "a" { x = x * e } else { x = x + e }', kind="a", ea=2.0)
    assert "# ea" in made.text
    assert "eb" not in made.text
    assert made.again.diagnostics == ()


def test_a_default_is_marked() -> None:
    made = small("e = eps ?? 0.5", "x = x * e")
    assert "e = 0.5  # eps (default)" in made.text


def test_blocks_that_are_not_called_are_left_out() -> None:
    head = (
        "# The one that is used.\nblock used(x: bf16[B, D]) -> bf16[B, D] { return inner(x) }\n\n"
        "block inner(x: bf16[B, D]) -> bf16[B, D] {\n  # inside\n  return silu(x)\n}\n\n"
        "# The other one.\nblock other(x: bf16[B, D]) -> bf16[B, D] { return gelu(x) }\n"
    )
    made = small("", "x = used(x)", head)
    assert {b.name.id for b in made.port.blocks} == {"used", "inner"}
    comments = {c.text for c in made.port.comments}
    assert {"# The one that is used.", "# inside"} <= comments
    assert "# The other one." not in comments
