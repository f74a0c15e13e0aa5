# SPDX-License-Identifier: Apache-2.0
"""Time of work outside of the matmul unit: norms, activations, positions, copies. One pass over its bytes.

A run of such operations is one kernel. How many registers it needs, or whether a row fits on the chip, is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device_model.cost.chip import Array, Chip, Number, overlapped


@dataclass(frozen=True, slots=True)
class VectorParameters:
    """What a pass has besides datasheet values."""

    launch: float
    """Seconds before and after the work."""
    memory: float
    """Share of main memory's bandwidth that is reached."""
    compute: float
    """Share of the vector units' FLOP/s that is reached."""
    sharpness: float
    """How well arithmetic and memory overlap: the exponent of their p-norm."""


def vector_terms(
    moved: Number, flops: Number, vector_flops: Number, chip: Chip, p: VectorParameters
) -> dict[str, Array]:
    """Return the parts of the time of a pass over `moved` bytes, in seconds."""
    return {
        "launch": np.asarray(p.launch),
        "work": np.asarray(flops / (np.asarray(vector_flops) * p.compute)),
        "memory": np.asarray(moved / (np.asarray(chip.bandwidth) * p.memory)),
    }


def vector_seconds(terms: dict[str, Array], p: VectorParameters) -> Array:
    """Return the time that the parts make together."""
    return np.asarray(terms["launch"] + overlapped(p.sharpness, terms["work"], terms["memory"]))
