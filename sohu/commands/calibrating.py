# SPDX-License-Identifier: Apache-2.0
"""`sohu calibrate`: fit the cost formulas to a folder of measured times and write them as a calibration.

Every section is scored on halves of the groups of shapes that it was not fitted on. The host's constants of serving
frameworks are fitted last, on times of whole models that the fitted sections make up.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import resources

import numpy as np

from device_model.chips.chip import Device
from device_model.chips.chip import device as device_named
from device_model.cost.calibration import Calibration, Section, calibration, host_of
from device_model.cost.fitting import (
    HALVES,
    Bounds,
    Fit,
    fit,
    group_of,
    halves,
    rows_of,
    with_section,
)
from device_model.cost.host import HostParameters
from device_model.cost.oracle import Columns
from device_model.cost.score import Score, score
from dsl.diagnostics import refuse
from porting.files.progress import Progress
from porting.planning.library import write_text
from sohu.commands.serving import serve
from sohu.terminal import console, tables

SERVING = "serving"
SERVING_FILE = "e2e_h100_dense.parquet"
SERVING_GROUP = ("model", "precision", "backend", "tp", "isl")
HOSTS = np.linspace(0.0, 4e-3, 81)
BURSTS = np.linspace(0.0, 2.0, 81)


def calibrate(options: argparse.Namespace) -> int:
    """Fit, print the errors, and write the calibration where that is asked for."""
    device = device_named(options.device)
    known = calibration(device)
    fits = [f for f in read_fits(device) if (options.data / f[1]).exists()]
    chosen = [f for f in fits if not options.section or f[0].section in options.section]
    whole = (options.data / SERVING_FILE).exists() and device.id == "h100_sxm"
    whole = whole and (not options.section or SERVING in options.section)
    if not chosen and not whole:
        names = ", ".join([*(f[0].section for f in fits), SERVING])
        message = f"{options.data} has nothing to fit for {device.id}"
        raise refuse("S611", message, help=f"sections are {names}")
    rows: list[tuple[str, ...]] = []
    with console.bars(quiet=options.json or options.quiet) as progress:
        for what, file in chosen:
            columns = tables.columns(tables.read_table(options.data / file))
            found = fit(what, columns, device, known, file, progress)
            known = with_section(known, what.section, found.section)
            rows += _scored(what.section, str(len(what.bounds)), found.seen, found.held_out)
        if whole:
            columns = tables.columns(tables.read_table(options.data / SERVING_FILE))
            known, scores = fit_serving(columns, device, known, progress)
            rows += _scored("serving tpot", "2 a framework", scores[0], scores[1:])
    heads = ("section", "scored on", "parameters", "rows", "MAPE", "median", "p90", "bias")
    if options.json:
        console.emit(
            {"verdict": "pass", "errors": [dict(zip(heads, r, strict=True)) for r in rows]}
        )
    else:
        console.table(f"{device.name}: errors of fitted formulas", heads, rows, left=(0, 1))
    if options.out is not None:
        write_text(options.out, as_toml(known))
    return 0


def read_fits(device: Device) -> Iterator[tuple[Fit, str]]:
    """Yield what is fitted, and the file it is fitted on, for a chip."""
    text = resources.files("device_model.cost").joinpath("fits.toml").read_text(encoding="utf-8")
    for section, table in tomllib.loads(text).items():
        bounds = {
            name: Bounds(*map(float, value))
            for name, value in table.items()
            if isinstance(value, list) and name != "group"
        }
        file = str(table["file"]).format(chip=device.id.partition("_")[0])
        yield Fit(section, table["op"], table["dtype"], tuple(table["group"]), bounds), file


def fit_serving(
    columns: Columns, device: Device, known: Calibration, progress: Progress
) -> tuple[Calibration, Sequence[Score]]:
    """Return the calibration with each framework's host constants, and the errors of the time per output token.

    The first error is that of all rows, the others of halves of the groups that a fit has not seen.
    """
    whole = _fit_hosts(columns, device, known)
    scores = [_served(columns, device, whole)]
    for _, seen in halves(group_of(columns, SERVING_GROUP)):
        half = _fit_hosts(rows_of(columns, seen), device, known)
        scores.append(_served(rows_of(columns, ~seen), device, half))
        progress(SERVING, len(scores), HALVES + 1)
    return whole, scores


def _served(columns: Columns, device: Device, known: Calibration) -> Score:
    times, _ = serve(columns, device, "bf16", known)
    return score(times["predicted_ms"], np.asarray(columns["tpot_ms"], np.float64))


def _fit_hosts(columns: Columns, device: Device, known: Calibration) -> Calibration:
    """Return the calibration with the constants of every framework that the rows have."""
    for name in known.serving:
        mine = np.asarray(columns["backend"]) == name
        if not mine.any():
            continue
        some = rows_of(columns, mine)
        best = host_of(known, name)
        for key, grid, made, wanted in (
            ("host", HOSTS, "predicted_ms", "tpot_ms"),
            ("burst", BURSTS, "predicted_ttft_ms", "ttft_ms"),
        ):
            ends = [replace(best, **{key: float(v)}) for v in (grid[0], grid[-1])]
            first, last = (
                serve(some, device, "bf16", _with_host(known, name, at, {}))[0][made] for at in ends
            )
            # Both constants enter linearly, so two evaluations say what every value would give.
            shares = (grid - grid[0]) / (grid[-1] - grid[0])
            errors = [
                np.nanmean(np.abs((first + s * (last - first)) / some[wanted] - 1)) for s in shares
            ]
            best = replace(best, **{key: float(grid[int(np.argmin(errors))])})
        known = _with_host(known, name, best, {"data": SERVING_FILE, "rows": int(mine.sum())})
    return known


def _with_host(
    known: Calibration, name: str, host: HostParameters, fitted: Mapping[str, object]
) -> Calibration:
    return replace(known, serving={**known.serving, name: Section(host, fitted, known.name)})


def _scored(
    name: str, parameters: str, seen: Score, held_out: Sequence[Score]
) -> Iterator[tuple[str, ...]]:
    yield _row(name, seen, "all", parameters)
    for number, error in enumerate(held_out):
        yield _row("", error, f"unseen half {number + 1}", parameters)


def _row(name: str, s: Score, on: str, parameters: str) -> tuple[str, ...]:
    errors = (f"{v:.2f} %" for v in (s.mape, s.median, s.p90))
    return (name, on, parameters, f"{s.rows:,}", *errors, f"{s.bias:.3f}")


def as_toml(known: Calibration) -> str:
    """Return a calibration as its file; sections of the family that it stands on are written too."""
    lines = [
        "# Written by `sohu calibrate`. Parameters and their units: device_model/cost.",
        f'name = "{known.title}"',
    ]
    for name, section in known.sections.items():
        lines += ["", f"[{name}]", *_parameters(section)]
    for name, section in known.serving.items():
        lines += ["", f"[serving.{name}]", *_parameters(section)]
    return "\n".join(lines) + "\n"


def _parameters(section: Section) -> Iterator[str]:
    for name, value in asdict(section.parameters).items():
        yield f"{name} = {_number(value)}"
    if section.fitted:
        told = ", ".join(f"{k} = {_value(v)}" for k, v in section.fitted.items())
        yield f"fitted = {{ {told} }}"


def _value(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _number(value: float) -> str:
    shown = f"{value:.5g}"
    return shown if any(c in shown for c in ".e") else f"{shown}.0"
