# SPDX-License-Identifier: Apache-2.0
"""What a serving framework's host and schedule add to the times of steps: three constants a framework.

How they make up the time of a token is in `device_model/timeline/serving.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostParameters:
    """Constants of a serving framework; `exposed` is its policy and assumed, the others are fitted."""

    host: float
    """Seconds of the host between steps."""
    exposed: float
    """Share of others' prefills that fall between a request's tokens: half where all of them are prefilled first."""
    burst: float
    """How much of a full queue of prompts a new one finds before it."""
