# SPDX-License-Identifier: Apache-2.0
"""Rows of a serving table: the model's program, on the row's mesh, under the row's load.

A model is a hub id of which the zoo has the program, or the path of a text, a port, a model's folder or a config.json.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from device_model.chips.chip import Device
from device_model.chips.peaks import PEAKS
from device_model.cost.calibration import Calibration, host_of
from device_model.cost.chip import Array
from device_model.cost.oracle import Columns
from device_model.memory.meshes import mesh_violations
from device_model.timeline.pricing import Prices
from device_model.timeline.serving import Load, Server
from dsl.diagnostics import Refused, refuse
from dsl.graph import Graph
from porting.planning.bound import bound_graph
from porting.planning.library import ZOO

PAIRS: Mapping[str, str] = {"tpot_ms": "predicted_ms", "ttft_ms": "predicted_ttft_ms"}
NUMBERS = ("isl", "osl", "concurrency", "tp")
TEXTS = ("model", "backend")
MAX_TOKENS = 1 << 24
# What hub ids add to a model's name without changing its shapes.
DECORATION = re.compile(r"^meta-|-(instruct|chat|base|it|hf|fp8|bf16|v\d[\d.]*|\d{4})(?=-|$)")


def serve(
    columns: Columns,
    device: Device,
    dtype: str,
    known: Calibration,
    told: Callable[[int], None] = lambda _row: None,
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the predicted columns and the reasons for rows without; raises `Refused` where columns are missing."""
    missing = [c for c in (*NUMBERS, *TEXTS) if c not in columns]
    if missing:
        message = f"the table has no column {', '.join(missing)}"
        raise refuse("S610", message, help=f"it has {', '.join(columns)}")
    rows = len(columns["isl"])
    found = {name: np.full(rows, np.nan) for name in PAIRS.values()}
    reasons: dict[str, int] = {}
    cell = _Rows(columns, device, dtype, known)
    for row in range(rows):
        told(row)
        try:
            per_token, to_first = cell.of(row)
        except (Refused, ValueError) as error:
            reason = error.diagnostics[0].message if isinstance(error, Refused) else str(error)
            reasons[reason] = reasons.get(reason, 0) + 1
            continue
        found["predicted_ms"][row] = 1e3 * per_token
        found["predicted_ttft_ms"][row] = 1e3 * to_first
    return found, reasons


class _Rows:
    """The rows of one table; programs and servers are made once."""

    def __init__(self, columns: Columns, device: Device, dtype: str, known: Calibration) -> None:
        self.columns, self.device, self.dtype, self.known = columns, device, dtype, known
        self.server = lru_cache(maxsize=256)(self._server)

    def of(self, row: int) -> tuple[float, float]:
        """Return the seconds of a row; raises `Refused` or `ValueError` with the reason for none."""
        load = Load(*(self._count(name, row) for name in ("concurrency", "isl", "osl")))
        mesh = [("tp", self._count("tp", row))]
        if "pp" in self.columns:
            mesh.append(("pp", self._count("pp", row)))
        host = host_of(self.known, str(self.columns["backend"][row]).lower())
        dtype = str(self.columns["precision"][row]) if "precision" in self.columns else ""
        dtype = dtype or self.dtype
        if dtype.lower() not in PEAKS:
            raise ValueError(f"unknown precision {dtype!r}")
        server = self.server(str(self.columns["model"][row]), dtype, tuple(mesh))
        served = server.serve(load, host)
        if served is None:
            raise ValueError("not one sequence fits the memory beside the weights")
        return served.per_token, served.to_first

    def _count(self, name: str, row: int) -> int:
        value = self.columns[name][row]
        number = float(value) if np.asarray(value).dtype.kind == "f" else float("nan")
        if not (1 <= number <= MAX_TOKENS and number == int(number)):
            raise ValueError(f"{name} is no whole number from 1 to {MAX_TOKENS:,}")
        return int(number)

    def _server(self, model: str, dtype: str, mesh: tuple[tuple[str, int], ...]) -> Server:
        graph = program_of(model)
        sizes = {axis: size for axis, size in mesh if axis in graph.mesh}
        if any(size > 1 and axis not in graph.mesh for axis, size in mesh):
            raise ValueError(f"{graph.family} has no such mesh axis")
        server = Server(graph, Prices(self.device, dtype, self.known), sizes)
        violations = mesh_violations(graph, server.mesh)
        if violations:
            raise Refused(violations)
        return server


@lru_cache(maxsize=32)
def program_of(model: str) -> Graph:
    """Return the program of a path, or of a hub id from the zoo; raises `Refused` where the zoo has none."""
    if os.path.exists(model):  # noqa: PTH110 - unlike pathlib's, it never raises, however odd the name
        return bound_graph(Path(model))
    name = model.rpartition("/")[2].lower()
    ports = {path.stem: path for path in sorted(Path(ZOO, "ports").glob("*.sohu"))}
    while name not in ports and (shorter := DECORATION.sub("", name)) != name:
        name = shorter
    if name not in ports:
        message = f"the zoo has no program of {model!r}"
        hint = f"it has {', '.join(ports)}; the path of a port or of a config.json will do as well"
        raise refuse("S610", message, help=hint)
    return bound_graph(ports[name])
