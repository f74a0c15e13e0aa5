# SPDX-License-Identifier: Apache-2.0
"""A step at one point: each task with its time, what the engines do meanwhile, and what holds the whole up.

Times are those of `steps`, as plain numbers for people, traces and JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from device_model.cost.attention import visible_pairs
from device_model.timeline.kinds import AttentionSizes, CollectiveSizes
from device_model.timeline.places import place_words
from device_model.timeline.pricing import ENGINES, LATENCY, MEMORY, Prices, choice_words
from device_model.timeline.steps import Charge, add_up, charges
from device_model.timeline.tasks import Stage, Task, stages
from dsl.graph import Graph

MEMORY_ENGINE = "memory"
WAITS: Mapping[str, str] = {
    "compute": "the matmul unit's rate",
    "memory": "main memory's bandwidth",
    "links": "the links between chips",
    "latency": "launches and latencies",
    "power": "the power limit",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A task of a stage with its time; `seconds` is of one layer, `layers` how many a step passes."""

    stage: str
    layers: int
    pipeline: int
    task: Task
    seconds: float
    alone: float
    """Seconds by itself, where the next layer's first pass does not share its launch."""
    fixed: float
    """Of `seconds`, those that the task's size does not change."""
    terms: Mapping[str, float]
    """Seconds by term of the cost formula."""
    bound: str
    memory_seconds: float
    """Seconds that main memory is busy."""
    choice: str
    """What the formula chose, in words: a tile, an algorithm."""
    place: str
    """Where the chips of an exchange are, in words."""

    @property
    def engine(self) -> str:
        """Return what does the work."""
        return ENGINES[self.task.kind]

    @property
    def total(self) -> float:
        """Return the seconds of all layers."""
        return self.layers * self.seconds

    @property
    def flops(self) -> float:
        """Return the FLOPs of one layer's operations."""
        return float(self.task.flops)

    @property
    def bytes(self) -> float:
        """Return the bytes that one layer's operations move."""
        return float(self.task.bytes)

    @property
    def waits(self) -> tuple[tuple[str, float], ...]:
        """Return the seconds of all layers by what they wait for; what size does not change is latency."""
        rest = self.seconds - self.fixed
        return (LATENCY, self.fixed * self.layers), (self.bound, rest * self.layers)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The entries of one step in order, on one chip of a mesh, and what follows from them."""

    prices: Prices
    entries: tuple[Entry, ...]
    chips: int
    host: float
    """Seconds between steps."""
    seconds: float
    """From the first to the last task, through all stages of a pipeline, and the host's."""
    interval: float
    """Seconds between steps where a pipeline is kept full: those of its busiest stage."""
    flops: float
    """FLOPs of a step on one chip."""

    @property
    def bytes(self) -> float:
        """Return the bytes that the operations of a step move on one chip."""
        return sum(e.bytes * e.layers / e.pipeline for e in self.entries)

    @property
    def mfu(self) -> float:
        """Return the share of the matmul unit's peak that a step uses, masked pairs of attention not counted."""
        useful = sum(useful_flops(e.task) * e.layers / e.pipeline for e in self.entries)
        return useful / (self.interval * float(self.prices.chip.peak))

    @property
    def bandwidth_use(self) -> float:
        """Return the share of the time in which main memory is busy."""
        busy = sum(e.memory_seconds * e.layers / e.pipeline for e in self.entries)
        return min(busy / self.interval, 1.0)

    def engines(self) -> Mapping[str, float]:
        """Return the seconds of a step by the engine that works, main memory beside the others."""
        seconds: dict[str, float] = {}
        for e in self.entries:
            seconds[e.engine] = seconds.get(e.engine, 0.0) + e.total
        busy = sum(e.memory_seconds * e.layers for e in self.entries)
        return {**seconds, MEMORY_ENGINE: busy}

    def waits(self, stage: str | None = None) -> Mapping[str, float]:
        """Return the seconds by what tasks are bound by, the most first; of one stage or of the whole."""
        waits: dict[str, float] = {}
        for e in self.entries:
            for kind, seconds in e.waits if stage in (None, e.stage) else ():
                waits[kind] = waits.get(kind, 0.0) + seconds
        if self.host and stage is None:
            waits[LATENCY] = waits.get(LATENCY, 0.0) + self.host
        return dict(sorted(waits.items(), key=lambda item: -item[1]))

    def bottleneck(self, stage: str | None = None) -> str:
        """Return in words what holds a stage, or the whole, up."""
        waits = self.waits(stage)
        entries = [e for e in self.entries if stage in (None, e.stage)]
        total = sum(waits.values())
        if not entries or total <= 0:
            return "nothing to do"
        kind = next(iter(waits))
        most = max(entries, key=lambda e: sum(s for k, s in e.waits if k == kind))
        share = waits[kind] / total
        return f"{share:.0%} of the time goes to {WAITS[kind]}, most of it in {most.task.name}"


def timeline(
    graph: Graph,
    point: Mapping[str, int],
    prices: Prices,
    *,
    host: float = 0.0,
    last_logits: bool = True,
) -> Timeline:
    """Return the time of one step of a program: `host` seconds are added once, for what the host does between steps."""
    tasks = stages(graph, point, last_logits=last_logits)
    return priced(tasks, chips_of(graph, point), prices, host)


def chips_of(graph: Graph, point: Mapping[str, int]) -> int:
    """Return the chips of a mesh."""
    return prod(point.get(axis, 1) for axis in graph.mesh)


def priced(tasks: Sequence[Stage], chips: int, prices: Prices, host: float = 0.0) -> Timeline:
    """Return the time of one step whose tasks are known, such as at several rates of a chip."""
    paid = tuple(charges(tasks, prices))
    step = add_up(paid)
    seconds, interval = host + float(step.seconds), host + float(step.interval)
    entries = tuple(_entry(charge, prices) for charge in paid)
    return Timeline(prices, entries, chips, host, seconds, interval, float(step.flops))


def _entry(charge: Charge, prices: Prices) -> Entry:
    """Return what a step pays for a task in plain numbers."""
    price, waits, sizes = charge.price, charge.price.waits(), charge.task.sizes
    place = ""
    if isinstance(sizes, CollectiveSizes):
        domain = float(prices.chip.domain)
        place = place_words(sizes.spans, domain, neighbours=sizes.neighbours)
    return Entry(
        stage=charge.stage,
        layers=int(charge.layers),
        pipeline=int(charge.pipeline),
        task=charge.task,
        seconds=float(charge.seconds),
        alone=float(price.seconds),
        fixed=float(charge.fixed),
        terms={name: float(value) for name, value in price.terms.items()},
        bound=max(waits, key=lambda kind: float(waits[kind])),
        memory_seconds=float(np.minimum(waits.get(MEMORY, 0.0), price.seconds)),
        choice=choice_words({name: float(value) for name, value in price.chosen.items()}),
        place=place,
    )


def useful_flops(task: Task) -> float:
    """Return the FLOPs of a task without the pairs of queries and keys that its mask leaves out."""
    s = task.sizes
    if not (isinstance(s, AttentionSizes) and s.causal):
        return float(task.flops)
    window = s.window if np.isfinite(s.window) else None
    pairs = float(visible_pairs(s.new, s.context, window))
    return float(2.0 * s.batch * s.heads * (s.head_dim + s.value_dim) * pairs)
