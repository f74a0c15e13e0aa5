# SPDX-License-Identifier: Apache-2.0
"""Stages of a pipeline: every layer on one of them, as even as can be, and the ends where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.counting.footprint import footprint, weight_bytes
from dsl.counting.stages import Holders, Pipeline, loads, pipeline, stage_layers
from dsl.graph import Graph
from dsl.symbolic import evaluate
from porting.planning.bound import bound_graph

TEXT = """sohu 1.0

family demo for "DemoForCausalLM" {
  config {
    D = 8
    L = 5
    V = 10
  }
  dims { B @dp: batch, S: seq, C: context }
  mesh { dp, pp }

  input tokens: i32[B, S]
  weight embed: bf16[V, D] from "embed"
  weight first: bf16[D, D] from "first"
  weight gain:  bf16[D]    from "gain"
  weight last:  bf16[D]    from "last"
  x = matmul(gather(embed, tokens), first)
  begun = x
  freqs = rope_frequencies(8, theta=10000.0)
  repeat i < L @pp carry x {
    weight w: bf16[D, D] from "{i}.w"
    q = rope(heads(matmul(x, w), 1), freqs, at=C)
    x = merge(q) * gain + begun
  }
  output y: f32[B, S, V] = matmul(x * last, embed, dtype="f32")
}
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("stages") / "demo.sohu"
    path.write_text(TEXT)
    return bound_graph(path)


@pytest.fixture(scope="module")
def staged(graph: Graph) -> Pipeline:
    found = pipeline(graph)
    assert found is not None
    return found


@given(st.integers(1, 200), st.integers(1, 200))
def test_layers_are_dealt_out_in_order_and_the_first_stages_have_one_more(layers, stages):
    dealt = [stage_layers(layers, stages, stage) for stage in range(stages)]
    assert [layer for stage in dealt for layer in stage] == list(range(layers))
    sizes = [len(stage) for stage in dealt]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 40))
def test_loads_are_the_stages_without_repetition(kinds, stages):
    classes = [[i for i, kind in enumerate(kinds) if kind == own] for own in range(4)]
    seen = {
        (tuple(sum(kinds[i] == own for i in dealt) for own in range(4)), s == 0, s == stages - 1)
        for s in range(stages)
        for dealt in [stage_layers(len(kinds), stages, s)]
    }
    found = loads(classes, stages)
    assert {(load.counts, load.first, load.last) for load in found} == seen
    assert len(found) == len(seen)


def test_weights_outside_of_layers_lie_where_they_are_read(graph, staged):
    places = {w.name: staged.places[w.value] for w in graph.body.weights}
    assert places == {
        "embed": Holders.FIRST | Holders.LAST,
        "first": Holders.FIRST,
        "gain": Holders.EVERY,
        "last": Holders.LAST,
    }


def test_what_weights_went_into_is_sent_and_tables_are_not(graph, staged):
    assert [graph.values[value].name for value in staged.sent] == ["x"]


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_the_mean_over_stages_is_the_sum_of_what_they_hold(graph, staged, stages):
    table, square, vector = 160, 128, 16
    each = [len(stage_layers(5, stages, stage)) * square + vector for stage in range(stages)]
    each[0] += table + square
    each[-1] += vector + (table if stages > 1 else 0)
    found = evaluate(footprint(graph).weights, {"pp": stages, "dp": 1})
    assert found * stages == sum(each)
    assert weight_bytes(graph.body.weights[0]) == table


def test_layers_that_stay_together_are_no_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "whole.sohu"
    path.write_text(TEXT.replace("i < L @pp", "i < L"))
    assert pipeline(bound_graph(path)) is None
