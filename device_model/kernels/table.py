# SPDX-License-Identifier: Apache-2.0
"""The tables of kernels: one row per operation of the language, and one per instruction of the machine.

Adding an operation is adding a row to the module of its area, which has the name of its area in `dsl.ops`. Adding an
instruction is adding its row, which stands beside its kernel, to a part below. Nothing registers itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from device_model.kernels import (
    activation,
    attention,
    collective,
    elementwise,
    exchange,
    layout,
    linear,
    matmul,
    moe,
    norm,
    position,
    quantised,
    reduction,
    routing,
    state,
    unary,
)
from device_model.program.instruction import Instruction, InstructionSet
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
    "exchange": exchange.KERNELS,
}

KERNELS: dict[str, Kernel] = {op: row for area in AREAS.values() for op, row in area.items()}

PARTS: Mapping[str, tuple[Instruction, ...]] = {
    "products": (matmul.MATMUL, matmul.EXPERT_MATMUL),
    "attention": (attention.ATTENTION, attention.APPEND),
    "low-precision products": (quantised.QUANTISED_MATMUL, quantised.QUANTISE),
    "functions": (unary.UNARY, elementwise.BINARY, elementwise.CONVERT),
    "experts": (routing.ROUTE, routing.PICK, moe.COMBINE, moe.EXPERT_FINISH),
    "recurrences": (state.LINEAR_ATTENTION, state.CAUSAL_CONV),
    "rows": (
        norm.NORM, position.ROPE, position.SCALE_ROWS, reduction.REDUCE, linear.GATHER,
        layout.COLUMNS, layout.SELECT,
    ),
}  # fmt: skip
"""Instructions that are compiled together, because they share code; the longest to compile come first."""

INSTRUCTIONS = InstructionSet(tuple(row for part in PARTS.values() for row in part))
