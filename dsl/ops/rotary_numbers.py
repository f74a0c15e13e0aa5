# SPDX-License-Identifier: Apache-2.0
"""Constants of a rotation that make no numbers, looked at before a kernel divides by them or takes logarithms.

Only constants that are known are looked at. The rules are those of transformers' modeling_rope_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

LARGEST = math.log((2.0 - 2.0**-23) * 2.0**127)
"""The logarithm of the largest float32."""
DIVIDED = frozenset({"linear", "llama3", "yarn", "proportional"})


def is_single(value: object) -> bool:
    """Tell whether a constant is a float32 number, as far as it is known."""
    return not isinstance(value, (int, float)) or value == 0 or math.log(abs(value)) <= LARGEST


def faulty_frequencies(width: object, attrs: Mapping[str, object]) -> str:
    """Return what is wrong with the constants of `rope_frequencies`, nothing where each frequency is a float32."""
    theta, factor = _known(attrs, "theta"), _known(attrs, "factor")
    if not isinstance(width, int) or theta is None:
        return ""
    slope = -2.0 * math.log(theta) / width
    last = width // 2 - 1
    divisors = attrs.get("factors")
    if isinstance(divisors, tuple):
        logs = [j * slope - math.log(float(divisor)) for j, divisor in enumerate(divisors)]
    else:
        logs = [0.0, last * slope]
    is_divided = attrs.get("scaling") in DIVIDED and factor is not None
    largest = max(logs) + (max(0.0, -math.log(factor)) if is_divided and factor else 0.0)
    if largest > LARGEST:
        return f"a frequency is about 1e{largest / math.log(10.0):.0f}, which no float32 is"
    return _faulty_bounds(attrs) or _faulty_proportion(width, attrs)


def _faulty_bounds(attrs: Mapping[str, object]) -> str:
    original = _known(attrs, "original_max_position_embeddings")
    if attrs.get("scaling") != "yarn" or original is None:
        return ""
    for name in ("beta_fast", "beta_slow"):
        turns = _known(attrs, name)
        if turns is not None and not 0.0 < original / (2.0 * math.pi * turns) < math.inf:
            return f"{name} is {turns:g}, of an original length of {original:g}"
    return ""


def _faulty_proportion(width: int, attrs: Mapping[str, object]) -> str:
    proportion = _known(attrs, "proportion")
    if attrs.get("scaling") != "proportional" or proportion is None:
        return ""
    return "" if 0.0 <= proportion * width < math.inf else f"proportion is {proportion:g}"


def _known(attrs: Mapping[str, object], name: str) -> float | None:
    value = attrs.get(name)
    return float(value) if isinstance(value, (int, float)) else None
