# SPDX-License-Identifier: Apache-2.0
"""Rows of a weight as it is stored, widened to float32: the one place where packed elements are taken apart.

Nothing here multiplies rows, and no more than the rows asked for are ever widened.
"""

from __future__ import annotations

from typing import Any

from device_model.machine.deferred import compiled
from device_model.machine.elementary import (
    floats,
    octets,
    power_of_two,
    read,
    round_to,
    size_of,
)
from device_model.machine.vectors import F16

BYTES, NIBBLES, MX_BYTES, SCALED_NIBBLES, CENTRED_NIBBLES = 3, 4, 5, 6, 7
"""Kinds of a packed weight beyond the plain ones: one or two elements a byte, and scales that are numbers or, for
`NIBBLES` and `MX_BYTES`, exponents of two. A zero point follows each scale of `CENTRED_NIBBLES`."""


@compiled
def _centred(packed: Any, pairs: Any, values: Any, out: Any, k: int, group: int) -> None:
    """Write a row of nibbles, each less the zero point of its group, times the group's scale."""
    for b in range((k + group - 1) // group):
        factor, zero = pairs[2 * b], pairs[2 * b + 1]
        start, stop = b * group, min(k, (b + 1) * group)
        if start % 2:
            out[start] = (values[packed[start // 2] >> 4] - zero) * factor
        for i in range((start + 1) // 2, stop // 2):
            out[2 * i] = (values[packed[i] & 15] - zero) * factor
            out[2 * i + 1] = (values[packed[i] >> 4] - zero) * factor
        if stop % 2:
            out[stop - 1] = (values[packed[stop // 2] & 15] - zero) * factor


@compiled
def widen(
    w: int, kind: int, scales: int, block_rows: int, block_columns: int, table: int, rounds: int,
    row: int, rows: int, k: int, target: int,
) -> None:  # fmt: skip
    """Write rows of a weight as float32; packed elements are rounded to the kind `rounds`."""
    if kind <= F16:
        read(w + row * k * size_of(kind), kind, target, rows * k)
        return
    values = floats(table, 256)
    nibbles = kind in (NIBBLES, SCALED_NIBBLES, CENTRED_NIBBLES)
    powers = kind in (NIBBLES, MX_BYTES)
    across = (k + block_columns - 1) // block_columns
    stride = (k + 1) // 2 if nibbles else k
    for r in range(row, row + rows):
        out = floats(target + (r - row) * k * 4, k)
        packed = octets(w + r * stride, stride)
        first = r // block_rows * across
        if kind == CENTRED_NIBBLES:
            pairs = floats(scales + 8 * first, 2 * across)
            _centred(packed, pairs, values, out, k, block_columns)
            continue
        exponents, factors = octets(scales + first, across), floats(scales + 4 * first, across)
        for b in range(across):
            factor = power_of_two(exponents[b]) if powers else factors[b]
            start, stop = b * block_columns, min(k, (b + 1) * block_columns)
            if nibbles:
                for i in range(start // 2, stop // 2):
                    out[2 * i] = values[packed[i] & 15] * factor
                    out[2 * i + 1] = values[packed[i] >> 4] * factor
                if stop % 2:
                    out[stop - 1] = values[packed[stop // 2] & 15] * factor
            else:
                for i in range(start, stop):
                    out[i] = values[packed[i]] * factor
    if rounds:
        round_to(rounds, target, rows * k)
