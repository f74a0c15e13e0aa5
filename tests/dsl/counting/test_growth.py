# SPDX-License-Identifier: Apache-2.0
"""How the state of a sequence grows, and the longest sequence that a program says it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsl.counting.footprint import footprint
from dsl.counting.growth import Grown, growth
from dsl.counting.longest import longest
from dsl.graph import Graph
from dsl.symbolic import evaluate
from porting.planning.bound import bound_graph
from tests.conftest import TESTS

PORTS = TESTS.parent / "model_zoo" / "ports"
SPECS = TESTS / "dsl" / "specs"
TABLE = """sohu 1.0

family small for "Small" {
  config {
    D = 8
    V = 32
    P = 50
LIMIT
  }
  dims { B: batch, S: seq, C: context }
  mesh { tp }

  input tokens: i32[B, S]
  weight embed:  bf16[V, D] from "embed"
  weight places: bf16[P, D] from "places"
  x = gather(embed, tokens) + gather(places, positions(tokens, at=C, offset=2))
  output logits: f32[B, S, V] = matmul(x, embed, dtype="f32")
}
"""


def graph_of(path: Path) -> tuple[Graph, dict[str, int]]:
    graph = bound_graph(path)
    return graph, dict.fromkeys(graph.mesh, 1)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (PORTS / "llama-3.1-8b.sohu", "131,072 bytes a token of context"),
        (PORTS / "gemma-3-27b-text.sohu", "507,904 bytes a token up to 1,023, 81,920 beyond"),
        (SPECS / "recurrent.sohu", "5,472 bytes a sequence"),
    ],
)
def test_growth_in_words(path: Path, words: str) -> None:
    graph, mesh = graph_of(path)
    assert growth(graph).at(mesh).text() == words


def test_a_state_that_stops_growing_says_where() -> None:
    grown = Grown(0, {8191: 512}, 0)
    assert grown.text() == "512 bytes a token up to 8,191"
    assert grown.as_dict()["windows"] == [{"bytes_per_token": 512, "up_to": 8191}]
    assert Grown(0, {}, 0).text() == "no state"
    assert Grown(4, {9: 2, 3: 1}, 7).text() == (
        "7 bytes a token up to 3, 6 bytes a token up to 9, 4 beyond, 7 bytes a sequence"
    )


@pytest.mark.parametrize("length", [1, 1022, 1023, 1024, 5000])
@pytest.mark.parametrize(
    "path", [*sorted(PORTS.glob("*3-*.sohu")), SPECS / "recurrent.sohu"], ids=lambda p: p.stem
)
def test_growth_adds_up_to_the_state(path: Path, length: int) -> None:
    graph, mesh = graph_of(path)
    grown = growth(graph).at(mesh)
    state = evaluate(footprint(graph).state, mesh | {graph.batch: 1, graph.context: length})
    ringed = sum(size * min(length, most) for most, size in grown.windows.items())
    assert state == grown.per_token * length + ringed + grown.fixed


@pytest.mark.parametrize(
    ("limit", "expected"), [("", 48), ("    _longest = 40", 40), ("    _longest = 60", 48)]
)
def test_tables_of_positions_and_the_config_bound_a_sequence(
    limit: str, expected: int, tmp_path: Path
) -> None:
    path = tmp_path / "small.sohu"
    path.write_text(TABLE.replace("LIMIT", limit))
    assert longest(bound_graph(path)) == expected


def test_a_limit_that_no_text_holds_is_not_guessed() -> None:
    assert longest(bound_graph(SPECS / "recurrent.sohu")) is None
    assert longest(bound_graph(PORTS / "llama-3.1-8b.sohu")) == 131072
