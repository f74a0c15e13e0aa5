# SPDX-License-Identifier: Apache-2.0
"""Sizes at a point, or at many points at once: exact for one, floats over arrays.

An array is as long along its own axis as its name has values and 1 along all others, so that a size has no more entries
than what it depends on has values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Number
from device_model.memory.points import FUNCTIONS
from dsl.symbolic import Dim, evaluate, evaluate_over


def size_at(value: Dim, point: Mapping[str, Any]) -> Number:
    """Return a size at a point; an array where the point holds arrays that it depends on."""
    if not any(isinstance(v, np.ndarray) for v in point.values()):
        return float(evaluate(value, point))
    return _plain(evaluate_over(value, point, FUNCTIONS))


def larger(a: Number, b: Number) -> Number:
    """Return the larger of two numbers, point by point."""
    return _plain(np.maximum(a, b))


def positive(*values: Number) -> Number:
    """Return the least of the numbers above zero, infinite where there is none."""
    least: Number = float("inf")
    for value in values:
        least = np.minimum(least, np.where(np.asarray(value) > 0, value, np.inf))
    return _plain(least)


def everywhere(value: Number, known: float) -> bool:
    """Tell whether a number is a known one at every point."""
    return bool(np.all(np.asarray(value) == known))


def never(value: Number | NDArray[np.bool_]) -> bool:
    """Tell whether a number is zero, or a comparison false, at every point."""
    return not np.any(value)


def _plain(value: Any) -> Number:
    """Return an array as it is, and anything else as a number."""
    return value if isinstance(value, np.ndarray) and value.ndim else float(value)
