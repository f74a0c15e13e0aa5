# SPDX-License-Identifier: Apache-2.0
"""Whole numbers in texts from anyone: ASCII digits up to a limit, whatever else Python would take for digits."""

from __future__ import annotations


def whole_number(text: str, limit: int) -> int | None:
    """Return the number that a text writes in decimal digits, None where it writes none, or one above the limit."""
    if not (text.isascii() and text.isdecimal()):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(limit)):
        return None
    number = int(digits)
    return number if number <= limit else None
