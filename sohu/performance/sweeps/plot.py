# SPDX-License-Identifier: Apache-2.0
"""The plot of a sweep as SVG: every point by tokens/s a user and a chip, a front for each series.

Of points in one place on the plot one is drawn. Colours come from the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from device_model.timeline.pareto import thinned
from sohu.performance.sweeps.sweep import CHIP, USER, Sweep

WIDTH, HEIGHT = 880, 430
LEFT, RIGHT, TOP, BOTTOM = 72, 20, 14, 46
CELL = 3.0
"""Pixels within which points are one."""
MARKS = 24
MAX_FRONTS = 24
"""Fronts of one colour, where there are many loads."""
CROSS = "m-2.6 -2.6l5.2 5.2m0 -5.2l-5.2 5.2"
MAX_TICKS = 9
Pixels = NDArray[np.float64]


def plot_front(sweep: Sweep) -> Markup:
    """Return the plot, or nothing where no point has rates."""
    x, y = sweep.columns[USER], sweep.columns[CHIP]
    drawn = np.isfinite(x) & np.isfinite(y)
    if not drawn.any():
        return Markup()
    across = Axis(x[drawn], LEFT, WIDTH - RIGHT)
    up = Axis(y[drawn], HEIGHT - BOTTOM, TOP)
    parts = [*_grid(across, up)]
    px, py = across.at(x), up.at(y)
    parts.append(_cloud("cloud none", px, py, drawn & ~sweep.usable))
    parts.append(_cloud("cloud", px, py, sweep.usable))
    _, series = sweep.series()
    lines = []
    for number, (label, rows) in enumerate(series):
        fronts = sweep.fronts(rows)
        for at in thinned(list(range(len(fronts))), MAX_FRONTS):
            lines += _front(sweep, number, label, fronts[at], (px, py))
    return _svg([*parts, *lines])


class Axis:
    """A logarithmic axis from one pixel to another, a little wider than its values."""

    def __init__(self, values: Pixels, start: float, end: float) -> None:
        low, high = math.log10(values.min()), math.log10(values.max())
        room = max(0.04 * (high - low), 0.03)
        self.low, self.high, self.start, self.end = low - room, high + room, start, end

    def at(self, values: Pixels) -> Pixels:
        """Return the pixels of values; those of no value are no number."""
        share = (np.log10(values) - self.low) / (self.high - self.low)
        return np.asarray(self.start + share * (self.end - self.start), np.float64)

    def ticks(self) -> list[float]:
        """Return round values to mark: 1, 2 and 5 of each decade, or fewer or finer ones."""
        decades = range(math.floor(self.low) - 1, math.ceil(self.high) + 1)
        for steps in (tuple(range(10, 100)), tuple(range(10, 100, 5)), tuple(range(10, 100, 10)),
                      (10, 20, 50), (10, 30), (10,)):  # fmt: skip
            marks = [s * 10.0 ** (d - 1) for d in decades for s in steps]
            kept = [v for v in marks if self.low <= math.log10(v) <= self.high]
            if len(kept) <= MAX_TICKS:
                return kept
        return kept[:: -(-len(kept) // MAX_TICKS)]


def _grid(across: Axis, up: Axis) -> list[Markup]:
    parts = []
    for value in across.ticks():
        pixel = float(across.at(np.asarray(value)))
        line = Markup('<path class="grid" d="M{:.1f} {}V{}"/>')
        parts.append(line.format(pixel, TOP, HEIGHT - BOTTOM))
        parts.append(_text(pixel, HEIGHT - BOTTOM + 17, number(value), "middle"))
    for value in up.ticks():
        pixel = float(up.at(np.asarray(value)))
        parts.append(
            Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, pixel, WIDTH - RIGHT)
        )
        parts.append(_text(LEFT - 8, pixel + 4, number(value), "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "tokens/s a user", "middle"))
    turned = Markup(
        '<text transform="translate(14 {:.0f}) rotate(-90)" text-anchor="middle">{}</text>'
    )
    return [*parts, turned.format((TOP + HEIGHT - BOTTOM) / 2, "tokens/s a chip")]


def _cloud(tone: str, px: Pixels, py: Pixels, rows: NDArray[np.bool_]) -> Markup:
    """Return points as one path of dots, or crosses of what is not usable; those of one place as one."""
    points = np.stack([px[rows], py[rows]])
    if not points.size:
        return Markup()
    _, first = np.unique(np.round(points / CELL), axis=1, return_index=True)
    mark = "h0" if tone == "cloud" else CROSS
    dots = "".join(f"M{x:.1f} {y:.1f}{mark}" for x, y in points[:, first].T)
    return Markup('<path class="{}" d="{}"/>').format(tone, dots)


def _front(
    sweep: Sweep, number: int, label: str, indices: Sequence[int], pixels: tuple[Pixels, Pixels]
) -> list[Markup]:
    px, py = pixels
    path = " ".join(f"{px[i]:.1f},{py[i]:.1f}" for i in indices)
    parts = [Markup('<polyline class="c-{}" points="{}"/>').format(number, path)]
    mark = Markup('<circle class="c-{}" cx="{:.1f}" cy="{:.1f}" r="3.4"><title>{}</title></circle>')
    for i in thinned(list(indices), MARKS):
        cells = zip(sweep.heads, sweep.row(i), strict=True)
        words = ", ".join(f"{h.replace(chr(10), ' ')} {c}" for h, c in cells if h)
        parts.append(mark.format(number, px[i], py[i], words or label))
    return parts


def number(value: float) -> str:
    """Return a round number for an axis."""
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value:,.6g}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    element = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return element.format(x, y, anchor, text)


def _svg(parts: Sequence[Markup]) -> Markup:
    start = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">')
    title = "Tokens a second of a user against those of a chip"
    return start.format(WIDTH, HEIGHT, title) + Markup().join(parts) + Markup("</svg>")
