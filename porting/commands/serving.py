"""Serving: placeholder for the composition; see `serve`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from device_model.cost.calibration import Calibration
from device_model.cost.chip import Array
from device_model.cost.oracle import Columns
from device_model.device import Device

PAIRS: Mapping[str, str] = {"tpot_ms": "predicted_ms", "ttft_ms": "predicted_ttft_ms"}


def serve(
    columns: Columns, device: Device, dtype: str, known: Calibration
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the predicted columns and the reasons for rows without."""
    rows = len(columns["isl"])
    return {name: np.full(rows, np.nan) for name in PAIRS.values()}, {"not composed yet": rows}
