# SPDX-License-Identifier: Apache-2.0
"""What the cost of an operation depends on in a chip, as plain numbers.

Any field may also be an array: then a formula gives the time on many chips at once, which is how designs are swept.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Number = float | Array
Shape = TypeVar("Shape")
"""The shape of an operation: a dataclass of sizes."""


@dataclass(frozen=True, slots=True)
class Chip:
    """Rates of a chip, all for one dtype of the matmul unit: FLOP/s, bytes/s, bytes, counts; datasheet values."""

    peak: Number
    """FLOP/s of the matmul unit, dense, all units together."""
    bandwidth: Number
    """Bytes/s of main memory."""
    units: Number
    """Multiprocessors (cores) that tiles of work are dealt to."""
    onchip: Number
    """Bytes of the last-level memory on the chip."""
    link: Number = 0.0
    """Bytes/s that a chip sends inside of its scale-up domain, one direction."""
    domain: Number = 1
    """Chips in the scale-up domain."""
    scaleout: Number = 0.0
    """Bytes/s per chip, one direction, outside of that domain."""
    clock: Number = 1.0e9
    """Cycles/s of the units."""
    power: Number = float("inf")
    """Watts that the chip may draw."""
    joule: Number = 5.5e-13
    """Joules of a FLOP; where nothing is known, as on the chip that the parameters were fitted on."""
    multicast: Number = 1.0
    """Units that one load from the on-chip memory can serve."""
    boost: Number = 0.0
    """Cycles/s while the power limit allows them, where that is more than `clock`."""
    copies: Number = 0.0
    """1 where copies of whole tiles between memories run on their own; 0 where the units' threads issue them."""


def least(*times: Number) -> Array:
    """Return the least of some times, element by element."""
    smallest = np.asarray(times[0], np.float64)
    for time in times[1:]:
        smallest = np.minimum(smallest, time)
    return smallest


def overlapped(sharpness: float, *times: Number) -> Array:
    """Return the time of parts that run beside each other: their p-norm, never below the longest (p ≥ 1)."""
    longest = np.asarray(times[0], np.float64)
    for time in times[1:]:
        longest = np.maximum(longest, time)
    safe = np.where(longest > 0, longest, 1.0)
    total = sum((np.asarray(time) / safe) ** sharpness for time in times)
    return np.asarray(longest * total ** (1.0 / sharpness), np.float64)


def floats(shape: Shape) -> Shape:
    """Return a shape with its sizes as arrays of floats; what is absent, and statements, stay as they are."""
    given: Any = shape
    made: Shape = replace(given, **{f.name: _floats(getattr(shape, f.name)) for f in fields(given)})
    return made


def _floats(value: Any) -> Any:
    absent = value is None or np.asarray(value).dtype == np.bool_
    return value if absent else np.asarray(value, np.float64)
