# SPDX-License-Identifier: Apache-2.0
"""A bound program as one chip of a mesh has it: every size that a mesh cuts is the chip's own.

What counts sizes counts those of the chip then, also where a mesh does not divide them. Batches and layers that a mesh
splits stay formulas of its sizes. Such a graph is for counting: its weights still name all of their tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from dsl.graph import Body, Graph, LayerClass, Repeat, State, Step, Weight
from dsl.mesh.components import Components
from dsl.mesh.cuts import runs
from dsl.mesh.rank import Rank, Shares, ranks
from dsl.types import Axis, TensorType


def on_chip(graph: Graph, parts: Components, rank: Rank) -> Graph:
    """Return a bound program with the sizes that one chip has."""
    shares = Shares(graph, parts, rank)

    def local(value: int, type_: TensorType) -> TensorType:
        axes = tuple(
            Axis(axis.dim if span is None else span[1] - span[0])
            for axis, span in zip(type_.axes, shares.spans(value), strict=True)
        )
        return replace(type_, axes=axes)

    types = {value.id: local(value.id, value.type) for value in graph.values}

    def weight(one: Weight) -> Weight:
        part = local_elements(shares, one), whole_elements(one)
        return replace(one, type=types[one.value], share=part)

    def state(one: State) -> State:
        return replace(one, type=types[one.value])

    def body(one: Body) -> Body:
        return Body(
            tuple(map(weight, one.weights)),
            tuple(map(state, one.states)),
            tuple(map(step, one.steps)),
        )

    def step(one: Step) -> Step:
        if not isinstance(one, Repeat):
            return one
        return replace(one, classes=tuple(layers(cls) for cls in one.classes))

    def layers(one: LayerClass) -> LayerClass:
        return replace(one, body=body(one.body))

    arrays = {s.item[0]: s.value for one, _ in graph.bodies() for s in one.states if s.item}

    return replace(
        graph,
        body=body(graph.body),
        arrays=tuple(
            replace(array, type=local(arrays[array.name], array.type))
            if array.name in arrays
            else array
            for array in graph.arrays
        ),
        values=tuple(replace(value, type=types[value.id]) for value in graph.values),
        outputs=tuple(replace(output, type=types[output.value]) for output in graph.outputs),
    )


def largest_rank(graph: Graph, parts: Components, sizes: Mapping[str, int]) -> Rank:
    """Return the chip with the most: along each axis the one whose cut values have the most elements."""
    at = {}
    for mesh, chips in sizes.items():
        alone = dict.fromkeys(sizes, 1) | {mesh: chips}
        counts = {
            rank.at[mesh]: _elements(graph, Shares(graph, parts, rank), mesh)
            for rank in ranks(alone)
        }
        at[mesh] = max(counts, key=lambda chip: counts[chip])
    return Rank(dict(sizes), at)


def _elements(graph: Graph, shares: Shares, mesh: str) -> int:
    """Return the elements that a chip has of the weights that a mesh axis splits."""
    total = 0
    for body, layers in graph.bodies():
        for weight in body.weights:
            if not any(mesh in axis.shards for axis in weight.type.axes):
                continue
            total += len(layers) * local_elements(shares, weight)
    return total


def local_elements(shares: Shares, weight: Weight) -> int:
    """Return how many elements of a weight a chip has."""
    count = 1
    for axis, span in zip(weight.type.axes, shares.spans(weight.value), strict=True):
        size = axis.dim if span is None else span[1] - span[0]
        count *= size if isinstance(size, int) else 0
    return count


def whole_elements(weight: Weight) -> int:
    """Return how many elements a weight has."""
    return prod(size for size in weight.type.dims if isinstance(size, int))


def is_even(graph: Graph, parts: Components, sizes: Mapping[str, int]) -> bool:
    """Tell whether every chip of a mesh has as much of everything, and no copies, as formulas of its sizes say."""
    for part in parts.all:
        chips = sizes.get(part.mesh, 1)
        cut = runs(parts, part, chips)
        if len({run.units for run in cut}) > 1 or cut[0].units * chips != part.units:
            return False
    return True
