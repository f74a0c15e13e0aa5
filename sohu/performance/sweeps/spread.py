# SPDX-License-Identifier: Apache-2.0
"""A sweep in pieces that workers of a cluster evaluate, put together as if it had been one.

Cuts along the first quantity that varies; a piece is a design of its own. Knows no cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from device_model.chips.chip import Device
from device_model.cost.calibration import calibration
from device_model.memory.use import Logits
from device_model.timeline.design import Design
from device_model.timeline.design_space import DesignSpace, evaluate_design
from dsl.graph import Graph


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a sweep with all that it takes to evaluate it."""

    graph: Graph
    device: Device
    design: Design
    logits: Logits


def pieces(whole: Piece, most: int) -> list[Piece]:
    """Return a sweep as pieces, so many at most."""
    design = whole.design
    if not design.varied:
        return [whole]
    name = design.varied[0]
    values = design.numbers[name]
    cuts = np.array_split(np.arange(len(values)), min(most, len(values)))
    runs = [tuple(values[i] for i in cut) for cut in cuts]
    return [
        replace(whole, design=replace(design, numbers={**design.numbers, name: run}))
        for run in runs
    ]


def evaluated(piece: Piece) -> DesignSpace:
    """Return the answers at every point of a piece."""
    chip = piece.device
    return evaluate_design(piece.graph, chip, calibration(chip), piece.design, logits=piece.logits)


def joined(design: Design, parts: Sequence[DesignSpace]) -> DesignSpace:
    """Return the answers of a whole design from those of its pieces, in order."""
    formats = len(design.numerics)
    columns = {}
    for name in parts[0].columns:
        rows = [part.columns[name].reshape(formats, -1) for part in parts]
        column = np.concatenate(rows, axis=1).reshape(-1)
        # What varies is a float there; the one value of a piece may be whole.
        columns[name] = column.astype(np.float64) if name in design.varied else column
    undivided: dict[str, int] = {}
    for part in parts:
        for text, count in part.undivided.items():
            undivided[text] = undivided.get(text, 0) + count
    return DesignSpace(design, columns, undivided)
