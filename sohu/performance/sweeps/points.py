# SPDX-License-Identifier: Apache-2.0
"""The points of a sweep as the page's script reads them: two rates, what each is, and how to name its values.

A point's values follow from its number, since points are a cross product; they are not repeated for each. It draws
nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sohu.performance.sweeps.sweep import CHIP, USER, Sweep, shown

LIMIT = 100_000
"""Points in a page; of more the fronts are kept, and of the others some at even distances."""
UNUSABLE, USABLE, FRONT = 0, 1, 2


def drawn(sweep: Sweep) -> NDArray[np.bool_]:
    """Return which points have both rates, and so a place on the plot."""
    rates = np.stack([sweep.columns[USER], sweep.columns[CHIP]])
    return np.asarray(np.isfinite(rates).all(axis=0), np.bool_)


def points_data(sweep: Sweep) -> dict[str, object]:
    """Return the points with a place as JSON data; arrays are little-endian bytes in base64."""
    rows = kept(sweep)
    kind = np.where(sweep.usable[rows], USABLE, UNUSABLE)
    kind[np.isin(rows, sweep.front)] = FRONT
    _, series = sweep.series()
    colour = np.zeros(len(rows), np.uint8)
    for number, (_, among) in enumerate(series):
        colour[among[rows]] = number
    place = {int(row): at for at, row in enumerate(rows)}
    return {
        "axes": list(axes(sweep)),
        "points": int(drawn(sweep).sum()),
        "rows": _packed(rows, "<u4"),
        "x": _packed(sweep.columns[USER][rows], "<f4"),
        "y": _packed(sweep.columns[CHIP][rows], "<f4"),
        "kind": _packed(kind, "<u1"),
        "series": _packed(colour, "<u1"),
        "lines": [
            {"series": number, "at": [place[i] for i in line if i in place]}
            for number, (_, among) in enumerate(series)
            for line in sweep.fronts(among)
        ],
    }


def kept(sweep: Sweep) -> NDArray[np.int64]:
    """Return the numbers of the points that the page holds, rising."""
    rows = np.flatnonzero(drawn(sweep))
    if len(rows) <= LIMIT:
        return rows
    some = rows[np.linspace(0, len(rows) - 1, LIMIT).astype(np.int64)]
    return np.union1d(some, np.asarray(sweep.front, np.int64))


def axes(sweep: Sweep) -> Iterator[dict[str, object]]:
    """Yield the varied names with their values in words: a point has value `number // stride % count` of each."""
    stride = sweep.space.points
    sizes = {name: len(sweep.values(name)) for name in sweep.names}
    # Formats are the outermost axis, the other names follow in their order.
    for name in (*sweep.names[len(sweep.space.design.varied) :], *sweep.space.design.varied):
        stride //= sizes[name]
        values = [shown(name, value) for value in sweep.values(name)]
        yield {"name": name, "stride": stride, "values": values}


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode("ascii")
