# SPDX-License-Identifier: Apache-2.0
"""How far predictions are from measurements: percentage errors, bias, coverage; as the measured data defines them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite

import numpy as np

from device_model.cost.chip import Array


@dataclass(frozen=True, slots=True)
class Score:
    """Errors in percent over the rows that were predicted, and the share of rows that were."""

    rows: int
    coverage: float
    mape: float
    median: float
    p90: float
    bias: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the score as JSON data, with null for the errors of no row."""
        return {name: value if isfinite(value) else None for name, value in asdict(self).items()}


def score(predicted: Array, measured: Array) -> Score:
    """Return the errors of predicted times; a NaN or a value not above zero is not predicted and lowers coverage."""
    real = np.isfinite(measured) & (measured > 0)
    answered = real & np.isfinite(predicted) & (predicted > 0)
    rows = int(real.sum())
    if not answered.any():
        return Score(rows, 0.0, *(float("nan"),) * 4)
    p, y = predicted[answered], measured[answered]
    error = 100.0 * np.abs(p - y) / y
    return Score(
        rows,
        float(answered.sum() / rows),
        float(error.mean()),
        float(np.median(error)),
        float(np.percentile(error, 90)),
        float(np.exp(np.mean(np.log(p / y)))),
    )
