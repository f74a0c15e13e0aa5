# SPDX-License-Identifier: Apache-2.0
"""Fit a formula's parameters to measured times: the least mean absolute percentage error within bounds.

Rows fall into groups of one shape. A fit is scored on groups that it has not seen; what is kept is fitted on all. The
search is SciPy's, which is loaded here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_model.chips.chip import Device
from device_model.cost.calibration import Calibration, Section
from device_model.cost.chip import Array
from device_model.cost.oracle import Columns, as_numbers, predict
from device_model.cost.score import Score, score
from dsl.diagnostics import refuse
from dsl.extras import require

TIME = "latency_ms"
LEAST_ROWS = 8
SEEDS = (0, 1)
HALVES = 2 * len(SEEDS)
ROUNDS = 4
PULL = 1e-3
"""Weight of the way from the start, so that a parameter that the rows say nothing about stays where it is."""
MOST_ROWS = 4000
"""Rows of a fit: more change the parameters by less than their noise."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a parameter starts, and its least and greatest value; searched on a logarithmic scale."""

    start: float
    low: float
    high: float

    def at(self, z: float) -> float:
        """Return the value at a share of the way from the least to the greatest."""
        return float(self.low * (self.high / self.low) ** min(max(z, 0.0), 1.0))

    def share(self, value: float) -> float:
        """Return where a value lies on the way."""
        inside = min(max(value, self.low), self.high)
        return float(np.log(inside / self.low) / np.log(self.high / self.low))


@dataclass(frozen=True, slots=True)
class Fit:
    """A section to fit: the kind of table, its format, what makes a group of rows, and the bounds of what is fitted."""

    section: str
    op: str
    dtype: str
    group: tuple[str, ...]
    bounds: Mapping[str, Bounds]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit gave: the section, and errors by rows seen (all) and not seen (half of the groups, each way)."""

    section: Section
    seen: Score
    held_out: tuple[Score, ...]
    groups: int


def with_section(known: Calibration, name: str, section: Section) -> Calibration:
    """Return a calibration with one section replaced."""
    return replace(known, sections={**known.sections, name: section})


def fit(
    what: Fit,
    columns: Columns,
    device: Device,
    known: Calibration,
    source: str,
    progress: Callable[[str, int, int], None],
) -> Fitted:
    """Return a section fitted on all rows, with its errors on halves of the groups that it was not fitted on."""
    _require_times(what, columns, source)
    groups = group_of(columns, what.group)
    errors: list[Score] = []
    for seed, seen in halves(groups):
        best = _search(what, rows_of(columns, seen), device, known, seed)
        errors.append(_score(what, rows_of(columns, ~seen), device, best))
        progress(what.section, len(errors), HALVES + 1)
    best = _search(what, columns, device, known, SEEDS[0])
    seen_error = _score(what, columns, device, best)
    progress(what.section, HALVES + 1, HALVES + 1)
    count = int(groups.max()) + 1
    mean = float(np.mean([e.mape for e in errors]))
    fitted = {
        "data": source,
        "rows": len(groups),
        "groups": count,
        "parameters": len(what.bounds),
        "mape": round(seen_error.mape, 2),
        "mape_held_out": round(mean, 2),
    }
    section = Section(best.sections[what.section].parameters, fitted, known.name)
    return Fitted(section, seen_error, tuple(errors), count)


def _require_times(what: Fit, columns: Columns, source: str) -> None:
    """Refuse a table that lacks a column of the fit, or a row of it a time."""
    missing = [c for c in (*what.group, TIME) if c not in columns]
    if missing:
        message = f"{source} has no column {', '.join(missing)}"
        raise refuse("S610", message, help=f"it has {', '.join(columns)}")
    times = as_numbers(np.asarray(columns[TIME]), TIME)
    bad = int(np.count_nonzero(~(np.isfinite(times) & (times > 0))))
    if bad or len(times) < LEAST_ROWS:
        message = f"{source}: {bad:,} of {len(times):,} rows have no time above zero"
        raise refuse("S610", message, help=f"a fit needs {LEAST_ROWS} rows, and the time of each")


def group_of(columns: Columns, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each row's group."""
    keys = np.stack([np.unique(np.asarray(columns[n]), return_inverse=True)[1] for n in names])
    numbers: NDArray[np.int64] = np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)
    return numbers


def halves(groups: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield random halves of the groups, each with its seed, as which rows are in them, and then the other halves."""
    count = int(groups.max()) + 1
    for seed in SEEDS:
        chosen = np.random.default_rng(seed).permutation(count) < count // 2
        half = np.asarray(chosen[groups])
        yield seed, half
        yield seed, ~half


def rows_of(columns: Columns, which: NDArray[Any]) -> Columns:
    """Return some rows of a table."""
    return {name: np.asarray(values)[which] for name, values in columns.items()}


def _score(what: Fit, columns: Columns, device: Device, known: Calibration) -> Score:
    prediction = predict(what.op, columns, device, what.dtype, known)
    return score(prediction.seconds, np.asarray(columns[TIME], np.float64) / 1e3)


def _minimize() -> Callable[..., Any]:
    """Return SciPy's search; raises `Refused` where SciPy is not there."""
    require("scipy")
    from scipy.optimize import minimize  # noqa: PLC0415 - heavy, and only a calibration needs it

    search: Callable[..., Any] = minimize
    return search


def _search(
    what: Fit, columns: Columns, device: Device, known: Calibration, seed: int
) -> Calibration:
    """Return the calibration with the parameters of least error, from the bounds' starts."""
    minimize = _minimize()

    count = len(columns[TIME])
    some = np.random.default_rng(seed).permutation(count)[:MOST_ROWS]
    rows = rows_of(columns, some)
    measured = np.asarray(rows[TIME], np.float64) / 1e3
    names = list(what.bounds)
    fixed = asdict(known.sections[what.section].parameters)
    kind = type(known.sections[what.section].parameters)

    def at(z: Array) -> Calibration:
        values = {n: what.bounds[n].at(float(x)) for n, x in zip(names, z, strict=True)}
        return with_section(known, what.section, Section(kind(**{**fixed, **values}), {}, ""))

    first = predict(what.op, rows, device, what.dtype, known)
    if first.reasons:
        raise refuse("S610", f"{what.section}: rows without an answer: {next(iter(first.reasons))}")

    def error(z: Array) -> float:
        seconds = predict(what.op, rows, device, what.dtype, at(z)).seconds
        return float(np.mean(np.abs(seconds / measured - 1.0)) + PULL * np.sum((z - start) ** 2))

    z = start = np.asarray([b.share(b.start) for b in what.bounds.values()])
    for _ in range(ROUNDS):
        options = {"maxiter": 3, "xtol": 1e-2, "ftol": 1e-4}
        z = minimize(error, z, method="Powell", bounds=[(0.0, 1.0)] * len(z), options=options).x
    return at(z)
