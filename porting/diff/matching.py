# SPDX-License-Identifier: Apache-2.0
"""Find a value of the device among everything that the reference computed.

Values are compared row by row, whatever axes lie before the last one: a program may hold heads, experts or tokens in
another order than the reference. Nothing here knows an operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.float64]

TOLERANCES = (1e-5, 3e-6, 1e-6)
"""Distances of equal rows, relative to their length: first one that no rounding reaches, then finer ones."""
CANDIDATES = 32
"""Rows with nearly the same projection that are looked at."""
LARGEST = 1e30
"""Rows with larger numbers are masks."""
DEVIATIONS = 5.0
"""How far the projections of equal rows may lie apart, in allowed distances: the direction is random."""


class Golden:
    """The values of a stretch of the reference, by the width of their rows."""

    def __init__(self, values: Iterable[Array]) -> None:
        self._values = [np.asarray(value, np.float64) for value in values]
        self._tables: dict[tuple[int, bool], _Table | None] = {}

    def holds(self, value: Array, tolerance: float = TOLERANCES[0]) -> bool:
        """Tell whether the reference has a value's rows: as they are, or each in another order.

        `value` is [tokens, …]; a row is all of a token, or its last axis.
        """
        flat = np.asarray(value, np.float64)
        if not flat.size or not bool(np.isfinite(flat).all()):
            return not flat.size
        per_token = prod(flat.shape[1:])
        widths = dict.fromkeys((per_token, flat.shape[-1]))
        return any(
            table.has(flat.reshape(-1, width), tolerance)
            for ordered in (True, False)
            for width in widths
            if (table := self._table(width, ordered)) is not None
        )

    def nearest(self, value: Array) -> float:
        """Return the distance of a value to the nearest value of its size, relative to that; inf if there is none."""
        flat = np.asarray(value, np.float64).ravel()
        candidates = [v.ravel() for v in self._values if v.size == flat.size]
        return min(
            (float(_length(v - flat) / max(_length(v), 1e-300)) for v in candidates), default=np.inf
        )

    def _table(self, width: int, ordered: bool) -> _Table | None:
        key = (width, ordered)
        if key not in self._tables:
            rows = [v.reshape(-1, width) for v in self._values if width in _tails(v)]
            self._tables[key] = _Table(np.concatenate(rows), ordered) if rows else None
        return self._tables[key]


def _tails(value: Array) -> set[int]:
    """Return the sizes of a value's last axes taken together."""
    return {prod(value.shape[axis:]) for axis in range(value.ndim)}


class _Table:
    """Rows of one width, sorted by one projection."""

    def __init__(self, rows: Rows, ordered: bool) -> None:
        self._ordered = ordered
        finite = rows[(np.abs(rows) < LARGEST).all(axis=1)]
        rows = finite if ordered else np.sort(finite, axis=1)
        rng = np.random.default_rng(rows.shape[1])
        self._direction = rng.standard_normal(rows.shape[1])
        at = rows @ self._direction
        order = np.argsort(at, kind="stable")
        self._rows, self._at = rows[order], at[order]

    def has(self, rows: Rows, tolerance: float) -> bool:
        """Tell whether every row is here, within a distance relative to its length."""
        if not len(self._rows):
            return False
        wanted = rows if self._ordered else np.sort(rows, axis=1)
        scale = float(np.sqrt(np.mean(wanted**2, dtype=np.float64))) * np.sqrt(wanted.shape[1])
        lengths = np.maximum(np.sqrt((wanted**2).sum(axis=1)), 1e-3 * scale)
        allowed = tolerance * lengths + 1e-30
        at = wanted @ self._direction
        reach = DEVIATIONS * allowed
        first = np.searchsorted(self._at, at - reach, "left")
        last = np.searchsorted(self._at, at + reach, "right")
        open_ = np.ones(len(wanted), bool)
        for step in range(CANDIDATES):
            here = np.flatnonzero(open_ & (first + step < last))
            if not len(here):
                break
            gap = np.sqrt(((self._rows[first[here] + step] - wanted[here]) ** 2).sum(axis=1))
            open_[here[gap <= allowed[here]]] = False
        return not open_.any()


def _length(vector: Rows) -> float:
    return float(np.sqrt((vector**2).sum()))
