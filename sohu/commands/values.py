# SPDX-License-Identifier: Apache-2.0
"""What the values of options may be that say how tokens are chosen and on which mesh. Chooses nothing."""

from __future__ import annotations

import argparse

from dsl.whole_numbers import whole_number

LARGEST_SEED = 2**64 - 1
MAX_TEMPERATURE = 1e6


def temperature(text: str) -> float:
    """Return the temperature that a text writes."""
    return _between(text, 0.0, MAX_TEMPERATURE)


def part(text: str) -> float:
    """Return the part of a whole, from 0 to 1, that a text writes."""
    return _between(text, 0.0, 1.0)


def share(text: str) -> float:
    """Return the share that a text writes, above 0: nothing could be drawn from none."""
    value = part(text)
    if value == 0:
        raise argparse.ArgumentTypeError("no token is in a share of 0; --top-k 1 is the likeliest")
    return value


def seed(text: str) -> int:
    """Return the seed that a text writes."""
    value = whole_number(text, LARGEST_SEED)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no whole number below 2^64")
    return value


def stop(text: str) -> str:
    """Return a text that stops an answer."""
    if not text:
        raise argparse.ArgumentTypeError("an empty text would stop every answer")
    return text


def mesh_as_dict(text: str) -> dict[str, int] | None:
    """Return a mesh that was read before as JSON data, None for one chip."""
    axes = [part.strip().split("=") for part in text.split(",") if part.strip()]
    return {axis: int(size) for axis, size in axes} or None


def _between(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no number from {low:g} to {high:g}")
    return value
