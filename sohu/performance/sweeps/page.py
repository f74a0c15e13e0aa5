# SPDX-License-Identifier: Apache-2.0
"""A sweep as one page for people: the front, what each value allows, and what the chip's numbers rest on.

No script and no style from elsewhere, every text from outside escaped. It only shows, whole without the script, which
puts a plot that zooms in the place of the still one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from device_model.chips.chip import QUANTITIES
from device_model.timeline.design import read_by
from porting.pages import frame
from sohu.performance.sweeps.plot import plot_front
from sohu.performance.sweeps.points import points_data
from sohu.performance.sweeps.sweep import CHIP, USER, Best, Sweep, shown, told


@dataclass(frozen=True, slots=True)
class Source:
    """A quantity of the chip: its value, or that it is varied, and where it comes from."""

    name: str
    unit: str
    value: str
    source: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Share:
    """A best point with its rates as shares of the best of all values, in percent."""

    best: Best
    user: float
    chip: float


def render_sweep(sweep: Sweep) -> str:
    """Return the page that shows a sweep."""
    by, series = sweep.series()
    plot = plot_front(sweep)
    values = {
        "sweep": sweep,
        "headline": "Swept" if sweep.usable.any() else "Nothing fits",
        "facts": facts(sweep),
        "plot": plot,
        "points": points_data(sweep) if plot else None,
        "several": any(len(line) > 1 for _, rows in series for line in sweep.fronts(rows)),
        "not_usable": [told(count, reason) for reason, count in sweep.reasons.items()],
        "by": by,
        "series": [label for label, _ in series],
        "rows": [sweep.row(i) for i in sweep.shown],
        "best": [(name, shares(values)) for name, values in sweep.best()],
        "sources": list(sources(sweep)),
    }
    filters: dict[str, Callable[..., object]] = {"rate": rate, "words": _words}
    return frame.render(
        "sohu.performance.sweeps",
        "sweep.html",
        values,
        filters=filters,
        styles=("sweep.css",),
        script="sweep.js" if plot else "",
        libraries=("uplot",) if plot else (),
    )


def facts(sweep: Sweep) -> list[dict[str, str]]:
    """Return the numbers for the head of the page: title, value and remark of each."""
    columns, usable = sweep.columns, sweep.usable
    numbers = [
        ("Points", f"{sweep.space.points:,}", f"in {sweep.seconds:.2f} s"),
        ("Usable", f"{int(usable.sum()):,}", "of them"),
    ]
    if usable.any():
        numbers += [
            ("Best for a user", rate(float(columns[USER][usable].max())), "tokens/s"),
            ("Best of a chip", rate(float(columns[CHIP][usable].max())), "tokens/s"),
        ]
    return [dict(zip(("title", "value", "remark"), each, strict=True)) for each in numbers]


def shares(values: list[Best]) -> list[Share]:
    """Return the best points by value with their share of the best of all."""
    user, chip = (np.asarray([getattr(b, n) for b in values]) for n in ("user", "chip"))

    def percent(rates: np.ndarray[tuple[int], np.dtype[np.float64]], i: int) -> float:
        most = float(np.nanmax(rates)) if np.isfinite(rates).any() else 0.0
        return 100 * float(rates[i]) / most if np.isfinite(rates[i]) and most > 0 else 0.0

    return [Share(b, percent(user, i), percent(chip, i)) for i, b in enumerate(values)]


def sources(sweep: Sweep) -> Iterator[Source]:
    """Yield what the answer depends on in the chip, with its sources."""
    device, numbers = sweep.device, sweep.space.design.numbers
    for name in sorted(read_by(device, sweep.space.design.numerics)):
        given = numbers.get(name)
        known = device.quantities.get(name)
        if given is None and known is None:
            continue
        values = given if given is not None else (known.value,) if known else ()
        span = shown(name, values[0])
        if len(values) > 1:
            span = f"{shown(name, min(values))} – {shown(name, max(values))}"
        own = known is not None and values[0] in known.values
        source = known.source if known and own else "given to the sweep"
        confidence = known.confidence if known and own else ""
        yield Source(name, QUANTITIES[name], span, source, confidence)


def rate(value: float) -> str:
    """Return a rate with its digits in groups."""
    if not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}"


def _words(text: str) -> str:
    return text.replace("\n", " ")
