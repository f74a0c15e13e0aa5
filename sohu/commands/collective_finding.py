# SPDX-License-Identifier: Apache-2.0
"""What `sohu collective find` says: the quickest schedule that a search knows, and how far it is from its bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from device_model.collectives.bound import Bound
    from device_model.collectives.find import Searched


def as_data(answer: Searched) -> dict[str, object]:
    """Return what was found as JSON data; `excess` is 0.02 where it takes 2 % more than the bound."""
    least = answer.bound
    return {
        "method": answer.method,
        "tried": answer.tried,
        "seconds": answer.seconds,
        "excess": answer.excess,
        "bound": {
            "seconds": least.seconds,
            "cut": least.cut,
            "bytes": least.bytes,
            "capacity": least.capacity,
            "latency": least.latency,
        },
    }


def in_lines(answer: Searched, size: float) -> str:
    """Return what was found in three lines."""
    many = f"the best of {answer.tried}" if answer.tried > 1 else "the first that was tried"
    over = abs(answer.excess)
    return (
        f"  {size:,.0f} bytes in {answer.seconds * 1e6:,.2f} µs, {over:.1%} from the bound\n"
        f"  {answer.method}; {many}\n"
        f"  bound: {_bound_in_words(answer.bound)}"
    )


def _bound_in_words(least: Bound) -> str:
    """Return a bound with the cut that it comes from."""
    if not least.seconds:
        return "nothing is sent"
    way = f"{least.seconds * 1e6:,.2f} µs, {least.cut}"
    late = f"{least.latency * 1e6:,.4g} µs of latency"
    if not least.bytes:
        return f"{way}: {late}"
    return f"{way}: {least.bytes:,.0f} bytes at {least.capacity / 1e9:,.4g} GB/s, and {late}"
