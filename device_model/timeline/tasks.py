# SPDX-License-Identifier: Apache-2.0
"""The tasks of a program at one point: what an engine does in one go, with the sizes that its price depends on.

FLOPs and bytes stay those of the operations, so that a timeline adds up to the footprint. Prices are elsewhere.

A point may hold arrays, of which some are long along one axis and some along another: then sizes, FLOPs and bytes are
arrays too, and the tasks those of all points together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_model.cost.chip import Number
from device_model.timeline.fusing import groups, kind_of, name_of
from device_model.timeline.kinds import CollectiveSizes, Kind, Sizes
from device_model.timeline.measuring import Measure
from device_model.timeline.places import extent, order, spans
from device_model.timeline.sizes import everywhere, never, size_at
from dsl.counting.footprint import split_batch
from dsl.counting.stages import Pipeline, pipeline
from dsl.graph import Body, Graph, Node, Repeat
from dsl.ops.spec import local_bytes

BEFORE, AFTER = "before the layers", "after the layers"
BETWEEN = "between stages of the pipeline"
OUTSIDE = (BEFORE, BETWEEN, AFTER)
Point = Mapping[str, Any]
"""The sizes of the load and of the mesh by name: whole numbers, or arrays of them."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task: its name and operations, the sizes on one chip, and the FLOPs and bytes of its operations."""

    name: str
    ops: tuple[str, ...]
    sizes: Sizes
    flops: Number
    bytes: Number
    path: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """Return what it is."""
        return self.sizes.kind


@dataclass(frozen=True, slots=True)
class Stage:
    """The tasks of one layer class, or of what is outside of layers, and how often a step passes them."""

    name: str
    layers: Number
    tasks: tuple[Task, ...]
    stages: Number = 1
    """Stages of a pipeline that share the program."""
    indices: tuple[int, ...] = ()
    """The layers, none for what is outside of them."""


def stages(graph: Graph, point: Point, *, last_logits: bool = False) -> tuple[Stage, ...]:
    """Return the tasks of a program at a point: batch, new tokens, context and mesh sizes.

    With `last_logits` what follows the layers is computed for the last new token of each sequence alone, as a server
    does.
    """
    layers: list[Stage] = []
    before: list[Node] = []
    after: list[Node] = []
    seen = False
    staged = pipeline(graph)
    shared = point.get(staged.axis, 1) if staged else 1
    for step in graph.body.steps:
        if isinstance(step, Node):
            (after if seen else before).append(step)
            continue
        seen = True
        layers += _layers(graph, step, point)
        layers += _between(graph, staged, point)
    head = {**point, graph.seq: 1} if last_logits else point
    parts = ((BEFORE, before, point), (AFTER, after, head))
    outside = [
        Stage(name, 1, tuple(_tasks(graph, graph.body, at, nodes)), shared)
        for name, nodes, at in parts
        if nodes
    ]
    return (*outside[:1], *layers, *outside[1:]) if seen else tuple(outside)


def _layers(graph: Graph, step: Repeat, point: Point) -> Iterator[Stage]:
    shared = point.get(step.stages, 1) if step.stages else 1
    for cls in step.classes:
        nodes = [n for n in cls.body.steps if isinstance(n, Node)]
        first, last = cls.layers[0], cls.layers[-1]
        name = f"layers {first}–{last}" if len(cls.layers) > 1 else f"layer {first}"
        tasks = tuple(_tasks(graph, cls.body, point, nodes))
        yield Stage(name, len(cls.layers), tasks, shared, cls.layers)


def reach(steps: Sequence[Stage]) -> float:
    """Return the most chips that a domain needs to hold any group whole, at any point."""
    sizes = (t.sizes for stage in steps for t in stage.tasks)
    over = (extent(s.spans) for s in sizes if isinstance(s, CollectiveSizes))
    return max((float(np.max(chips)) for chips in over), default=1.0)


def _between(graph: Graph, staged: Pipeline | None, point: Point) -> Iterator[Stage]:
    """Yield what stages of a pipeline send to their next ones; a send is half of a gathering of two chips."""
    shared = point.get(staged.axis, 1) if staged else 1
    if staged is None or everywhere(shared, 1):
        return
    sent = (*staged.repeat.classes[0].carry_in, *staged.sent)
    carried = [graph.values[i].type for i in sent]
    size = sum(size_at(split_batch(graph, local_bytes(t)), point) for t in carried)
    places = spans(order(graph), (staged.axis,), point)
    sizes = CollectiveSizes(chips=2.0, bytes=2.0 * size, spans=places, neighbours=True)
    send = Task("send", ("all_gather",), sizes, 0.0, 0.0)
    yield Stage(BETWEEN, shared - 1, (send,), shared)


def _tasks(graph: Graph, body: Body, point: Point, nodes: Sequence[Node]) -> Iterator[Task]:
    """Yield the tasks of some nodes of a body in order."""
    measure = Measure(graph, body, point)
    for group in groups(nodes):
        task = _task(measure, group)
        if task is not None:
            yield task


def _task(measure: Measure, group: Sequence[Node]) -> Task | None:
    """Return the task of a group of nodes, None where it does nothing at any point."""
    uses = measure.uses(group)
    flops, moved = measure.flops(uses), measure.bytes(uses)
    sizes = measure.sizes(kind_of(group), uses, moved)
    alone = isinstance(sizes, CollectiveSizes) and everywhere(sizes.chips, 1)
    if never(moved) and (alone or (sizes.kind is Kind.VECTOR and never(flops))):
        return None
    if alone:  # it does nothing, and its formulas' bytes are kept
        sizes = CollectiveSizes(chips=1.0, bytes=0.0)
    name, ops = name_of(measure.graph, group), tuple(n.op for n in group)
    return Task(name, ops, sizes, flops, moved, group[0].path)
