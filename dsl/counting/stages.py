# SPDX-License-Identifier: Apache-2.0
"""The stages of a pipeline: which layers each has, and what of the rest of a program lies where.

What stands before the layers is done on the first stage, what stands behind them on the last. What layers read from
outside comes with the carried values where weights or states went into it, and is made anew on every stage where not.
When a stage works, and what a chip does meanwhile, is the device model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto

from dsl.graph import Graph, Node, Repeat
from dsl.symbolic import Dim, opaque, symbol


class Holders(Flag):
    """Stages that hold something from outside of the layers."""

    FIRST = auto()
    INNER = auto()
    LAST = auto()
    EVERY = FIRST | INNER | LAST


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of a program: the axis, its layers, where weights and states from outside of them lie, by value.

    `sent` are the values that go from stage to stage beside those that layers carry.
    """

    axis: str
    repeat: Repeat
    places: Mapping[int, Holders]
    sent: tuple[int, ...]

    @property
    def classes(self) -> tuple[tuple[int, ...], ...]:
        """Return the layers of each class."""
        return tuple(cls.layers for cls in self.repeat.classes)

    def copies(self, value: int) -> Dim:
        """Return how many stages hold a weight or a state from outside of the layers."""
        place = self.places.get(value, Holders.FIRST)
        if Holders.INNER in place:
            return symbol(self.axis)
        return opaque("min", 2, symbol(self.axis)) if place == Holders.FIRST | Holders.LAST else 1


@dataclass(frozen=True, slots=True)
class Load:
    """What one stage has: how many layers of each class, and whether it is the first or the last one."""

    counts: tuple[int, ...]
    first: bool
    last: bool

    def has(self, place: Holders) -> bool:
        """Tell whether something that lies so is on this stage."""
        ends = (Holders.FIRST if self.first else Holders(0)) | (
            Holders.LAST if self.last else Holders(0)
        )
        return bool(place & (ends or Holders.INNER))


def stage_layers(layers: int, stages: int, stage: int) -> range:
    """Return the layers of a stage; where they do not come out even, the first stages have one more."""
    if not 0 <= stage < stages:
        raise ValueError(f"stage {stage} of {stages}")
    each, more = divmod(layers, stages)
    start = stage * each + min(stage, more)
    return range(start, start + each + (stage < more))


def loads(classes: Sequence[Sequence[int]], stages: int) -> tuple[Load, ...]:
    """Return what the stages of a pipeline have, each load that differs once; of each class its layers are given."""
    layers = sum(map(len, classes))
    kinds = {layer: number for number, own in enumerate(classes) for layer in own}
    found: dict[Load, None] = {}
    for stage in range(stages):
        counts = [0] * len(classes)
        for layer in stage_layers(layers, stages, stage):
            counts[kinds[layer]] += 1
        found[Load(tuple(counts), stage == 0, stage == stages - 1)] = None
    return tuple(found)


def pipeline(graph: Graph) -> Pipeline | None:
    """Return the stages of a program, None where its layers stay together."""
    repeats = [s for s in graph.body.steps if isinstance(s, Repeat) and s.stages]
    if not repeats or repeats[0].stages is None:
        return None
    repeat = repeats[0]
    at = graph.body.steps.index(repeat)
    before = [s for s in graph.body.steps[:at] if isinstance(s, Node)]
    after = [s for s in graph.body.steps[at + 1 :] if isinstance(s, Node)]
    outside = _Outside(graph, before)
    for node in before:
        outside.need(node.inputs, Holders.FIRST)
    outside.need(_captured(repeat), Holders.EVERY)
    outside.need((value for node in after for value in node.inputs), Holders.LAST)
    for value in outside.held - set(outside.places):
        outside.places[value] = Holders.FIRST
    return Pipeline(repeat.stages or "", repeat, outside.places, tuple(outside.sent))


class _Outside:
    """Follows values from outside of the layers back to the weights and states that they need."""

    def __init__(self, graph: Graph, before: Sequence[Node]) -> None:
        self.held = {w.value for w in graph.body.weights} | {s.value for s in graph.body.states}
        self.places: dict[int, Holders] = {}
        self.sent: dict[int, None] = {}
        self._heavy: dict[int, bool] = {}
        for node in before:
            heavy = any(v in self.held or self._heavy.get(v, False) for v in node.inputs)
            self._heavy |= dict.fromkeys(node.outputs, heavy)

    def need(self, values: Iterator[int] | Sequence[int], place: Holders) -> None:
        """Record that some stages read values."""
        for value in values:
            if value in self.held:
                self.places[value] = self.places.get(value, Holders(0)) | place
            elif self._heavy.get(value, False) and place != Holders.FIRST:
                self.sent[value] = None


def _captured(repeat: Repeat) -> Iterator[int]:
    """Yield the values that layers read and neither carry nor make."""
    for cls in repeat.classes:
        nodes = [step for step in cls.body.steps if isinstance(step, Node)]
        own = {*cls.carry_in, *(value for node in nodes for value in node.outputs)}
        own |= {w.value for w in cls.body.weights} | {s.value for s in cls.body.states}
        yield from (v for node in nodes for v in node.inputs if v not in own)
        yield from (v for v in cls.carry_out if v not in own)
