# SPDX-License-Identifier: Apache-2.0
"""Meshes of a program against trial division: which sizes are legal, and that a batch counts where it is split."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_model.memory.meshes import legal_meshes, mesh_sizes, mesh_violations
from dsl.diagnostics import Refused
from dsl.graph import Graph
from porting.planning.bound import bound_graph

TEXT = """sohu 1.0

family demo for "DemoForCausalLM" {
  config {
    D = 24
    H = 9
    V = 90
  }
  dims { B @dp: batch, S: seq, C: context }
  mesh { tp, dp }

  input x: bf16[B, S, D]
  weight u: bf16[H*D @tp, D] from "u"
  weight d: bf16[D, H*D @tp] from "d"
  weight w: bf16[V @tp, D] from "w"
  h = heads(matmul(x, u), H)
  y = x + all_reduce(matmul(merge(h), d), tp)
  output z: bf16[B, S, V] = all_gather(matmul(y, w), tp)
}
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("meshes") / "demo.sohu"
    path.write_text(TEXT)
    return bound_graph(path)


def test_legal_sizes_need_not_divide_and_those_proposed_make_the_largest_part_smaller(
    graph: Graph,
) -> None:
    # The sum over 9 heads and the 90 rows of the head are cut anywhere between their units.
    assert all(not mesh_violations(graph, {"tp": n, "dp": 1}) for n in range(1, 91))
    assert mesh_violations(graph, {"tp": 91, "dp": 1})
    sizes = {mesh["tp"] for mesh in legal_meshes(graph) if mesh["tp"] <= 30}
    assert sizes == {n for n in range(1, 31) if n == 1 or -(-90 // n) < -(-90 // (n - 1))}


def test_the_smallest_meshes_come_first(graph: Graph) -> None:
    chips = [mesh["tp"] * mesh["dp"] for mesh in legal_meshes(graph)]
    assert chips == sorted(chips)


@pytest.mark.parametrize("batch", [1, 6, 7])
def test_a_batch_is_divided_by_the_axis_that_splits_it(graph: Graph, batch: int) -> None:
    sizes = {mesh["dp"] for mesh in legal_meshes(graph, batch)}
    assert sizes == {n for n in range(1, 8) if batch % n == 0}


def test_a_batch_that_the_mesh_does_not_divide_is_refused_with_the_legal_sizes(
    graph: Graph,
) -> None:
    assert not mesh_violations(graph, {"tp": 1, "dp": 2})
    with pytest.raises(Refused) as refused:
        mesh_sizes(graph, "dp=2", batch=3)
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "S305"
    assert "dp = 2" in diagnostic.message
    assert "dp may be 1, 3" in diagnostic.help


def test_one_refusal_names_what_has_the_fewest_parts(graph: Graph) -> None:
    with pytest.raises(Refused) as refused:
        mesh_sizes(graph, "tp=100")
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "S305"
    assert "`w` has 90 parts, fewer than tp = 100" in diagnostic.message
    assert diagnostic.help.startswith("tp may be 1, 2, 3, 4")


def test_a_port_of_the_zoo_goes_on_as_many_chips_as_its_sums_have_leaves() -> None:
    # Qwen2.5 7B has 28 heads, 4 of keys, which no 3, 8 or 16 divides.
    port = Path(__file__).parents[3] / "model_zoo" / "ports" / "qwen2.5-7b.sohu"
    found = list(legal_meshes(bound_graph(port), batch=1))
    assert {mesh["tp"] for mesh in found} == {1, 2, 3, 4, 6, 8, 16}
    # Its 28 layers in as many stages as make the largest of them smaller; one sequence is in no parts.
    assert {mesh["pp"] for mesh in found} == {1, 2, 3, 4, 5, 6, 7, 10, 14, 28}
    assert {mesh["dp"] for mesh in found} == {1}


def test_an_axis_that_splits_nothing_has_one_chip(tmp_path: Path) -> None:
    path = tmp_path / "demo.sohu"
    path.write_text(TEXT.replace("B @dp: batch", "B: batch"))
    idle = bound_graph(path)
    assert {mesh["dp"] for mesh in legal_meshes(idle)} == {1}
    with pytest.raises(Refused) as refused:
        mesh_sizes(idle, "dp=2")
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "S305"
    assert "nothing is split on `dp`" in diagnostic.message


@pytest.mark.parametrize(("stages", "legal"), [(1, True), (7, True), (28, True), (29, False)])
def test_a_pipeline_has_no_more_stages_than_layers(stages: int, legal: bool) -> None:
    port = Path(__file__).parents[3] / "model_zoo" / "ports" / "qwen2.5-7b.sohu"
    graph = bound_graph(port)
    mesh = dict.fromkeys(graph.mesh, 1) | {"pp": stages}
    assert (mesh_violations(graph, mesh) == ()) is legal


def test_an_axis_has_one_size(graph: Graph) -> None:
    with pytest.raises(Refused, match="S306: `tp` has two sizes, 2 and 4"):
        mesh_sizes(graph, "tp=2,dp=1,tp=4")
