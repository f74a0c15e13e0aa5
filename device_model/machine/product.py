# SPDX-License-Identifier: Apache-2.0
"""Products of float32 rows with a weight as it is stored.

One output is one reduction in the order of `lanes` over float32 operands, so that a row's bits do not depend on which
rows are computed with it. Weights in bfloat16 are used in place by few rows and widened a panel at a time for many;
float16 and packed ones are always widened a panel at a time. Nothing here knows an operation.
"""

from __future__ import annotations

from device_model.machine import lanes, wide
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, integers, octets, size_of, write
from device_model.machine.leaves import DEPTH, FIELDS, HEADER, PADDING, count, eights, fold, forget
from device_model.machine.panels import widen
from device_model.machine.vectors import BF16, F32, LANES

TILE_ROWS, TILE_COLUMNS = 3, 4
STREAMS = TILE_COLUMNS
"""Runs of columns that few rows are multiplied with at a time."""
FEW_ROWS = 6
"""Up to here weights are used straight from memory; from here they are widened once per block of rows."""
GROUP = 8
"""Columns that one thread takes at a time: a 32-byte line of float32 results at least."""
BLOCK_BYTES = 1024 * 1024
"""Size of a block of float32 rows, which should stay in a core's second-level cache; columns are widened for each."""
BLOCK_ROWS = 510
WIDE_ROWS = 32
"""From here packing columns for wide registers pays."""
PANEL = 16
"""Columns of which many rows' results are kept before they are rounded."""
SLOT = 32 * TILE_ROWS
"""Bytes of the sums of a tile, of which those of several leaves wait for their addition."""
WIDE_SLOT = 4 * wide.ROWS * wide.COLUMNS
TILE_BYTES = DEPTH * max(SLOT, WIDE_SLOT) + 4 * FEW_ROWS * STREAMS * GROUP

_s14 = lanes.dots(1, 4, BF16, streaming=True)
_s24 = lanes.dots(2, 4, BF16, streaming=True)
_s34 = lanes.dots(3, 4, BF16, streaming=True)
_s11 = lanes.dots(1, 1, BF16)
_r14 = lanes.dots(1, 4, F32, streaming=True)
_f11 = lanes.dots(1, 1, F32)
_f14 = lanes.dots(1, 4, F32)
_f24 = lanes.dots(2, 4, F32)
_f34 = lanes.dots(3, 4, F32)
_w1, _w3, _w6 = wide.multiply(1), wide.multiply(3), wide.multiply(wide.ROWS)


def limit(k: int) -> int:
    """Return how many rows are computed at a time."""
    rows = BLOCK_BYTES // (4 * max(k, 1)) // wide.ROWS * wide.ROWS
    return max(2 * wide.ROWS, min(BLOCK_ROWS, rows))


row_limit = compiled(limit)


def working_bytes(rows: int, k: int) -> int:
    """Return the scratch memory of a product of a block of rows: results and a panel of weights, packed and not."""
    packed = 4 * PANEL * (k + LANES + PADDING)
    return TILE_BYTES + 4 * PANEL * max(rows, wide.ROWS) + packed + 4 * TILE_COLUMNS * k


working = compiled(working_bytes)


def scratch_bytes(k: int) -> int:
    """Return the scratch memory with row numbers and a block of rows behind it."""
    rows = limit(k)
    return working_bytes(rows, k) + 8 * rows + 4 * k * rows + 64


@compiled
def _tile(
    x: int, xs: int, w: int, ws: int, k: int, out: int, step: int, rows: int, columns: int,
    kind: int,
) -> None:  # fmt: skip
    """Write the dot products of up to 3 rows and 4 columns to `out`, `step` bytes a row."""
    if columns == TILE_COLUMNS:
        if kind == BF16:
            if rows == 3:
                _s34(x, xs, w, ws, k, out, step)
            elif rows == 2:
                _s24(x, xs, w, ws, k, out, step)
            else:
                _s14(x, xs, w, ws, k, out, step)
        elif rows == 3:
            _f34(x, xs, w, ws, k, out, step)
        elif rows == 2:
            _f24(x, xs, w, ws, k, out, step)
        else:
            _f14(x, xs, w, ws, k, out, step)
        return
    for r in range(rows):
        for c in range(columns):
            if kind == BF16:
                _s11(x + r * xs, xs, w + c * ws, ws, k, out + r * step + c * 4, step)
            else:
                _f11(x + r * xs, xs, w + c * ws, ws, k, out + r * step + c * 4, step)


@compiled
def _run(
    x: int, xs: int, w: int, ws: int, k: int, out: int, rows: int, columns: int, kind: int
) -> None:
    """Write the dot products of up to 3 rows and 4 columns over one run of K to `out`, 32 bytes a row."""
    if kind == F32 and rows == 1 and columns == TILE_COLUMNS:
        _r14(x, xs, w, ws, k, out, 32)
    else:
        _tile(x, xs, w, ws, k, out, 32, rows, columns, kind)


@compiled
def _tree(
    x: int, xs: int, w: int, ws: int, k: int, leaves: int, out: int, rows: int, columns: int,
    kind: int,
) -> None:  # fmt: skip
    """Write the dot products of up to 3 rows and 4 columns to `out`, 32 bytes a row, as the tree of their leaves."""
    if leaves == 0:
        _run(x, xs, w, ws, k, out, rows, columns, kind)
        return
    size, depth = size_of(kind), 0
    for leaf in range(count(leaves)):
        at = integers(leaves + 8 * (HEADER + FIELDS * leaf), FIELDS)
        here = out + depth * SLOT
        _run(x + at[0] * 4, xs, w + at[0] * size, ws, at[1], here, rows, columns, kind)
        depth = fold(leaves, leaf, out, SLOT, 8 * rows, depth + 1)


@compiled
def _few_rows(
    x: int, rows: int, numbers: int, w: int, kind: int, leaves: int, out: int, out_kind: int,
    n: int, k: int, first: int, last: int, tile: int,
) -> None:  # fmt: skip
    """Multiply few rows by weights straight from memory, as streams that lie far apart.

    One stream of short rows does not keep the memory busy; each of these is a run of whole columns in order.
    """
    at_row = integers(numbers, rows)
    stride, out_size = k * size_of(kind), size_of(out_kind)
    each = (last - first) // STREAMS
    found = floats(tile, TILE_ROWS * 8)
    forget(tile, SLOT)
    sums_at = tile + DEPTH * SLOT
    sums = floats(sums_at, FEW_ROWS * STREAMS * GROUP)
    for start in range(0, each, GROUP):
        count = min(GROUP, each - start)
        for i in range(count):
            at = w + (first + start + i) * stride
            for row in range(0, rows, TILE_ROWS):
                some = min(TILE_ROWS, rows - row)
                _tree(
                    x + row * k * 4, k * 4, at, each * stride, k, leaves, tile, some, STREAMS, kind
                )
                for r in range(some):
                    for c in range(STREAMS):
                        sums[((row + r) * STREAMS + c) * GROUP + i] = found[r * 8 + c]
        for row in range(rows):
            for c in range(STREAMS):
                here = out + (at_row[row] * n + first + c * each + start) * out_size
                write(sums_at + (row * STREAMS + c) * GROUP * 4, here, out_kind, count)
    for column in range(first + STREAMS * each, last):
        for row in range(rows):
            _tree(x + row * k * 4, 0, w + column * stride, stride, k, leaves, tile, 1, 1, kind)
            write(tile, out + (at_row[row] * n + column) * out_size, out_kind, 1)


@compiled
def copy(source: int, stride: int, target: int, step: int, rows: int, columns: int) -> None:
    """Copy float32 numbers to rows that lie `step` bytes apart."""
    for row in range(rows):
        given, taken = floats(source + row * stride, columns), floats(target + row * step, columns)
        for i in range(columns):
            taken[i] = given[i]


@compiled
def _many_rows(
    x: int, rows: int, numbers: int, w: int, kind: int, scales: int, block_rows: int,
    block_columns: int, table: int, rounds: int, leaves: int, out: int, out_kind: int, n: int,
    k: int, first: int, last: int, scratch: int,
) -> None:  # fmt: skip
    """Multiply many rows by columns that are widened a panel at a time, where there are no wider registers."""
    at_row, out_size = integers(numbers, rows), size_of(out_kind)
    results = scratch + TILE_BYTES
    panel = results + 4 * PANEL * rows
    forget(scratch, SLOT)
    for left in range(first, last, PANEL):
        across = min(PANEL, last - left)
        for column in range(0, across, TILE_COLUMNS):
            columns = min(TILE_COLUMNS, across - column)
            at = w + (left + column) * k * size_of(kind)
            if kind != F32:
                widen(
                    w, kind, scales, block_rows, block_columns, table, rounds, left + column,
                    columns, k, panel,
                )  # fmt: skip
                at = panel
            for row in range(0, rows, TILE_ROWS):
                to = results + 4 * (row * PANEL + column)
                some = min(TILE_ROWS, rows - row)
                if leaves == 0:
                    _tile(x + row * k * 4, k * 4, at, k * 4, k, to, 4 * PANEL, some, columns, F32)
                    continue
                _tree(x + row * k * 4, k * 4, at, k * 4, k, leaves, scratch, some, columns, F32)
                copy(scratch, 32, to, 4 * PANEL, some, columns)
        for row in range(rows):
            here = out + (at_row[row] * n + left) * out_size
            write(results + 4 * PANEL * row, here, out_kind, across)


@compiled
def _pack(source: int, k: int, leaves: int, target: int) -> None:
    """Lay out a column for wide registers, each leaf from a step of its own."""
    if leaves == 0:
        wide.pack(source, k, target)
        return
    for leaf in range(count(leaves)):
        at = integers(leaves + 8 * (HEADER + FIELDS * leaf), FIELDS)
        wide.pack(source + at[0] * 4, at[1], target + at[3] * wide.STEP)


@compiled
def _across(x: int, xs: int, w: int, k: int, out: int, step: int, rows: int) -> None:
    """Multiply 6, 3 or 1 rows by packed columns."""
    if rows == wide.ROWS:
        _w6(x, xs, w, k, out, step)
    elif rows == 3:
        _w3(x, xs, w, k, out, step)
    else:
        _w1(x, xs, w, k, out, step)


@compiled
def _spread(source: int, target: int, rows: int) -> None:
    """Copy rows of eight numbers to their places among results."""
    for row in range(rows):
        given = floats(source + 4 * wide.COLUMNS * row, wide.COLUMNS)
        taken = floats(target + 4 * PANEL * row, wide.COLUMNS)
        for i in range(wide.COLUMNS):
            taken[i] = given[i]


@compiled
def _across_tree(x: int, xs: int, w: int, leaves: int, stack: int, rows: int) -> None:
    """Multiply 6, 3 or 1 rows by packed columns as the tree of their leaves, into the first sums of the stack."""
    depth, step = 0, 4 * wide.COLUMNS
    for leaf in range(count(leaves)):
        at = integers(leaves + 8 * (HEADER + FIELDS * leaf), FIELDS)
        here = stack + depth * WIDE_SLOT
        _across(x + at[0] * 4, xs, w + at[3] * wide.STEP, at[1], here, step, rows)
        depth = fold(leaves, leaf, stack, WIDE_SLOT, 8 * rows, depth + 1)


@compiled
def _many_rows_wide(
    x: int, rows: int, numbers: int, w: int, kind: int, scales: int, block_rows: int,
    block_columns: int, table: int, rounds: int, leaves: int, out: int, out_kind: int, n: int,
    k: int, first: int, last: int, scratch: int,
) -> None:  # fmt: skip
    """Multiply many rows by columns that are widened and packed a group at a time."""
    at_row, out_size = integers(numbers, rows), size_of(out_kind)
    results = scratch + TILE_BYTES
    packed = results + 4 * PANEL * wide.ROWS
    forget(scratch, WIDE_SLOT)
    size = wide.STEP * eights(leaves, k)
    panel = packed + PANEL // wide.COLUMNS * size
    for left in range(first, last, PANEL):
        across = min(PANEL, last - left)
        groups = (across + wide.COLUMNS - 1) // wide.COLUMNS
        for column in range(groups * wide.COLUMNS):
            # The last column fills what is short of a group.
            taken = min(column, across - 1)
            if kind == F32:
                source = w + (left + taken) * k * 4
            else:
                source = panel + taken % TILE_COLUMNS * k * 4
                if taken == column and column % TILE_COLUMNS == 0:
                    widen(
                        w, kind, scales, block_rows, block_columns, table, rounds, left + column,
                        min(TILE_COLUMNS, across - column), k, panel,
                    )  # fmt: skip
            at = column % wide.COLUMNS
            _pack(source, k, leaves, packed + column // wide.COLUMNS * size + at * 4 * LANES)
        row = 0
        while row < rows:
            some = rows - row
            some = wide.ROWS if some >= wide.ROWS else 3 if some >= 3 else 1
            for group in range(groups):
                at, to = packed + group * size, results + 4 * wide.COLUMNS * group
                if leaves == 0:
                    _across(x + row * k * 4, k * 4, at, k, to, 4 * PANEL, some)
                    continue
                _across_tree(x + row * k * 4, k * 4, at, leaves, scratch, some)
                _spread(scratch, to, some)
            for r in range(some):
                here = out + (at_row[row + r] * n + left) * out_size
                write(results + 4 * PANEL * r, here, out_kind, across)
            row += some


@compiled
def product(
    x: int, rows: int, numbers: int, w: int, kind: int, scales: int, block_rows: int,
    block_columns: int, table: int, rounds: int, leaves: int, out: int, out_kind: int, n: int,
    k: int, first: int, last: int, scratch: int,
) -> None:  # fmt: skip
    """Multiply float32 rows by columns `first` to `last` of a weight; row r is row `numbers[r]` of out[.., n]."""
    if rows <= FEW_ROWS and kind in (F32, BF16):
        _few_rows(x, rows, numbers, w, kind, leaves, out, out_kind, n, k, first, last, scratch)
    elif rows >= WIDE_ROWS and wide.has_wide():
        _many_rows_wide(
            x, rows, numbers, w, kind, scales, block_rows, block_columns, table, rounds, leaves,
            out, out_kind, n, k, first, last, scratch,
        )  # fmt: skip
    else:
        _many_rows(
            x, rows, numbers, w, kind, scales, block_rows, block_columns, table, rounds, leaves,
            out, out_kind, n, k, first, last, scratch,
        )  # fmt: skip


@compiled
def columns_of(n: int, part: int, parts: int) -> tuple[int, int]:
    """Return this part's columns, whole groups but at the end."""
    groups = (n + GROUP - 1) // GROUP
    return groups * part // parts * GROUP, min(n, groups * (part + 1) // parts * GROUP)


@compiled
def even(rows: int, most: int) -> int:
    """Return how many rows to compute at a time, so that no block has few."""
    blocks = max(1, (rows + most - 1) // most)
    tiles = (rows + blocks * wide.ROWS - 1) // (blocks * wide.ROWS)
    return max(1, tiles) * wide.ROWS


@compiled
def clear(at: int, size: int) -> None:
    """Write zero bytes."""
    bytes_ = octets(at, size)
    for i in range(size):
        bytes_[i] = 0
