# SPDX-License-Identifier: Apache-2.0
"""A space of designs: which values each quantity of a chip, of the load, of the mesh and of the numerics may take.

Its points are the cross product. Every name has an axis of its own, so that arrays over one name broadcast against
those over another. Evaluates nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_model.chips.chip import QUANTITIES, Device
from device_model.chips.peaks import peak_key
from device_model.cost.rates import OPTIONAL

MAX_POINTS = 1_000_000
NUMERICS = "numerics"
LOAD: Mapping[str, str] = {
    "batch": "sequences that decode together",
    "seq": "tokens of a prompt; above 1 the prefill is timed too",
    "context": "tokens cached when a step decodes",
    "prompts": "prompts that one prefill step takes, at most the batch",
    "answer": "tokens generated after each prompt, for whole requests",
    "skew": "power law of expert loads, 0 for even ones",
    "host": "seconds between steps",
}
WHOLE = frozenset({"batch", "seq", "context", "prompts", "answer"})
# Quantities that times, memory and energy read whatever the numerics are; peaks come with a format.
READ = frozenset(
    {"bf16_flops", "vector_flops", "units", "clock_hz", "onchip_bytes", "hbm_bytes", "hbm_bw"}
    | {"link_overlap", "switch_reduces", "flop_joule", "hbm_joule_per_byte", "idle_w"}
    | {key for key, _ in OPTIONAL.values()}
)
ENERGY = ("idle_w", "flop_joule", "hbm_joule_per_byte")


@dataclass(frozen=True)
class Design:
    """The values of every name that has some; names of the load that are missing have their usual value."""

    numbers: Mapping[str, tuple[float, ...]]
    numerics: tuple[str, ...]

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Return the names with an axis: those of several numbers, in order."""
        return tuple(name for name, values in self.numbers.items() if len(values) > 1)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Return the points along each axis, for one format."""
        return tuple(len(self.numbers[name]) for name in self.varied)

    @property
    def points(self) -> int:
        """Return how many points there are in all."""
        return prod(self.shape) * len(self.numerics)

    def value(self, name: str, default: float) -> Any:
        """Return the values of a name along its axis, or its only one, whole where they count something."""
        values = self.numbers.get(name, (default,))
        if len(values) == 1:
            only = values[0]
            return int(only) if only == int(only) else only
        shape = [1] * len(self.varied)
        shape[self.varied.index(name)] = len(values)
        return np.asarray(values, np.float64).reshape(shape)

    def changes(self) -> dict[str, Any]:
        """Return the quantities of the chip that are given, each along its axis."""
        return {n: self.value(n, 0.0) for n in self.numbers if n in QUANTITIES}

    def blocks(self, most: int) -> Iterator[tuple[slice, ...]]:
        """Yield the parts of the space for one format: at most so many points each, as far as one value allows."""
        steps = list(self.shape)
        while prod(steps) > most and max(steps) > 1:
            longest = steps.index(max(steps))
            steps[longest] = -(-steps[longest] // 2)
        starts = [range(0, size, step) for size, step in zip(self.shape, steps, strict=True)]
        for corner in product(*starts):
            yield tuple(slice(at, at + step) for at, step in zip(corner, steps, strict=True))

    def flat(self, value: Any) -> NDArray[Any]:
        """Return a value at every point of one format, in the order of the points."""
        return np.ascontiguousarray(np.broadcast_to(value, self.shape)).reshape(-1)


def cut(value: Any, block: tuple[slice, ...]) -> Any:
    """Return the part of a value that lies in a block; what does not depend on an axis stays as it is."""
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return value
    sizes = value.shape
    return value[tuple(b if n > 1 else slice(None) for b, n in zip(block, sizes, strict=True))]


def read_by(device: Device, numerics: tuple[str, ...]) -> frozenset[str]:
    """Return the quantities of a chip that the answer depends on; raises `Refused` for a format it has no unit for."""
    return READ | {peak_key(device, name) for name in numerics}
