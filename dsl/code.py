# SPDX-License-Identifier: Apache-2.0
"""What a diagnostic code is; the codes themselves are in `codes`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A diagnostic code: a short title and an explanation of a few sentences."""

    title: str
    explanation: str
