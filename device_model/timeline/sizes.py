"""Sizes at a point, or at many points at once: exact for one, floats over arrays.

An array is as long along its own axis as its name has values and 1 along all others, so that a size has no more entries
than what it depends on has values. Annotations say `float` where either may come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from dsl.symbolic import Dim, evaluate, evaluate_over

FUNCTIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "min": np.minimum,
    "max": np.maximum,
    "floor": lambda a, b: np.floor(a / b),
    "mod": lambda a, b: a - b * np.floor(a / b),
    "ceil_div": lambda a, b: np.ceil(a / b),
}
"""The opaque functions of the language over arrays."""


def size_at(value: Dim, point: Mapping[str, Any]) -> float:
    """Return a size at a point; an array where the point holds arrays that it depends on."""
    if not any(isinstance(v, np.ndarray) for v in point.values()):
        return float(evaluate(value, point))
    found: Any = evaluate_over(value, point, FUNCTIONS)
    size: Any = found if isinstance(found, np.ndarray) else float(found)
    return cast("float", size)


def larger(a: float, b: float) -> float:
    """Return the larger of two numbers, point by point."""
    found: Any = np.maximum(a, b)
    return found if np.ndim(found) else float(found)


def positive(*values: float) -> float:
    """Return the least of the numbers above zero, infinite where there is none."""
    least: Any = float("inf")
    for value in values:
        least = np.minimum(least, np.where(np.asarray(value) > 0, value, np.inf))
    return least if np.ndim(least) else float(least)


def everywhere(value: float, known: float) -> bool:
    """Tell whether a number is a known one at every point."""
    return bool(np.all(np.asarray(value) == known))


def never(value: float) -> bool:
    """Tell whether a number is zero, or a comparison false, at every point."""
    return not np.any(value)
