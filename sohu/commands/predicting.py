# SPDX-License-Identifier: Apache-2.0
"""`sohu predict`: times for the rows of anyone's table of shapes, and their errors where it has measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_model.chips.chip import device as device_named
from device_model.chips.peaks import peak_key
from device_model.cost.calibration import calibration
from device_model.cost.chip import Array
from device_model.cost.oracle import TARGETS, Columns, predict
from device_model.cost.score import Score, score
from porting.files.progress import Progress, silent
from sohu.terminal import console, tables

MEASURED = "latency_ms"
STAGE = "rows"


@dataclass(frozen=True, slots=True)
class Predicted:
    """What was predicted: columns of milliseconds, reasons for rows without, and errors by measured column."""

    out: Path
    rows: int
    columns: dict[str, Array]
    reasons: dict[str, int]
    scores: dict[str, Score]
    fitted: dict[str, object]

    def as_dict(self) -> dict[str, object]:
        """Return the outcome as JSON data."""
        return {
            "verdict": "pass",
            "out": str(self.out),
            "rows": self.rows,
            "not_predicted": dict(self.reasons),
            "scores": {name: s.as_dict() for name, s in self.scores.items()},
            "calibration": self.fitted,
        }


def predicted(
    data: Path, op: str, name: str, dtype: str, out: Path, progress: Progress = silent
) -> Predicted:
    """Write a table with predicted times and return what was found; raises `Refused`."""
    device = device_named(name)
    peak_key(device, dtype)
    known = calibration(device)
    table = tables.read_table(data)
    columns = tables.columns(table)
    progress(STAGE, 0, table.num_rows)
    if op in TARGETS:
        found = predict(op, columns, device, dtype, known)
        times, reasons = {"predicted_ms": 1e3 * found.seconds}, found.reasons
        pairs = {MEASURED: "predicted_ms"}
    else:
        # Loads sympy, which tables of single operations start a second sooner without.
        from sohu.commands.serving import PAIRS, serve  # noqa: PLC0415

        times, reasons = serve(
            columns, device, dtype, known, lambda row: progress(STAGE, row, table.num_rows)
        )
        pairs = dict(PAIRS)
    tables.write_table(tables.with_columns(table, times), out)
    progress(STAGE, table.num_rows, table.num_rows)
    scores = {
        measured: score(times[made], np.asarray(columns[measured], np.float64))
        for measured, made in pairs.items()
        if _is_measured(columns, measured)
    }
    fitted: dict[str, object] = {"name": known.name, "device": device.id}
    return Predicted(out, table.num_rows, times, reasons, scores, fitted)


def _is_measured(columns: Columns, name: str) -> bool:
    return name in columns and np.asarray(columns[name]).dtype.kind == "f"


def show(found: Predicted) -> None:
    """Print where the times are, and the errors where there is something to compare with."""
    for reason, count in found.reasons.items():
        rows = "row" if count == 1 else "rows"
        console.say(f"no prediction for {count:,} {rows}: {reason}", error=True)
    if found.scores:
        heads = ("measured", "rows", "coverage", "MAPE", "median", "p90", "bias")
        lines = [
            (
                name,
                f"{s.rows:,}",
                f"{s.coverage:.1%}",
                *(f"{v:.2f} %" for v in (s.mape, s.median, s.p90)),
                f"{s.bias:.3f}",
            )
            for name, s in found.scores.items()
        ]
        console.table("error of the predicted times", heads, lines)
    console.say(f"{found.rows:,} rows in {found.out}")
