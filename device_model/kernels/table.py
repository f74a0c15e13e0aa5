"""The table of kernels: one row per operation of the language.

Adding an operation is adding a row to the module of its area, which has the name of its area in `dsl.ops`. Nothing
registers itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from device_model.kernels import (
    activation,
    attention,
    collective,
    elementwise,
    layout,
    linear,
    moe,
    norm,
    position,
    state,
)
from device_model.program.kernel import Kernel

AREAS: Mapping[str, Mapping[str, Kernel]] = {
    "linear": linear.KERNELS,
    "norm": norm.KERNELS,
    "position": position.KERNELS,
    "attention": attention.KERNELS,
    "elementwise": elementwise.KERNELS,
    "activation": activation.KERNELS,
    "layout": layout.KERNELS,
    "moe": moe.KERNELS,
    "state": state.KERNELS,
    "collective": collective.KERNELS,
}

KERNELS: dict[str, Kernel] = {op: row for area in AREAS.values() for op, row in area.items()}
