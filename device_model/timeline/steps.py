# SPDX-License-Identifier: Apache-2.0
"""The one timeline: what a step pays for its tasks in order, and their sum, at every point at once.

A layer class is priced once and counted as often as it has layers. Tasks follow each other, as kernels of a stream do;
main memory works beside the engine that waits for it, and links beside work as far as the chip's description says.
Sizes, layers and rates are numbers or arrays that broadcast: what does not depend on an axis is not computed along it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Number
from device_model.timeline.intervals import StageTime, busiest
from device_model.timeline.kinds import CollectiveSizes, Kind
from device_model.timeline.pricing import (
    COMPUTE,
    LATENCY,
    LINKS,
    MEMORY,
    POWER,
    Price,
    Prices,
)
from device_model.timeline.sizes import everywhere
from device_model.timeline.tasks import Stage, Task

FIXED = ("launch", "scan")
"""Terms that a task's size does not change."""
WAITS = (COMPUTE, MEMORY, LINKS, LATENCY, POWER)


@dataclass(frozen=True, slots=True)
class Charge:
    """What a step pays for a task: its price, `seconds` of one layer, how many layers, stages that share them."""

    stage: str
    task: Task
    price: Price
    seconds: Array
    layers: Number
    pipeline: Number
    indices: tuple[int, ...] = ()

    @property
    def fixed(self) -> Array:
        """Return the seconds of one layer that the task's size does not change."""
        terms = self.price.terms
        return np.minimum(sum((terms.get(n, 0.0) for n in FIXED), np.zeros(())), self.seconds)

    def waits(self) -> Iterator[tuple[str, Array]]:
        """Yield the seconds of one layer by what they wait for: what size does not change, the rest by its bound."""
        fixed = self.fixed
        yield LATENCY, fixed
        terms = self.price.waits()
        longest = np.argmax(np.stack(np.broadcast_arrays(*terms.values())), axis=0)
        for index, kind in enumerate(terms):
            yield kind, np.where(longest == index, self.seconds - fixed, 0.0)


@dataclass(slots=True)
class Step:
    """The sums of a step: seconds, seconds between steps of a full pipeline, waits by kind, and work on one chip.

    The work is that of a chip in the mean over the stages; the time between steps is that of the busiest of them.

    `links` are the seconds that links are busy, hidden behind other work or not; `bytes` those of main memory that the
    prices stand for.
    """

    seconds: Any = 0.0
    interval: Any = 0.0
    waits: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(WAITS, 0.0))
    flops: Any = 0.0
    bytes: Any = 0.0
    links: Any = 0.0

    @classmethod
    def over(cls, shape: tuple[int, ...]) -> Step:
        """Return sums at so many points along each axis, to be put in block by block."""
        waits = {kind: np.empty(shape) for kind in WAITS}
        return cls(np.empty(shape), np.empty(shape), waits, *(np.empty(shape) for _ in range(3)))

    def put(self, block: tuple[slice, ...], part: Step) -> None:
        """Put in the sums of a block of points."""
        for name in ("seconds", "interval", "flops", "bytes", "links"):
            getattr(self, name)[block] = getattr(part, name)
        for kind in WAITS:
            self.waits[kind][block] = part.waits[kind]

    def add(self, charge: Charge) -> None:
        """Add what all layers pay for a task."""
        layers, pipeline, price = charge.layers, charge.pipeline, charge.price
        self.seconds = self.seconds + layers * charge.seconds
        for kind, seconds in charge.waits():
            self.waits[kind] = self.waits[kind] + layers * seconds
        self.flops = self.flops + layers * charge.task.flops / pipeline
        self.bytes = self.bytes + layers * price.moved / pipeline
        if charge.task.kind is Kind.COLLECTIVE:
            self.links = self.links + layers * price.terms["links"]


def charges(stages: Sequence[Stage], prices: Prices) -> Iterator[Charge]:
    """Yield what a step pays for each of its tasks, in order."""
    for stage in stages:
        for task, joins in zip(stage.tasks, _joins_next(stage.tasks, stage.layers), strict=True):
            price = prices.of(task)
            # The last pass of a layer and the first of the next are one kernel.
            launch = np.minimum(price.terms.get("launch", 0.0), price.seconds)
            seconds = price.seconds - np.where(joins, launch, 0.0)
            yield Charge(
                stage.name, task, price, seconds, stage.layers, stage.stages, stage.indices
            )


def add_up(paid: Iterable[Charge]) -> Step:
    """Return the sums of a step."""
    step, parts = Step(), dict[str, StageTime]()
    for charge in paid:
        step.add(charge)
        before = parts.get(charge.stage)
        seconds = charge.seconds + (before.seconds if before else 0.0)
        parts[charge.stage] = StageTime(seconds, charge.pipeline, charge.indices)
    alone = all(everywhere(part.pipeline, 1) for part in parts.values())
    step.interval = step.seconds if alone else busiest(parts)
    return step


def _joins_next(tasks: Sequence[Task], layers: Number) -> list[Any]:
    """Return at which points a task and the first of the next layer are one kernel: both element-wise, both there."""
    count: Any = sum(np.where(_absent(task), 0, 1) for task in tasks)
    first = reduce(or_, _leads(tasks), np.zeros((), bool))
    both = first & (np.asarray(layers) > 1) & (np.asarray(count) > 1)
    return [both & last for last in _leads(tasks[::-1])][::-1]


def _leads(tasks: Sequence[Task]) -> Iterator[Any]:
    """Yield at which points each task is the first that is there, and element-wise."""
    free: Any = np.ones((), bool)
    for task in tasks:
        gone = _absent(task)
        yield free & ~gone & (task.kind is Kind.VECTOR)
        free = free & gone


def _absent(task: Task) -> NDArray[np.bool_]:
    """Return at which points a task is not there: a collective of one chip that moves nothing."""
    if not isinstance(task.sizes, CollectiveSizes):
        return np.zeros((), bool)
    return np.asarray((np.asarray(task.sizes.chips) == 1) & (np.asarray(task.bytes) == 0))
