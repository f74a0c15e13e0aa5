"""A program's time on a chip: its tasks in order, what each engine does meanwhile, and what holds the whole up.

A layer class is priced once and counted as often as it has layers. Tasks follow each other, as kernels of a stream do;
main memory works beside the engine that waits for it, and links beside work as far as the chip's description says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from device_model.timeline.pricing import ENGINES, LATENCY, Price, Prices
from device_model.timeline.tasks import Kind, Stage, Task, stages
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
    """A task of a stage with its price; `seconds` is of one layer, `layers` how many a step passes."""

    stage: str
    layers: int
    pipeline: int
    task: Task
    price: Price
    seconds: float

    @property
    def engine(self) -> str:
        """Return what does the work."""
        return ENGINES[self.task.kind]

    @property
    def total(self) -> float:
        """Return the seconds of all layers."""
        return self.layers * self.seconds


@dataclass(frozen=True)
class Timeline:
    """The entries of one step in order, on one chip of a mesh, and what follows from them."""

    prices: Prices
    entries: tuple[Entry, ...]
    chips: int
    host: float = 0.0

    @cached_property
    def seconds(self) -> float:
        """Return the time of a step from its first to its last task, through all stages of a pipeline."""
        return self.host + sum(e.total for e in self.entries)

    @cached_property
    def interval(self) -> float:
        """Return the time between steps where a pipeline is kept full: that of its busiest stage, in the mean."""
        return self.host + sum(e.total / e.pipeline for e in self.entries)

    @cached_property
    def flops(self) -> float:
        """Return the FLOPs of a step on one chip."""
        return sum(e.task.flops * e.layers / e.pipeline for e in self.entries)

    @cached_property
    def bytes(self) -> float:
        """Return the bytes that the operations of a step move on one chip."""
        return sum(e.task.bytes * e.layers / e.pipeline for e in self.entries)

    @property
    def mfu(self) -> float:
        """Return the share of the matmul unit's peak that a step uses."""
        return self.flops / (self.interval * float(self.prices.chip.peak))

    @property
    def bandwidth_use(self) -> float:
        """Return the share of the time in which main memory is busy."""
        busy = sum(e.price.memory_seconds * e.layers / e.pipeline for e in self.entries)
        return min(busy / self.interval, 1.0)

    def engines(self) -> Mapping[str, float]:
        """Return the seconds of a step by the engine that works, main memory beside the others."""
        found: dict[str, float] = {}
        for e in self.entries:
            found[e.engine] = found.get(e.engine, 0.0) + e.total
        busy = sum(e.price.memory_seconds * e.layers for e in self.entries)
        return {**found, MEMORY_ENGINE: busy}

    def waits(self, stage: str | None = None) -> Mapping[str, float]:
        """Return the seconds by what tasks are bound by, the most first; of one stage or of the whole."""
        found: dict[str, float] = {}
        for e in self.entries:
            if stage in (None, e.stage):
                fixed = _fixed(e)
                found[LATENCY] = found.get(LATENCY, 0.0) + fixed * e.layers
                rest = (e.seconds - fixed) * e.layers
                found[e.price.bound] = found.get(e.price.bound, 0.0) + rest
        if self.host and stage is None:
            found[LATENCY] = found.get(LATENCY, 0.0) + self.host
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def stage_names(self) -> tuple[str, ...]:
        """Return the stages in order."""
        return tuple(dict.fromkeys(e.stage for e in self.entries))

    def bottleneck(self, stage: str | None = None) -> str:
        """Return in words what holds a stage, or the whole, up."""
        waits = self.waits(stage)
        entries = [e for e in self.entries if stage in (None, e.stage)]
        total = sum(waits.values())
        if not entries or total <= 0:
            return "nothing to do"
        kind = next(iter(waits))
        most = max((e for e in entries), key=lambda e: _waiting(e, kind))
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
    found = stages(graph, point, last_logits=last_logits)
    return priced(found, chips_of(graph, point), prices, host)


def chips_of(graph: Graph, point: Mapping[str, int]) -> int:
    """Return the chips of a mesh."""
    return prod(point.get(axis, 1) for axis in graph.mesh)


def priced(found: Sequence[Stage], chips: int, prices: Prices, host: float = 0.0) -> Timeline:
    """Return the time of one step whose tasks are known, such as at several rates of a chip."""
    entries = tuple(entry for stage in found for entry in _entries(stage, prices))
    return Timeline(prices, entries, chips, host)


def _entries(stage: Stage, prices: Prices) -> Iterator[Entry]:
    for number, task in enumerate(stage.tasks):
        price = prices.of(task)
        seconds = price.seconds
        if _joins_next(stage.tasks, number, stage.layers):
            # The last pass of a layer and the first of the next are one kernel.
            seconds -= min(price.terms.get("launch", 0.0), seconds)
        yield Entry(stage.name, stage.layers, stage.stages, task, price, seconds)


def _joins_next(tasks: Sequence[Task], number: int, layers: int) -> bool:
    last = number == len(tasks) - 1 and number > 0 and layers > 1
    return last and tasks[0].kind is Kind.VECTOR and tasks[-1].kind is Kind.VECTOR


def _fixed(entry: Entry) -> float:
    """Return the seconds of an entry that its size does not change."""
    fixed = sum(entry.price.terms.get(name, 0.0) for name in ("launch", "scan"))
    return min(fixed, entry.seconds)


def _waiting(entry: Entry, kind: str) -> float:
    fixed = _fixed(entry)
    if kind == LATENCY:
        return fixed * entry.layers
    return (entry.seconds - fixed) * entry.layers if entry.price.bound == kind else 0.0
