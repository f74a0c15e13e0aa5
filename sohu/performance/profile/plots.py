# SPDX-License-Identifier: Apache-2.0
"""Plots of a profile as SVG: roofline, time by operation, memory over time. Colours come from the page's style sheet.

Text from outside is escaped. What a plot leaves out is in the table beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, dist, floor, log10

from markupsafe import Markup

from device_model.timeline.kinds import AttentionSizes, Kind, VectorSizes
from device_model.timeline.pricing import decodes
from device_model.timeline.schedule import Entry, Timeline, useful_flops
from porting.report.plots import WIDTH, PlotAxis, grid_row, svg, text_at
from sohu.performance.profile.model import Layers, Phase, Profile
from sohu.performance.profile.trace import memory_over_time
from sohu.performance.profile.words import GIB, duration, scaled, share

LEFT, RIGHT, TOP, BOTTOM = 92, 24, 16, 44
LABELS = 7
"""Points of the roofline that are named, those that take the most time."""
NEAR = 30
"""Pixels within which points share a name."""
LETTER, WIDE = 6.6, 7.4
"""Pixels that a letter takes, and one in bold type."""


@dataclass(frozen=True, slots=True)
class Point:
    """A task on the roofline: FLOPs a byte, FLOPs a second, its share of the step, what it waits for."""

    name: str
    intensity: float
    rate: float
    part: float
    bound: str


def points(phase: Phase) -> list[Point]:
    """Return the tasks that compute and move something, those with the most time first."""
    line, tasks = phase.timeline, []
    for entry in line.entries:
        flops, moved = useful_flops(entry.task), _moved(entry, line)
        if entry.task.kind is Kind.COLLECTIVE or min(flops, moved, entry.seconds) <= 0:
            continue
        part = entry.total / line.seconds
        point = Point(entry.task.name, flops / moved, flops / entry.seconds, part, entry.bound)
        tasks.append(point)
    return sorted(tasks, key=lambda p: -p.part)


def _moved(entry: Entry, line: Timeline) -> float:
    """Return the bytes of main memory that the price counts: its seconds at the full rate are never fewer."""
    priced = entry.memory_seconds * float(line.prices.chip.bandwidth)
    stored = entry.bytes
    match entry.task.sizes:
        case VectorSizes() as sizes:
            return float(sizes.moved)
        case AttentionSizes() as sizes:
            return _cached(sizes)
    return min(priced, stored) if priced > 0 else stored


def _cached(s: AttentionSizes) -> float:
    """Return the bytes of the cache, queries and results; a latent's values are a part of its keys in decode."""
    wide = s.head_dim + s.value_dim
    once = s.latent and bool(decodes(s))
    cache = s.kv_heads * (s.context + s.new) * (s.head_dim if once else wide)
    return float(s.batch * (cache + s.new * s.heads * wide) * s.bits / 8)


def roofline(profile: Profile, phase: Phase) -> Markup:
    """Return the roofline: tasks against the chip's bandwidth and peak."""
    tasks = points(phase)
    if not tasks:
        return Markup()
    height = 380
    chip = phase.timeline.prices.chip
    peak, slow = float(chip.peak), float(chip.bandwidth)
    ridge = peak / slow
    x = _log([*(p.intensity for p in tasks), ridge / 4, ridge * 4], LEFT, WIDTH - RIGHT)
    y = _log([*(p.rate for p in tasks), peak, peak * 1.6], height - BOTTOM, TOP)
    parts = [*_log_grid(x, y, height)]
    rates = [float(t.prices.chip.bandwidth) for t in phase.timelines]
    parts += [
        _roof(x, y, peak, rate, "roof" if rate == slow else "roof other")
        for rate in sorted({min(rates), max(rates), slow})
    ]
    label = f"{scaled(peak, 'FLOP/s')} in {profile.dtype}"
    parts.append(text_at(x.at(ridge) - 8, y.at(peak) + 4, label, "end", "roof-label"))
    middle = 10 ** ((log10(max(10.0**x.low, 10.0**y.low / slow)) + log10(ridge)) / 2)
    across, down = x.at(middle) - 10, y.at(middle * slow) - 8
    parts.append(text_at(across, down, f"{scaled(slow, 'B/s')}", "end", "roof-label"))
    taken = ((x.at(ridge) - 8 - WIDE * len(label), WIDE * len(label), y.at(peak) + 4),)
    parts += _dots(tasks, x, y, taken)
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, height - 6, "FLOPs a byte", "middle", "axis"))
    return svg(height, parts, f"Roofline, {phase.name}")


def _roof(x: PlotAxis, y: PlotAxis, peak: float, slow: float, tone: str) -> Markup:
    low, high = 10.0**x.low, 10.0**x.high
    start = max(low, 10.0**y.low / slow)
    path = Markup('<path class="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}H{:.1f}"/>')
    ridge = peak / slow
    return path.format(tone, x.at(start), y.at(start * slow), x.at(ridge), y.at(peak), x.at(high))


def _dots(
    tasks: Sequence[Point], x: PlotAxis, y: PlotAxis, taken: Sequence[tuple[float, float, float]]
) -> Iterator[Markup]:
    """Yield the points and their names; what is taken has a start, a width and a baseline."""
    radius = {p: 3 + 14 * p.part**0.5 for p in tasks}
    placed = list(taken)
    placed += [(x.at(p.intensity) - radius[p], 2 * radius[p], y.at(p.rate) + 4) for p in tasks]
    dot = Markup(
        '<circle class="b-{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>'
    )
    for p in reversed(tasks):
        words = (
            f"{p.name}: {scaled(p.rate, 'FLOP/s')} at {p.intensity:.3g} FLOPs a byte, "
            f"{share(p.part, 1)} of the step, bound by {p.bound}"
        )
        yield dot.format(p.bound, x.at(p.intensity), y.at(p.rate), radius[p], words)
    for names, first in _clusters(tasks, x, y):
        across, down = x.at(first.intensity), y.at(first.rate)
        gap = 4 + radius[first]
        width = LETTER * len(names)
        right = across + gap + width < WIDTH - RIGHT
        start = across + gap if right else across - gap - width
        row = _free_row(placed, start, width, down + 4)
        placed.append((start, width, row))
        if abs(row - down - 4) > 8:
            lead = Markup('<path class="lead" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>')
            yield lead.format(across, down, start if right else across - gap, row - 4)
        at, anchor = (across + gap, "start") if right else (across - gap, "end")
        yield text_at(at, row, names, anchor, "label")


def _clusters(tasks: Sequence[Point], x: PlotAxis, y: PlotAxis) -> list[tuple[str, Point]]:
    """Return the points that are named, those near each other by the first of them and a count."""
    groups: list[list[Point]] = []
    for point in tasks:
        at = x.at(point.intensity), y.at(point.rate)
        near = (g for g in groups if dist(at, (x.at(g[0].intensity), y.at(g[0].rate))) < NEAR)
        group = next(near, None)
        if group is None:
            groups.append([point])
        else:
            group.append(point)
    named = []
    for group in groups[:LABELS]:
        others = len({p.name for p in group} - {group[0].name})
        named.append((group[0].name + (f" and {others} more" if others else ""), group[0]))
    return named


def _free_row(
    placed: Sequence[tuple[float, float, float]], start: float, width: float, row: float
) -> float:
    """Return a baseline near a wanted one where no placed label is in the way."""
    for shift in (0, 14, -14, 28, -28, 42, -42, 56, -56):
        clash = any(
            abs(r - row - shift) < 13 and start < s + w and s < start + width for s, w, r in placed
        )
        if not clash and row + shift > TOP + 8:
            return row + shift
    return row


def _log(values: Sequence[float], start: float, end: float) -> PlotAxis:
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    return PlotAxis(low, max(high, low + 1), start, end)


def _log_grid(x: PlotAxis, y: PlotAxis, height: float) -> Iterator[Markup]:
    for pixel, power in y.ticks():
        yield grid_row(LEFT, WIDTH - RIGHT, pixel, _decade(power))
    line = Markup('<path class="grid" d="M{:.1f} {}V{}"/>')
    for pixel, power in x.ticks():
        yield line.format(pixel, TOP, height - BOTTOM)
        label = f"{10.0**power:,.0f}" if power >= 0 else f"{10.0**power:g}"
        yield text_at(pixel, height - BOTTOM + 17, label, "middle")


def _decade(power: int) -> str:
    number, unit = scaled(10.0**power, "FLOP/s").split(" ")
    return f"{float(number):g} {unit}"


def bars(phase: Phase) -> Markup:
    """Return the time of each layer class as a bar stacked of its tasks, wide as its share of one layer."""
    rows = [part for part in phase.parts if part.seconds > 0]
    left, row = 168, 46
    height = TOP + row * len(rows) + 4
    parts: list[Markup] = []
    for number, part in enumerate(rows):
        parts += _bar(phase, part, left, TOP + row * number)
    return svg(height, parts, f"Time by operation, {phase.name}")


def _bar(phase: Phase, part: Layers, left: float, top: float) -> Iterator[Markup]:
    whole = phase.timeline.seconds
    name = part.name if len(part.name) <= 24 else f"{part.name[:23]}…"
    yield text_at(left - 12, top + 13, name, "end", "row-name")
    total = duration(part.count * part.seconds)
    each = f"{part.count} × {duration(part.seconds)}, " if part.count > 1 else ""
    yield text_at(
        left - 12, top + 28, f"{each}{share(part.count * part.seconds, whole)}", "end", "small"
    )
    at, room = left, WIDTH - left - 2
    box = Markup(
        '<rect class="b-{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="26"><title>{}</title></rect>'
    )
    for entry in part.entries:
        width = room * entry.seconds / part.seconds
        words = (
            f"{entry.task.name}: {duration(entry.seconds)} of {duration(part.seconds)} "
            f"(in all {total}), bound by {entry.bound}"
        )
        yield box.format(entry.bound, at, top, max(width - 0.8, 0.2), words)
        yield from _inside(entry, at, top, width)
        at += width


def _inside(entry: Entry, at: float, top: float, width: float) -> Iterator[Markup]:
    """Yield the label of a box where it has the room."""
    name = entry.task.name.removeprefix("matmul ").removeprefix("experts ")
    for label in (name, name.split("+", maxsplit=1)[0]):
        if LETTER * len(label) + 8 < width:
            yield text_at(at + width / 2, top + 17, label, "middle", "in-box")
            return


def memory(phase: Phase) -> Markup:
    """Return the memory of a chip over a step, above what lasts: the activations alive."""
    steps = list(memory_over_time(phase))
    height = 190
    most = max(size - phase.memory.lasting for _, size in steps)
    if most <= 0:
        return Markup()
    whole = steps[-1][0]
    high = _nice(most)
    points_ = []
    for (second, size), following in zip(steps, [*steps[1:], (whole, 0)], strict=True):
        pixel = height - BOTTOM - (size - phase.memory.lasting) / high * (height - BOTTOM - TOP)
        points_ += [f"{_across(second, whole):.1f},{max(pixel, TOP):.1f}"]
        points_ += [f"{_across(following[0], whole):.1f},{max(pixel, TOP):.1f}"]
    parts = []
    for tick in range(5):
        pixel = height - BOTTOM - tick / 4 * (height - BOTTOM - TOP)
        parts.append(grid_row(LEFT, WIDTH - RIGHT, pixel, scaled(high * tick / 4, "B")))
    base = f"{_across(whole, whole):.1f},{height - BOTTOM} {LEFT},{height - BOTTOM}"
    parts.append(Markup('<polygon class="memory" points="{} {}"/>').format(" ".join(points_), base))
    between = _nice(whole / 6)
    for tick in range(int(whole / between) + 1):
        label = duration(between * tick) if tick else "0"
        parts.append(text_at(_across(between * tick, whole), height - BOTTOM + 17, label, "middle"))
    words = f"activations, above {phase.memory.lasting / GIB:,.2f} GiB of weights and state"
    parts.append(text_at((LEFT + WIDTH - RIGHT) / 2, height - 6, words, "middle", "axis"))
    return svg(height, parts, f"Memory over time, {phase.name}")


def _across(second: float, whole: float) -> float:
    return LEFT + second / whole * (WIDTH - RIGHT - LEFT)


def _nice(value: float) -> float:
    """Return a round number not below a value, that four parts divide well."""
    power = 10.0 ** floor(log10(value))
    return next(power * f for f in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if power * f >= value)
