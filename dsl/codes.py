"""Every diagnostic code with its title and what to do about it: the table behind `sohu explain`.

S1xx syntax, S2xx names, types and shapes, S3xx sharding, S4xx config, S5xx checkpoint and files, S6xx device.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A diagnostic code: a short title and an explanation of a few sentences."""

    title: str
    explanation: str


CODES: dict[str, Code] = {}
