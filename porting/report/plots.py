# SPDX-License-Identifier: Apache-2.0
"""Plots of validation errors as SVG: by layer, and by mode. Colours come from the page's style sheet.

All axes are logarithmic: what matters of an error is its order of magnitude. Text from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from porting.report.model import Case, LayerError

WIDTH = 880


@dataclass(frozen=True, slots=True)
class Line:
    """A named curve: (layer, error) points, and whether it is the reference's own error."""

    label: str
    numerics: str
    points: tuple[tuple[int, float], ...]
    is_reference: bool


@dataclass(frozen=True, slots=True)
class PlotAxis:
    """A logarithmic axis from pixel `start` to pixel `end`, over whole decades."""

    low: int
    high: int
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value; what is out of range sticks to the edge."""
        power = min(max(math.log10(value), self.low), self.high)
        return self.start + (power - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, int]]:
        """Return pixel and exponent of every decade, thinned to at most ten."""
        step = -(-(self.high - self.low) // 10)
        return [(self.at(10.0**p), p) for p in range(self.low, self.high + 1, step)]


def usable(value: float | None) -> bool:
    """Tell whether a value can stand on a logarithmic axis."""
    return value is not None and math.isfinite(value) and value > 0


def layer_lines(layers: Sequence[LayerError]) -> list[Line]:
    """Return one curve per numerics, and one for the reference where its error is known."""
    lines = []
    for numerics in dict.fromkeys(layer.numerics for layer in layers):
        own = [x for x in layers if x.numerics == numerics]
        lines.append(_line(numerics, numerics, ((x.layer, x.relative_rmse) for x in own)))
        known = [(x.layer, e) for x in own if (e := x.reference_relative_rmse) is not None]
        if known:
            lines.append(_line(f"reference {numerics}", numerics, known, is_reference=True))
    return [line for line in lines if line.points]


def _line(
    label: str, numerics: str, points: Iterable[tuple[int, float]], *, is_reference: bool = False
) -> Line:
    kept = tuple(sorted((layer, error) for layer, error in points if usable(error)))
    return Line(label, numerics, kept, is_reference)


def plot_layers(layers: Sequence[LayerError]) -> Markup:
    """Return the plot of error against layer, or nothing where there is nothing to plot."""
    lines = layer_lines(layers)
    if not lines:
        return Markup()
    height, left, right, top, bottom = 300, 58, 112, 14, 40
    y = _axis((e for line in lines for _, e in line.points), height - bottom, top)
    last = max(layer for line in lines for layer, _ in line.points)
    first = min(layer for line in lines for layer, _ in line.points)
    scale = (WIDTH - right - left) / max(1, last - first)
    parts = [_grid_row(left, WIDTH - right, pixel, power) for pixel, power in y.ticks()]
    step = _nice_step(last - first)
    for layer in range(first, last + 1, step):
        pixel = left + (layer - first) * scale
        parts.append(text_at(pixel, height - bottom + 18, str(layer), "middle"))
    parts.append(text_at((left + WIDTH - right) / 2, height - 4, "layer", "middle", "axis"))
    labels = _spread([y.at(line.points[-1][1]) for line in lines], 15)
    for line, label_y in zip(lines, labels, strict=True):
        points = [(left + (layer - first) * scale, y.at(e)) for layer, e in line.points]
        parts += _curve(line, points, label_y)
    return svg(height, parts, "Relative error after each layer")


def _curve(line: Line, points: Sequence[tuple[float, float]], label_y: float) -> list[Markup]:
    tone = Markup("series {} {}").format(series(line.numerics), "ref" if line.is_reference else "")
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [Markup('<polyline class="{}" points="{}"/>').format(tone, path)]
    if not line.is_reference:
        dot = Markup(
            '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}</title></circle>'
        )
        for (x, y), (layer, error) in zip(points, line.points, strict=True):
            parts.append(dot.format(tone, x, y, f"{line.label}, layer {layer}: {error:.3g}"))
    x, y = points[-1]
    lead = Markup('<path class="lead" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>')
    parts.append(lead.format(x + 5, y, x + 11, label_y))
    parts.append(text_at(x + 14, label_y + 4, line.label, "start", f"label {tone}"))
    return parts


def plot_modes(cases: Sequence[Case]) -> Markup:
    """Return the plot of each case's error beside the reference's and the limit."""
    values = [v for c in cases for v in (c.error, c.limit, c.reference) if v and usable(v)]
    if not values:
        return Markup()
    left, right, top, row = 196, 24, 26, 24
    height = top + row * len(cases) + 22
    x = _axis(values, left, WIDTH - right)
    parts = []
    for pixel, power in x.ticks():
        line = Markup('<path class="grid" d="M{:.1f} {}V{}"/>')
        parts.append(line.format(pixel, top - 6, height - 20))
        parts.append(_power(pixel, top - 12, power, "middle"))
    for index, case in enumerate(cases):
        parts += _mode_row(case, x, left, top + row * index + row / 2)
    return svg(height, parts, "Relative error of the logits in every mode")


def _mode_row(case: Case, x: PlotAxis, left: float, y: float) -> list[Markup]:
    tone = f"{series(case.numerics)} {'' if case.passed else 'bad'}"
    parts = [text_at(left - 12, y + 4, f"{case.mode} · {case.numerics}", "end")]
    if usable(case.limit):
        limit = x.at(case.limit)
        inside = Markup('<path class="room" d="M{:.1f} {:.1f}H{:.1f}"/>')
        parts.append(inside.format(left, y, limit))
        tick = Markup('<path class="limit" d="M{:.1f} {:.1f}v14"><title>{}</title></path>')
        parts.append(tick.format(limit, y - 7, f"limit {case.limit:.3g}"))
    if case.reference is not None and usable(case.reference):
        ring = Markup(
            '<circle class="ring" cx="{:.1f}" cy="{:.1f}" r="4.5"><title>{}</title></circle>'
        )
        parts.append(ring.format(x.at(case.reference), y, f"reference {case.reference:.3g}"))
    if not usable(case.error):
        words = "no error" if case.error == 0 else "not finite"
        return [*parts, text_at(left + 8, y + 4, words, "start", tone)]
    dot = Markup(
        '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4.5"><title>{}</title></circle>'
    )
    parts.append(dot.format(tone, x.at(case.error), y, f"device {case.error:.3g}"))
    return parts


def series(numerics: str) -> str:
    """Return the style class of a numerics; only these have a colour of their own."""
    return f"s-{numerics}" if numerics in {"f32", "bf16", "f8"} else "s-other"


def _axis(values: Iterable[float], start: float, end: float) -> PlotAxis:
    powers = [math.log10(value) for value in values]
    low, high = math.floor(min(powers)), math.ceil(max(powers))
    return PlotAxis(low, max(high, low + 1), start, end)


def _nice_step(span: int) -> int:
    """Return the step that leaves at most about fifteen labels."""
    return next(
        step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, span + 1) if span / step <= 15
    )


def _spread(pixels: Sequence[float], gap: float) -> list[float]:
    """Return the positions moved apart until neighbours are a gap away."""
    placed = list(pixels)
    order = sorted(range(len(placed)), key=placed.__getitem__)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + gap)
    return placed


def grid_row(left: float, right: float, y: float, label: str) -> Markup:
    """Return a line across with its label."""
    line = Markup('<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>').format(left, y, right)
    return line + text_at(left - 8, y + 4, label, "end")


def _grid_row(left: float, right: float, y: float, power: int) -> Markup:
    line = Markup('<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>').format(left, y, right)
    return line + _power(left - 8, y + 4, power, "end")


def _power(x: float, y: float, power: int, anchor: str) -> Markup:
    raised = str(power).replace("-", "\N{MINUS SIGN}")
    exponent = Markup('<tspan class="power" dy="-5">{}</tspan>').format(raised)
    start = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">10').format(x, y, anchor)
    return start + exponent + Markup("</text>")


def text_at(x: float, y: float, text: str, anchor: str, tone: str = "") -> Markup:
    """Return a text at a place."""
    element = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return element.format(tone, x, y, anchor, text)


def svg(height: float, parts: Sequence[Markup], title: str) -> Markup:
    """Return the parts as a picture."""
    start = Markup('<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">')
    return start.format(WIDTH, height, title) + Markup().join(parts) + Markup("</svg>")
