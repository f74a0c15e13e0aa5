# SPDX-License-Identifier: Apache-2.0
"""Products whose operands are in low precision on both sides, or whose sums are not plain float32.

Rows are quantised each alone. Sums follow the accumulator of the numerics: float32 in the order of `lanes`, in chunks
of K that are added in order, with fewer bits, or exact whole numbers. Scales of rows and channels multiply the sum, in
this order, each product rounded to float32. Nothing here knows where a weight comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_model.machine import lanes, order
from device_model.machine.deferred import compiled
from device_model.machine.elementary import (
    add_rounded,
    bits_of_float,
    doubles,
    float_of_bits,
    floats,
    integers,
    patterns,
    power_of_two,
    read,
    size_of,
    words,
    write,
)
from device_model.machine.leaves import DEPTH, FIELDS, HEADER, fold, table
from device_model.machine.leaves import count as leaf_count
from device_model.machine.panels import widen
from device_model.machine.product import clear, columns_of, row_limit, scratch_bytes
from device_model.machine.vectors import F32, LANES
from device_model.numbers.formats import FORMATS
from device_model.numbers.numerics import BF16, F16, Array
from device_model.numbers.packed import MX_BLOCK, Packed
from device_model.numbers.precision import (
    F32_SUMS,
    Accumulator,
    Leaves,
    Operand,
    Overflow,
    Product,
    Rounding,
    Scale,
    ScaleRounding,
)
from device_model.numbers.quantise import largest
from device_model.numbers.quantise import rows as quantised
from device_model.program.builder import Builder, kind_of
from device_model.program.instruction import Address, Argument, Instruction
from device_model.program.places import Buffer, Fixed

PANEL = 128
"""Rows of a packed weight that the reference widens at a time."""
TILE_ROWS, TILE_COLUMNS = 3, 4
EXACT = 1024
"""How many products of two 8-bit integers have a sum that is exact in float32, whatever the order."""
SUMS_BYTES, TILE_BYTES, TOTALS = 64, 128, 96
TOTALS_BYTES = DEPTH * TOTALS
FLOATS, WHOLE, TRUNCATED, NEAREST = 0, 1, 2, 3
"""How sums are kept."""
AS_IS, BY_ROW, BY_BLOCK, BY_BLOCK_UP = 0, 1, 2, 3
"""What shares a scale of a row of activations."""
INFINITE, SMALLEST_NORMAL, FRACTION = 0x7F800000, 0x00800000, 0x007FFFFF
"""Patterns of float32, and the bits of its fraction."""
MAGIC = np.float32(12582912.0)
"""A number that rounds what is added to it to whole numbers, up to 2^22."""

_f34 = lanes.dots(3, 4, F32)
_f24 = lanes.dots(2, 4, F32)
_f14 = lanes.dots(1, 4, F32)
_f11 = lanes.dots(1, 1, F32)


def product(
    x: Array, w: Array | Packed, how: Product | None = None, leaves: Leaves | None = None
) -> Array:
    """Return x @ w.T in float32 as declared; a packed weight is widened a panel at a time."""
    if not isinstance(w, Packed):
        return order.product(x, w, leaves)
    operand = how.activation if how is not None else None
    left, scales = (x, None) if operand is None else quantised(x, operand)
    few_bits = x.dtype in (BF16, F16) if operand is None else operand.scale is not Scale.BLOCK
    out = np.empty((len(x), len(w)), np.float32)
    for start in range(0, len(w), PANEL):
        stop = min(len(w), start + PANEL)
        panel = w.panel(start, stop)
        exact = few_bits and (w.per_channel or panel.dtype in (BF16, F16))
        kept = how.accumulator if how else F32_SUMS
        out[:, start:stop] = order.sums(left, panel, kept, exact=exact, leaves=leaves)
    if scales is not None:
        out *= scales[:, None]
    if w.per_channel:
        out *= w.scales
    return out


@compiled
def _nearest(v: Any, exponent: int, mantissa: int, most: Any, beyond: Any) -> Any:
    """Round to a floating format, or to whole numbers where it has no exponent."""
    size = abs(v)
    if exponent == 0:
        rounded = min((size + MAGIC) - MAGIC, most)
        return -rounded if v < 0 else rounded
    bias = (1 << (exponent - 1)) - 1
    if size < power_of_two(128 - bias):
        # Below the normal numbers an addition rounds at the right place, as float32 does it.
        magic = power_of_two(151 - bias - mantissa)
        rounded = (size + magic) - magic
    else:
        bits, drop = np.int64(bits_of_float(size)), 23 - mantissa
        bits += (1 << (drop - 1)) - 1 + ((bits >> drop) & 1)
        rounded = float_of_bits(np.int32(bits >> drop << drop))
    rounded = beyond if rounded > most else rounded
    rounded = -rounded if v < 0 else rounded
    return v if np.isnan(v) else rounded


@compiled
def _shared_exponent(top: Any, most: Any, up: bool) -> Any:
    """Return the exponent of a block's scale for the pattern of its largest number."""
    largest_bits = np.int64(bits_of_float(most))
    exponent = (top >> 23) - (largest_bits >> 23)
    if up and (top & FRACTION) > (largest_bits & FRACTION):
        exponent += 1
    # Below the normal numbers the exponent is beneath the least scale anyway.
    if top < SMALLEST_NORMAL:
        return -127
    return min(max(exponent, -127), 127)


@compiled
def quantise(
    x: int, x_kind: int, q: int, scales: int, rows: int, k: int, scaling: int, exponent: int,
    mantissa: int, most: float, beyond: float, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Write this part of x[rows, k] x_kind as q[rows, k] and scales[rows], float32 numbers of a low precision.

    Without a mantissa they are only widened.
    """
    found = floats(scales, rows)
    top_number, past = np.float32(most), np.float32(beyond)
    run = MX_BLOCK if scaling in (BY_BLOCK, BY_BLOCK_UP) else max(k, 1)
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        at = q + row * k * 4
        read(x + row * k * size_of(x_kind), x_kind, at, k)
        found[row] = np.float32(1.0)
        if mantissa < 0:
            continue
        values, bits = floats(at, k), patterns(at, k)
        for start in range(0, k, run):
            stop = min(k, start + run)
            top = np.uint32(0)
            for i in range(start, stop):
                top = max(top, bits[i] & np.uint32(0x7FFFFFFF))
            finite = top < np.uint32(INFINITE)
            if scaling == AS_IS:
                for i in range(start, stop):
                    values[i] = _nearest(values[i], exponent, mantissa, top_number, past)
            elif scaling == BY_ROW:
                scale = float_of_bits(np.int32(top)) / top_number
                scale = scale if scale > 0 else np.float32(1.0)
                found[row] = scale if finite else np.float32(np.nan)
                for i in range(start, stop):
                    held = values[i] / scale if finite else np.float32(0.0)
                    values[i] = _nearest(held, exponent, mantissa, top_number, past)
            else:
                shared = _shared_exponent(np.int64(top), top_number, scaling == BY_BLOCK_UP)
                down, up = power_of_two(127 - shared), power_of_two(127 + shared)
                up = up if finite else np.float32(np.nan)
                for i in range(start, stop):
                    held = values[i] * down if finite else np.float32(0.0)
                    values[i] = _nearest(held, exponent, mantissa, top_number, past) * up


QUANTISE = Instruction.of("quantise", quantise)


@compiled
def _narrow(x: int, w: int, k: int, drop: int, nearest: int, scratch: int) -> Any:
    """Return one dot product in the declared order, every sum without its last `drop` bits in float64."""
    left, right, sums = floats(x, k), floats(w, k), doubles(scratch, LANES)
    for lane in range(LANES):
        sums[lane] = 0.0
    for i in range(k):
        exact = np.float64(left[i]) * np.float64(right[i])
        sums[i % LANES] = add_rounded(sums[i % LANES], exact, drop, nearest)
    for distance in (4, 2, 1):
        for lane in range(distance):
            sums[lane] = add_rounded(sums[lane], sums[lane + distance], drop, nearest)
    return np.float32(sums[0])


@compiled
def _dots(
    x: int, w: int, k: int, count: int, tile: int, rows: int, columns: int, keep: int, drop: int,
    scratch: int,
) -> None:  # fmt: skip
    """Write the dot products of up to 3 rows and 4 columns over `count` of K to `tile`, 32 bytes a row."""
    stride = k * 4
    if keep in (TRUNCATED, NEAREST):
        found = floats(tile, 8 * TILE_ROWS)
        for r in range(rows):
            for c in range(columns):
                at, to = x + r * stride, w + c * stride
                found[r * 8 + c] = _narrow(at, to, count, drop, int(keep == NEAREST), scratch)
    elif columns == TILE_COLUMNS:
        if rows == 3:
            _f34(x, stride, w, stride, count, tile, 32)
        elif rows == 2:
            _f24(x, stride, w, stride, count, tile, 32)
        else:
            _f14(x, stride, w, stride, count, tile, 32)
    else:
        for r in range(rows):
            for c in range(columns):
                _f11(x + r * stride, 0, w + c * stride, 0, count, tile + r * 32 + c * 4, 32)


@compiled
def _chunks(
    x: int, w: int, k: int, length: int, rows: int, columns: int, chunk: int, keep: int, drop: int,
    totals_at: int, scratch: int,
) -> None:  # fmt: skip
    """Write the sums of up to 3 rows and 4 columns over `length` of K, each chunk's added in order."""
    tile_at = scratch + SUMS_BYTES
    found = floats(tile_at, 8 * TILE_ROWS)
    totals = floats(totals_at, TILE_ROWS * TILE_COLUMNS)
    whole = integers(totals_at, TILE_ROWS * TILE_COLUMNS)
    for i in range(TILE_ROWS * TILE_COLUMNS):
        whole[i] = 0
    for start in range(0, length, chunk):
        size = min(chunk, length - start)
        _dots(x + start * 4, w + start * 4, k, size, tile_at, rows, columns, keep, drop, scratch)
        for r in range(rows):
            for c in range(columns):
                i = r * TILE_COLUMNS + c
                if keep == WHOLE:
                    whole[i] += np.int64(found[r * 8 + c])
                else:
                    totals[i] = totals[i] + found[r * 8 + c]


@compiled
def _tree(
    x: int, w: int, k: int, leaves: int, rows: int, columns: int, chunk: int, keep: int, drop: int,
    scratch: int,
) -> None:  # fmt: skip
    """Write the sums of up to 3 rows and 4 columns as the tree of their leaves; of whole numbers any order is exact."""
    totals_at = scratch + SUMS_BYTES + TILE_BYTES
    if leaves == 0 or keep == WHOLE:
        _chunks(x, w, k, k, rows, columns, chunk, keep, drop, totals_at, scratch)
        return
    depth = 0
    for leaf in range(leaf_count(leaves)):
        at = integers(leaves + 8 * (HEADER + FIELDS * leaf), FIELDS)
        here = totals_at + depth * TOTALS
        _chunks(
            x + at[0] * 4, w + at[0] * 4, k, at[1], rows, columns, chunk, keep, drop, here, scratch
        )
        depth = fold(leaves, leaf, totals_at, TOTALS, TOTALS // 4, depth + 1)


@compiled
def _block(
    x: int, rows: int, numbers: int, repeats: int, row_scales: int, w: int, kind: int,
    scales: int, block_rows: int, block_columns: int, table: int, rounds: int,
    column_scales: int, leaves: int, out: int, out_kind: int, n: int, k: int, first: int,
    last: int, chunk: int, keep: int, drop: int, scratch: int,
) -> None:  # fmt: skip
    """Multiply rows by columns `first` to `last` of a weight; row r is row `numbers[r]` of out[.., n]."""
    at_row = integers(numbers, rows)
    tile_at, totals_at = scratch + SUMS_BYTES, scratch + SUMS_BYTES + TILE_BYTES
    panel = totals_at + TOTALS_BYTES
    found = floats(tile_at, 8 * TILE_ROWS)
    totals = floats(totals_at, TILE_ROWS * TILE_COLUMNS)
    whole = integers(totals_at, TILE_ROWS * TILE_COLUMNS)
    for column in range(first, last, TILE_COLUMNS):
        columns = min(TILE_COLUMNS, last - column)
        widen(
            w, kind, scales, block_rows, block_columns, table, rounds, column, columns, k, panel,
        )  # fmt: skip
        for row in range(0, rows, TILE_ROWS):
            count = min(TILE_ROWS, rows - row)
            _tree(x + row * k * 4, panel, k, leaves, count, columns, chunk, keep, drop, scratch)
            for r in range(count):
                number = at_row[row + r]
                factor = floats(row_scales + number // repeats * 4, 1)[0]
                for c in range(columns):
                    i = r * TILE_COLUMNS + c
                    value = np.float32(whole[i]) if keep == WHOLE else totals[i]
                    value = value * factor
                    if column_scales != 0:
                        value = value * floats(column_scales + (column + c) * 4, 1)[0]
                    found[r * 8 + c] = value
                here = out + (number * n + column) * size_of(out_kind)
                write(tile_at + r * 32, here, out_kind, columns)


@compiled
def matmul(
    q: int, row_scales: int, repeats: int, choice: int, w: int, kind: int, entry: int,
    scales: int, scales_entry: int, block_rows: int, block_columns: int, table: int,
    rounds: int, column_scales: int, leaves: int, first_expert: int, out: int, out_kind: int,
    rows: int, experts: int, n: int, k: int, chunk: int, keep: int, drop: int, part: int,
    parts: int, scratch: int,
) -> None:  # fmt: skip
    """Compute this part's columns of out[rows, n] = q[rows / repeats, k] times w[n, k] or that of its expert.

    A row that names none of these experts gives zeros. `repeats` rows of the result share a row of q. `entry` and
    `scales_entry` are the bytes of one expert's weight and scales.
    """
    first, last = columns_of(n, part, parts)
    block = row_limit(k)
    numbers_at = scratch + SUMS_BYTES + TILE_BYTES + TOTALS_BYTES + 4 * TILE_COLUMNS * k
    block_at = numbers_at + 8 * block
    numbers = integers(numbers_at, block)
    if experts == 0:
        for top in range(0, rows, block):
            count = min(block, rows - top)
            for r in range(count):
                numbers[r] = top + r
            _block(
                q + top * k * 4, count, numbers_at, repeats, row_scales, w, kind, scales,
                block_rows, block_columns, table, rounds, column_scales, leaves, out, out_kind,
                n, k, first, last, chunk, keep, drop, scratch,
            )  # fmt: skip
        return
    chosen = words(choice, rows)
    for row in range(rows):
        if chosen[row] < first_expert or chosen[row] >= first_expert + experts:
            clear(out + (row * n + first) * size_of(out_kind), (last - first) * size_of(out_kind))
    for expert in range(experts):
        count = 0
        by_column = column_scales + expert * 4 * n if column_scales != 0 else 0
        for row in range(rows):
            if chosen[row] == first_expert + expert:
                read(q + row // repeats * k * 4, F32, block_at + count * k * 4, k)
                numbers[count] = row
                count += 1
            if count == block or (row == rows - 1 and count > 0):
                _block(
                    block_at, count, numbers_at, repeats, row_scales, w + expert * entry, kind,
                    scales + expert * scales_entry, block_rows, block_columns, table, rounds,
                    by_column, leaves, out, out_kind, n, k, first, last, chunk, keep, drop,
                    scratch,
                )  # fmt: skip
                count = 0


QUANTISED_MATMUL = Instruction.of("quantised_matmul", matmul)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a product must know of a weight as it is stored."""

    address: Argument
    kind: int
    scales: Argument
    rows: int
    columns: int
    table: Argument
    rounds: int

    @property
    def operands(self) -> Mapping[str, Argument]:
        """Return them by the names that products have for them."""
        return {
            "w": self.address, "kind": self.kind, "scales": self.scales, "block_rows": self.rows,
            "block_columns": self.columns, "table": self.table, "rounds": self.rounds,
        }  # fmt: skip


def leaf_table(target: Builder, leaves: Leaves | None) -> Argument:
    """Return the address of the table that compiled products follow, 0 where all of K is one leaf."""
    return 0 if leaves is None else target.at(Fixed(table(leaves)))


def lower(
    target: Builder, how: Product, x: Buffer, w: Packed, stored: Stored, out: Buffer,
    leaves: Leaves | None, choice: Buffer | None = None, first_expert: int = 0,
) -> None:  # fmt: skip
    """Emit the quantisation of rows and their product with a weight, or with the chosen ones of a stack."""
    *_, n, k = w.shape
    q, row_scales = _quantised(target, how.activation, x, k)
    experts, repeats, rows = 0, 1, target.tokens(x.elements // k)
    entry = scales_entry = 0
    if choice is not None:
        experts, rows = len(w), target.tokens(choice.width)
        repeats = 1 if len(x.shape) > 1 else choice.width
        entry = w.values.nbytes // experts
        scales_entry = 0 if w.per_channel else w.scales.nbytes // experts
    sums = how.accumulator
    target.reserve(SUMS_BYTES + TILE_BYTES + TOTALS_BYTES + scratch_bytes(k))
    target.emit(
        QUANTISED_MATMUL, stored.operands, q=q, row_scales=row_scales, repeats=repeats,
        choice=0 if choice is None else target.at(choice), entry=entry, scales_entry=scales_entry,
        column_scales=target.at(Fixed(w.scales)) if w.per_channel else 0,
        leaves=leaf_table(target, leaves), first_expert=first_expert, out=target.at(out),
        out_kind=kind_of(out.dtype), rows=rows, experts=experts, n=n, k=k,
        chunk=EXACT if sums.is_integer else sums.chunk or max(k, 1), keep=_keep(sums),
        drop=order.F64_SIGNIFICAND - sums.significand,
    )  # fmt: skip


def _quantised(
    target: Builder, operand: Operand | None, x: Buffer, k: int
) -> tuple[Address, Address]:
    """Emit the quantisation of rows; returns where they are and where their scales are."""
    q, scales = target.temporary(4 * x.elements), target.temporary(4 * (x.elements // k))
    rows = target.tokens(x.elements // k)
    read: dict[str, Argument] = {
        "x": target.at(x), "x_kind": kind_of(x.dtype), "q": q, "scales": scales, "rows": rows, "k": k,
    }  # fmt: skip
    if operand is None:
        target.emit(QUANTISE, read, scaling=AS_IS, exponent=0, mantissa=-1, most=0.0, beyond=0.0)
        return q, scales
    most = float(largest(operand))
    exponent, mantissa, beyond = 0, 0, most
    if not operand.is_integer:
        to = FORMATS[operand.format]
        exponent, mantissa = to.exponent, to.mantissa
        if operand.overflow is Overflow.NONFINITE:
            beyond = np.inf if to.infinity is not None else np.nan
    target.emit(
        QUANTISE, read, scaling=SCALINGS[operand.scale] + int(_rounds_up(operand)),
        exponent=exponent, mantissa=mantissa, most=most, beyond=beyond,
    )  # fmt: skip
    return q, scales


SCALINGS = {Scale.NONE: AS_IS, Scale.ROW: BY_ROW, Scale.BLOCK: BY_BLOCK}


def _rounds_up(operand: Operand) -> bool:
    return operand.scale is Scale.BLOCK and operand.rounding is ScaleRounding.UP


def _keep(sums: Accumulator) -> int:
    if sums.is_integer:
        return WHOLE
    if not sums.is_narrow:
        return FLOATS
    return NEAREST if sums.rounding is Rounding.NEAREST else TRUNCATED
