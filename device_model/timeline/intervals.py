# SPDX-License-Identifier: Apache-2.0
"""The time between steps of a pipeline that is kept full: what its busiest stage works on one of them.

Stages are as `counting` deals the layers out; the ends of a program are its first and last stage's. How steps are
brought to a pipeline is the runtime's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_model.cost.chip import Number
from device_model.timeline.tasks import AFTER, BEFORE, BETWEEN
from dsl.counting.stages import Load, loads


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds of one layer of a class, or of what is outside of layers; the stages that share them; the layers."""

    seconds: Any
    pipeline: Number
    layers: tuple[int, ...] = ()


def busiest(parts: Mapping[str, StageTime]) -> Any:
    """Return the seconds of the stage that works the longest, at every point."""
    stages = [np.asarray(part.pipeline) for part in parts.values()]
    numbers = sorted({int(n) for each in stages for n in np.unique(each)})
    if len(numbers) == 1:
        return _longest(parts, numbers[0])
    shared = np.maximum.reduce(np.broadcast_arrays(*stages))
    result: Any = 0.0
    for number in numbers:
        result = np.where(shared == number, _longest(parts, number), result)
    return result


def _longest(parts: Mapping[str, StageTime], stages: int) -> Any:
    classes = [part.layers for part in parts.values() if part.layers]
    times = [_seconds(parts, load) for load in loads(classes, stages)]
    return np.maximum.reduce(np.broadcast_arrays(*times))


def _seconds(parts: Mapping[str, StageTime], load: Load) -> Any:
    """Return the seconds of one stage: of its layers, the ends that it has, and what it sends on."""
    there = {BEFORE: load.first, BETWEEN: not load.last, AFTER: load.last}
    counts = iter(load.counts)
    total: Any = 0.0
    for name, part in parts.items():
        total = total + (next(counts) if part.layers else there[name]) * part.seconds
    return total
