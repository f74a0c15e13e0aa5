# SPDX-License-Identifier: Apache-2.0
"""Products of many bfloat16 rows with a weight whose elements are bfloat16, by the instruction of `pairs`.

The bits are those of `product`, which computes what the instruction would not compute alike: rows and columns with
numbers so small or so large that a product or a sum could be subnormal or overflow. Nothing here knows an operation.
"""

from __future__ import annotations

from device_model.machine import pairs
from device_model.machine.deferred import compiled
from device_model.machine.elementary import integers, read, size_of, write
from device_model.machine.leaves import (
    DEPTH,
    FIELDS,
    HEADER,
    PADDING,
    count,
    fold,
    forget,
    sixteens,
)
from device_model.machine.panels import widen
from device_model.machine.product import copy, product, working_bytes
from device_model.machine.vectors import BF16, F16

PANEL = 32
"""Columns that are packed at a time at most, and whose results of a row are written together."""
PANEL_BYTES = 512 * 1024
"""Size of packed columns, which should stay in a core's second-level cache."""
WIDENED = 4
"""Columns of a packed weight that are widened at a time."""
BLOCK_BYTES = 1024 * 1024
"""Size of a block of packed rows, each of which is read once for a panel; columns are packed again for each block."""
LEAST_ROWS, BLOCK_ROWS = 8 * pairs.ROWS, 170 * pairs.ROWS
SLOT = 4 * pairs.ROWS * pairs.COLUMNS
"""Bytes of the sums of a tile, of which those of several leaves wait for their addition."""
SUMS_BYTES = 4 * PANEL * pairs.ROWS + DEPTH * SLOT


def padded(k: int) -> int:
    """Return how many elements a packed row has."""
    return (k + pairs.STEP - 1) // pairs.STEP * pairs.STEP


def limit(k: int) -> int:
    """Return how many rows are computed at a time at most."""
    rows = BLOCK_BYTES // (2 * max(k, 1)) // pairs.ROWS * pairs.ROWS
    return max(LEAST_ROWS, min(BLOCK_ROWS, rows))


def panel_columns(k: int) -> int:
    """Return how many columns are packed at a time."""
    columns = PANEL_BYTES // (2 * max(k, 1)) // pairs.COLUMNS * pairs.COLUMNS
    return max(pairs.COLUMNS, min(PANEL, columns))


row_limit, _panel_columns = compiled(limit), compiled(panel_columns)


def scratch_bytes(k: int) -> int:
    """Return the scratch memory: sums, packed columns and rows, what `product` needs, and its rows in float32."""
    rows = limit(k)
    length = padded(k) + PADDING
    packed = 2 * length * (panel_columns(k) + rows) + 16 * rows + 6 * k * WIDENED
    own = SUMS_BYTES + pairs.SEEN_BYTES + packed
    return own + 4 * k * pairs.ROWS + working_bytes(pairs.ROWS, k)


@compiled
def takes(wanted: int, x_kind: int, kind: int, rounds: int) -> bool:
    """Tell whether rows and a weight are multiplied here."""
    elements = rounds if kind > F16 else kind
    return wanted != 0 and pairs.has_pairs() and x_kind == BF16 and elements == BF16


@compiled
def _pack(source: int, k: int, leaves: int, target: int, step: int, seen: int) -> None:
    """Lay out a row in pairs, each leaf from a step of its own."""
    if leaves == 0:
        pairs.pack(source, k, target, step, seen)
        return
    for leaf in range(count(leaves)):
        at = integers(leaves + 8 * (HEADER + FIELDS * leaf), FIELDS)
        pairs.pack(source + 2 * at[0], at[1], target + at[4] * step, step, seen)


@compiled
def _multiply(x: int, w: int, k: int, leaves: int, out: int, stack: int) -> None:
    """Write the dot products of packed rows and columns to `out`, as the tree of their leaves."""
    if leaves == 0:
        pairs.multiply(x, w, sixteens(leaves, k), out, 4 * PANEL)
        return
    depth, row = 0, 4 * pairs.COLUMNS
    for leaf in range(count(leaves)):
        at = integers(leaves + 8 * (HEADER + FIELDS * leaf), FIELDS)
        steps = (at[1] + pairs.STEP - 1) // pairs.STEP
        left, right = x + at[4] * pairs.ROW_STEP, w + at[4] * pairs.COLUMN_STEP
        pairs.multiply(left, right, steps, stack + depth * SLOT, row)
        depth = fold(leaves, leaf, stack, SLOT, SLOT // 4, depth + 1)
    copy(stack, row, out, 4 * PANEL, pairs.ROWS, pairs.COLUMNS)


@compiled
def _pack_columns(
    w: int, kind: int, scales: int, block_rows: int, block_columns: int, table: int, rounds: int,
    leaves: int, left: int, wide: int, k: int, panel: int, seen: int, widened: int,
) -> None:  # fmt: skip
    """Pack columns in groups; the last of them fills what is short of a group."""
    size = pairs.COLUMN_STEP * sixteens(leaves, k)
    narrow = widened + 4 * k * WIDENED
    for column in range((wide + pairs.COLUMNS - 1) // pairs.COLUMNS * pairs.COLUMNS):
        taken = min(column, wide - 1)
        source = w + (left + taken) * k * 2
        if kind != BF16:
            source = narrow + taken % WIDENED * k * 2
            if taken == column and column % WIDENED == 0:
                several = min(WIDENED, wide - column)
                widen(
                    w, kind, scales, block_rows, block_columns, table, rounds, left + column,
                    several, k, widened,
                )  # fmt: skip
                write(widened, narrow, BF16, several * k)
        place = column // pairs.COLUMNS * size + column % pairs.COLUMNS * 2 * pairs.STEP
        _pack(source, k, leaves, panel + place, pairs.COLUMN_STEP, seen)


@compiled
def _pack_rows(
    x: int, repeats: int, numbers: int, rows: int, k: int, leaves: int, block: int, ranges: int,
    seen: int,
) -> None:  # fmt: skip
    """Pack rows in tiles with their ranges of exponents; the last of them fills what is short of a tile."""
    at_row, size = integers(numbers, rows), pairs.ROW_STEP * sixteens(leaves, k)
    for tile in range((rows + pairs.ROWS - 1) // pairs.ROWS):
        pairs.clear_seen(seen)
        for r in range(pairs.ROWS):
            number = at_row[min(tile * pairs.ROWS + r, rows - 1)] // repeats
            place = block + tile * size + r * 2 * pairs.STEP
            _pack(x + number * k * 2, k, leaves, place, pairs.ROW_STEP, seen)
        found = integers(ranges + 16 * tile, 2)
        found[0], found[1] = pairs.exponents(seen)


@compiled
def paired(
    x: int, repeats: int, rows: int, numbers: int, w: int, kind: int, scales: int,
    block_rows: int, block_columns: int, table: int, rounds: int, leaves: int, out: int,
    out_kind: int, n: int, k: int, first: int, last: int, scratch: int,
) -> None:  # fmt: skip
    """Multiply rows `numbers[r] // repeats` of x[.., k] by columns `first` to `last`, into row `numbers[r]` of out."""
    at_row, columns, steps = integers(numbers, rows), _panel_columns(k), sixteens(leaves, k)
    row_size, column_size = steps * pairs.ROW_STEP, steps * pairs.COLUMN_STEP
    stack = scratch + 4 * PANEL * pairs.ROWS
    forget(stack, SLOT)
    seen = scratch + SUMS_BYTES
    panel = seen + pairs.SEEN_BYTES
    block = panel + column_size * (columns // pairs.COLUMNS)
    tiles = (rows + pairs.ROWS - 1) // pairs.ROWS
    ranges = block + row_size * tiles
    widened = ranges + 16 * tiles
    few = widened + 6 * k * WIDENED
    rest = few + 4 * k * pairs.ROWS
    _pack_rows(x, repeats, numbers, rows, k, leaves, block, ranges, seen)
    for left in range(first, last, columns):
        wide = min(columns, last - left)
        pairs.clear_seen(seen)
        _pack_columns(
            w, kind, scales, block_rows, block_columns, table, rounds, leaves, left, wide, k, panel,
            seen, widened,
        )  # fmt: skip
        low, high = pairs.exponents(seen)
        for tile in range(tiles):
            top = tile * pairs.ROWS
            some = min(pairs.ROWS, rows - top)
            found = integers(ranges + 16 * tile, 2)
            if not pairs.harmless(low, high, found[0], found[1]):
                for r in range(some):
                    number = at_row[top + r] // repeats
                    read(x + number * k * 2, BF16, few + 4 * k * r, k)
                product(
                    few, some, numbers + 8 * top, w, kind, scales, block_rows, block_columns,
                    table, rounds, leaves, out, out_kind, n, k, left, left + wide, rest,
                )  # fmt: skip
                continue
            for column in range(0, wide, pairs.COLUMNS):
                _multiply(
                    block + tile * row_size, panel + column // pairs.COLUMNS * column_size, k,
                    leaves, scratch + 4 * column, stack,
                )  # fmt: skip
            for r in range(some):
                here = out + (at_row[top + r] * n + left) * size_of(out_kind)
                write(scratch + 4 * PANEL * r, here, out_kind, wide)
