# SPDX-License-Identifier: Apache-2.0
"""Whole bytes of a formula at a point, or at many points at once: exact for one, floats over arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

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
ROUNDING = 2.0**-13
"""Sums of floats end this little above whole bytes; parts of a byte are multiples of 1/4096, the largest mesh's."""


def bytes_at(value: Dim, point: Mapping[str, Any]) -> Any:
    """Return a size in whole bytes: an integer, or an array where the point holds arrays that it depends on."""
    if not any(isinstance(size, np.ndarray) for size in point.values()):
        return ceil(evaluate(value, point))
    size: Any = evaluate_over(value, point, FUNCTIONS)
    return np.ceil(np.asarray(size) - ROUNDING) if isinstance(size, np.ndarray) else ceil(size)
