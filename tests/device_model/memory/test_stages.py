# SPDX-License-Identifier: Apache-2.0
"""The stage that needs the most, against stages counted one by one, and over arrays of points at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from device_model.memory.use import MemoryFormulas, Question
from dsl.counting.footprint import split_batch, weight_bytes
from dsl.counting.stages import pipeline, stage_layers
from dsl.graph import Graph, Repeat
from dsl.ops.spec import local_bytes
from dsl.symbolic import evaluate
from porting.planning.bound import bound_graph
from tests.conftest import TESTS

PORTS = TESTS.parent / "model_zoo" / "ports"


@lru_cache
def port(name: str) -> Graph:
    return bound_graph(PORTS / f"{name}.sohu")


def by_hand(graph: Graph, point: dict[str, int]) -> list[tuple[int, int]]:
    """Return the bytes of weights and of state of every stage; a table for both ends lies on both."""
    (repeat,) = (s for s in graph.body.steps if isinstance(s, Repeat))
    kinds, stages = repeat.class_of(), point["pp"]
    read = {value for s in graph.body.steps if s is not repeat for value in s.inputs}
    first = {v for s in graph.body.steps[: graph.body.steps.index(repeat)] for v in s.inputs}
    last = {v for s in graph.body.steps[graph.body.steps.index(repeat) + 1 :] for v in s.inputs}
    found = []
    for stage in range(stages):
        bodies = [kinds[layer].body for layer in stage_layers(len(kinds), stages, stage)]
        weights = [w for body in bodies for w in body.weights]
        here = (first if stage == 0 else set()) | (last if stage == stages - 1 else set())
        weights += [w for w in graph.body.weights if w.value in here & read]
        states = [s for body in bodies for s in body.states]
        held = sum(evaluate(weight_bytes(w), point) for w in weights)
        kept = sum(evaluate(split_batch(graph, local_bytes(s.type)), point) for s in states)
        found.append((int(held), int(kept) * stages))
    return found


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        ("llama-3.1-8b", {"tp": 2, "pp": 3}),
        ("qwen2.5-7b", {"tp": 2, "pp": 5, "dp": 2}),
        ("gemma-3-27b-text", {"pp": 7}),
        ("deepseek-v3-671b", {"tp": 2, "ep": 4, "pp": 4}),
    ],
)
def test_bytes_are_those_of_the_fullest_stage(name: str, mesh: dict[str, int]) -> None:
    graph = port(name)
    whole = dict.fromkeys(graph.mesh, 1) | mesh
    found = MemoryFormulas(graph).use(Question(whole, 2, 1, 999))
    stages = by_hand(graph, {**whole, graph.batch: 2, graph.context: 1000})
    assert (found.stored, found.state) in stages
    # Activations differ by the ends alone, and are small beside a layer here.
    assert found.stored + found.state >= max(map(sum, stages)) - found.activations


def test_numbers_of_stages_are_answered_together() -> None:
    graph = port("deepseek-v3-671b")
    memory = MemoryFormulas(graph, "f8e4m3")
    mesh = dict.fromkeys(graph.mesh, 1)
    stages, batches = np.asarray([[1], [2], [3], [61]]), np.asarray([[1, 7]])
    many = memory.use(Question({**mesh, "pp": stages}, batches, 1, 4095))
    for (row, stage), (column, batch) in (
        (a, b) for a in enumerate(stages.ravel()) for b in enumerate(batches.ravel())
    ):
        one = memory.use(Question({**mesh, "pp": int(stage)}, int(batch), 1, 4095))
        for part in ("weights", "stored", "state", "activations"):
            column_of = np.broadcast_to(getattr(many, part), (4, 2))
            assert column_of[row, column] == getattr(one, part), (part, stage, batch)


def test_stages_hold_the_model_once() -> None:
    graph = port("llama-3.1-8b")
    staged = pipeline(graph)
    assert staged is not None
    held = by_hand(
        graph, dict.fromkeys(graph.mesh, 1) | {"pp": 5, graph.batch: 1, graph.context: 1}
    )
    assert sum(weights for weights, _ in held) == 2 * 8_030_261_248
