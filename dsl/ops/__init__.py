# SPDX-License-Identifier: Apache-2.0
"""The table of operations, by area.

A new operation is a row in one of these modules, a kernel of the same name in the device model, and tests.
"""

from dsl.ops import (
    activation,
    attention,
    collective,
    elementwise,
    exchange,
    layout,
    linear,
    moe,
    norm,
    position,
    state,
)
from dsl.ops.spec import OpSpec

AREAS: dict[str, tuple[OpSpec, ...]] = {
    "linear": linear.SPECS,
    "norm": norm.SPECS,
    "position": position.SPECS,
    "attention": attention.SPECS,
    "elementwise": elementwise.SPECS,
    "activation": activation.SPECS,
    "layout": layout.SPECS,
    "moe": moe.SPECS,
    "state": state.SPECS,
    "collective": collective.SPECS,
    "exchange": exchange.SPECS,
}

OPS: dict[str, OpSpec] = {spec.name: spec for specs in AREAS.values() for spec in specs}

if len(OPS) != sum(len(specs) for specs in AREAS.values()):
    raise RuntimeError("two operations share a name")
