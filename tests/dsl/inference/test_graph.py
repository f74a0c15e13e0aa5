# SPDX-License-Identifier: Apache-2.0
"""Graphs of the zoo: numbered once, defined before use, every type well-formed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsl.graph import Body, Graph, Node, Repeat
from tests.conftest import TESTS
from tests.dsl.snippets import family
from tests.dsl.snippets import graph as graph_of
from tests.dsl.test_ports import CONFIGS, ported

each = pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
ROUTED = """input x: bf16[B, S, D]
weight router: bf16[X, D] from "router"
weight up: bf16[X @ep, F @tp, D] from stack(e < X, "up.{e}")
weight down: bf16[X @ep, D, F @tp] from stack(e < X, "down.{e}")
choice, share = route(matmul(x, router), top=2, score="softmax")
m = expert_matmul(silu(expert_matmul(x, up, choice)), down, choice)
output y: bf16[B, S, D] = x + all_reduce(combine(m, share), tp, ep)"""


def graphs(path: Path) -> Graph:
    made = ported(path).bound.graph
    assert made is not None
    return made


def defined(body: Body) -> Iterator[int]:
    """Yield the values that a body defines itself, in order."""
    yield from (w.value for w in body.weights)
    yield from (s.value for s in body.states)
    for step in body.steps:
        yield from step.outputs if isinstance(step, Node) else step.results


@each
def test_values_are_numbered_by_their_place(path: Path) -> None:
    assert [v.id for v in graphs(path).values] == list(range(len(graphs(path).values)))


@each
def test_every_value_is_defined_once(path: Path) -> None:
    made = graphs(path)
    counts = Counter(v.id for v in made.inputs)
    for body, _ in made.bodies():
        counts.update(defined(body))
    for step in made.body.steps:
        if isinstance(step, Repeat):
            counts.update(value for c in step.classes for value in c.carry_in)
    assert set(counts.values()) == {1}
    assert counts.keys() == {v.id for v in made.values}


@each
def test_every_value_is_defined_before_its_use(path: Path) -> None:
    made = graphs(path)
    known = {v.id for v in made.inputs}
    check_body(made.body, known)
    assert {o.value for o in made.outputs} <= known


def check_body(body: Body, known: set[int]) -> None:
    known |= {w.value for w in body.weights} | {s.value for s in body.states}
    for step in body.steps:
        if isinstance(step, Node):
            assert set(step.inputs) <= known
            known |= set(step.outputs)
            continue
        assert set(step.initial) <= known
        for cls in step.classes:
            inner = known | set(cls.carry_in)
            check_body(cls.body, inner)
            assert set(cls.carry_out) <= inner
        known |= set(step.results)


@each
def test_what_is_carried_keeps_its_type(path: Path) -> None:
    made = graphs(path)
    for step in made.body.steps:
        if isinstance(step, Repeat):
            for cls in step.classes:
                columns = zip(step.initial, cls.carry_in, cls.carry_out, step.results, strict=True)
                for column in columns:
                    assert len({made.values[i].type for i in column}) == 1


@each
def test_no_mesh_axis_is_used_twice_by_a_value(path: Path) -> None:
    well_formed(graphs(path))


def test_routed_experts_use_no_mesh_axis_twice() -> None:
    made = graph_of(family(ROUTED, config="D = d\nF = f\nX = x"), d=8, f=4, x=4)
    well_formed(made)
    assert {o.text for o in made.obligations} == {"4 % tp == 0", "4 % ep == 0"}


def well_formed(made: Graph) -> None:
    for value in made.values:
        axes = [s for axis in value.type.axes for s in axis.shards] + sorted(value.type.partial)
        assert len(axes) == len(set(axes))
        assert all(not isinstance(a.dim, int) or a.dim > 0 for a in value.type.axes)


@each
def test_outputs_are_complete(path: Path) -> None:
    made = graphs(path)
    for output in made.outputs:
        assert made.values[output.value].type == output.type
        assert not output.type.partial


@each
def test_every_layer_has_one_class(path: Path) -> None:
    for step in graphs(path).body.steps:
        if isinstance(step, Repeat):
            layers = sorted(i for c in step.classes for i in c.layers)
            assert layers == list(range(step.count or 0))


@each
def test_nodes_in_blocks_know_their_path(path: Path) -> None:
    made = graphs(path)
    blocks = {b.name.id for b in ported(path).port.blocks}
    paths = {n.path for b, _ in made.bodies() for n in b.steps if isinstance(n, Node)}
    assert {name for p in paths for name in p} <= blocks
    assert () in paths


def test_there_are_configs_to_test() -> None:
    assert len(CONFIGS) >= 5
    assert all(p.is_relative_to(TESTS) for p in CONFIGS)
