# SPDX-License-Identifier: Apache-2.0
"""Bytes of weights and of state on every chip of a mesh, as types say: exactly what a chip's plan holds.

Chips differ where a mesh does not divide what it cuts, where keys are copied, and by the stages of a pipeline. Formats
other than those in which weights are stored are not counted here, nor are activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dsl.counting.footprint import weight_bytes
from dsl.counting.stages import Load, Pipeline, pipeline, stage_layers
from dsl.graph import Body, Graph
from dsl.mesh.components import components
from dsl.mesh.local import on_chip
from dsl.mesh.rank import Rank, ranks
from dsl.ops.spec import local_bytes
from dsl.symbolic import evaluate

MOST_CHIPS = 256
"""Meshes of more chips are not told chip by chip."""


@dataclass(frozen=True, slots=True)
class ChipBytes:
    """What one chip holds: where it stands, and bytes of weights as stored and of state of one batch."""

    at: Mapping[str, int]
    weights: int
    state: int


def chip_bytes(
    graph: Graph, mesh: Mapping[str, int], batch: int, context: int
) -> tuple[ChipBytes, ...]:
    """Return what each chip holds of one copy of a bound model, in the order of ranks; none of very many chips."""
    sizes = {axis: 1 if axis in graph.batch_shards else mesh.get(axis, 1) for axis in graph.mesh}
    all_ranks = ranks(sizes)
    if len(all_ranks) > MOST_CHIPS:
        return ()
    staged, parts = pipeline(graph), components(graph)
    copies = 1
    for axis in graph.batch_shards:
        copies *= mesh.get(axis, 1)
    point = {graph.batch: batch // copies, graph.context: context, **dict.fromkeys(graph.mesh, 1)}
    locals_: dict[tuple[tuple[str, int], ...], Graph] = {}
    made = []
    for rank in all_ranks:
        axis = "" if staged is None else staged.axis
        # Stages cut nothing: their chips share sizes with those of the first.
        flat = Rank(sizes, {**rank.at, **({axis: 0} if axis else {})})
        key = tuple(flat.at.items())
        if key not in locals_:
            locals_[key] = on_chip(graph, parts, flat)
        weights, state = _held(locals_[key], staged, rank, point)
        made.append(ChipBytes(dict(rank.at), weights, state))
    return tuple(made)


def _held(
    local: Graph, staged: Pipeline | None, rank: Rank, point: Mapping[str, int]
) -> tuple[int, int]:
    """Return the bytes of weights and of state of the layers and the ends that a chip's stage has."""
    weights = state = 0
    axis = "" if staged is None else staged.axis
    stages, stage = rank.sizes.get(axis, 1), rank.at.get(axis, 0)
    for body, layers in local.bodies():
        if staged is None or stages == 1:
            own, count = _bytes(body, point), len(layers)
        elif body is local.body:
            load = Load((), stage == 0, stage == stages - 1)
            here = {v for v, place in staged.places.items() if load.has(place)}
            own, count = _bytes(body, point, here), 1
        else:
            total = sum(map(len, staged.classes))
            own = _bytes(body, point)
            count = sum(layer in stage_layers(total, stages, stage) for layer in layers)
        weights, state = weights + count * own[0], state + count * own[1]
    if stages == 1:
        for array in local.arrays:
            each = local_bytes(array.type)
            state += int(evaluate(array.count * each, point))
    return weights, state


def _bytes(body: Body, point: Mapping[str, int], here: set[int] | None = None) -> tuple[int, int]:
    weights = [w for w in body.weights if here is None or w.value in here]
    states = [s for s in body.states if s.item is None and (here is None or s.value in here)]
    return (
        sum(int(evaluate(weight_bytes(w), point)) for w in weights),
        sum(int(evaluate(local_bytes(s.type), point)) for s in states),
    )
