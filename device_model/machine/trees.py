# SPDX-License-Identifier: Apache-2.0
"""The last additions of the declared order for sums that lie side by side in wide registers.

Nothing here multiplies.
"""

from __future__ import annotations

from llvmlite import ir

from device_model.machine.vectors import I32


def picked(order: list[int]) -> ir.Constant:
    """Return the mask of a shuffle."""
    return ir.Constant(ir.VectorType(I32, len(order)), order)


def trees(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value, d: ir.Value) -> ir.Value:
    """Return the sums of eight times eight lanes, two in each register: 4 apart, 2 apart, 1 apart."""

    def halves_added(left: ir.Value, right: ir.Value, low: list[int], distance: int) -> ir.Value:
        high = [place + distance for place in low]
        first, second = (
            builder.shuffle_vector(left, right, picked(order)) for order in (low, high)
        )
        return builder.fadd(first, second)

    fours = [start + i for start in (0, 8, 16, 24) for i in range(4)]
    twos = [start + side + i for start in (0, 4, 8, 12) for side in (0, 16) for i in (0, 1)]
    ones = [0, 4, 8, 12, 2, 6, 10, 14]
    one, two = halves_added(a, b, fours, 4), halves_added(c, d, fours, 4)
    both = halves_added(one, two, twos, 2)
    return halves_added(both, both, ones, 1)
