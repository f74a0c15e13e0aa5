"""Products with a weight, and table look-up.

`matmul` contracts the last axes of x[..., K] and w[N, K]. One output is one reduction in the order of `lanes`, so that
a row's bits do not depend on the other rows. Sparse and quantised weights are not here.
"""

from __future__ import annotations

import numpy as np

from device_model.kernels import lanes, opcodes, order
from device_model.kernels.call import Call
from device_model.kernels.compiled import compiled, read, size_of, words, write
from device_model.kernels.kernel import Kernel, as_first, declared
from device_model.kernels.lanes import BF16, F32
from device_model.numerics import Array, is_float
from device_model.places import Buffer, Held, Item
from device_model.program import Builder, kind_of

TILE_ROWS, TILE_COLUMNS = 3, 4
FEW_ROWS = 6
"""Up to here weights are used straight from memory; from here they are widened once per block of rows."""
GROUP = 8
"""Columns that one thread takes at a time: a 32-byte line of float32 results at least."""
SHORT = 1024
"""Below this K, two streams of weights at a time are faster than eight."""
BLOCK_BYTES = 192 * 1024
"""Size of a block of widened rows, which should stay in a core's second-level cache."""
TILE_BYTES = 64 * (TILE_ROWS + 1) * GROUP


def reference_matmul(call: Call) -> tuple[Array, ...]:
    """Multiply in the declared order."""
    x, w = call.array(0), call.array(1)
    flat = order.dot(x.reshape(-1, x.shape[-1]), w)
    return (flat.reshape(*x.shape[:-1], len(w)),)


def reference_head_matmul(call: Call) -> tuple[Array, ...]:
    """Multiply each head by its own weight."""
    x, w = call.array(0), call.array(1)
    heads = [order.dot(np.ascontiguousarray(x[:, h]), w[h]) for h in range(len(w))]
    return (np.stack(heads, axis=1),)


def reference_gather(call: Call) -> tuple[Array, ...]:
    """Take rows of a table."""
    table, ids = call.array(0), call.array(1)
    return (np.take(table, ids, axis=0),)


_s18 = lanes.dots(1, 8, BF16, streaming=True)
_s12 = lanes.dots(1, 2, BF16, streaming=True)
_s11 = lanes.dots(1, 1, BF16, streaming=True)
_s24 = lanes.dots(2, 4, BF16, streaming=True)
_s34 = lanes.dots(3, 4, BF16, streaming=True)
_f18 = lanes.dots(1, 8, F32, streaming=True)
_f11 = lanes.dots(1, 1, F32)
_f14 = lanes.dots(1, 4, F32)
_f24 = lanes.dots(2, 4, F32)
_f34 = lanes.dots(3, 4, F32)


@compiled
def _tile(
    x: int, xs: int, w: int, ws: int, k: int, out: int, rows: int, columns: int, kind: int
) -> None:
    """Write the dot products of up to 3 rows and 4 columns to `out`, 32 bytes a row."""
    if columns == TILE_COLUMNS:
        if kind == BF16:
            if rows == 3:
                _s34(x, xs, w, ws, k, out, 32)
            elif rows == 2:
                _s24(x, xs, w, ws, k, out, 32)
            else:
                for c in range(0, 4, 2):
                    _s12(x, xs, w + c * ws, ws, k, out + c * 4, 32)
        elif rows == 3:
            _f34(x, xs, w, ws, k, out, 32)
        elif rows == 2:
            _f24(x, xs, w, ws, k, out, 32)
        else:
            _f14(x, xs, w, ws, k, out, 32)
        return
    for r in range(rows):
        for c in range(columns):
            if kind == BF16:
                _s11(x + r * xs, xs, w + c * ws, ws, k, out + r * 32 + c * 4, 32)
            else:
                _f11(x + r * xs, xs, w + c * ws, ws, k, out + r * 32 + c * 4, 32)


@compiled
def _one_row(
    x: int, w: int, kind: int, out: int, out_kind: int, first: int, last: int, k: int, tile: int
) -> None:
    size, out_size = size_of(kind), size_of(out_kind)
    stride = k * size
    column = first
    while column < last:
        count = min(GROUP, last - column)
        at = w + column * stride
        if count < GROUP:
            for c in range(count):
                _tile(x, 0, at + c * stride, stride, k, tile + c * 4, 1, 1, kind)
        elif kind == F32:
            _f18(x, 0, at, stride, k, tile, 32)
        elif k < SHORT:
            for c in range(0, GROUP, 2):
                _s12(x, 0, at + c * stride, stride, k, tile + c * 4, 32)
        else:
            _s18(x, 0, at, stride, k, tile, 32)
        write(tile, out + column * out_size, out_kind, count)
        column += count


@compiled
def matmul_block(
    x: int, w: int, kind: int, out: int, out_kind: int, rows: int, n: int, k: int,
    first: int, last: int, scratch: int,
) -> None:  # fmt: skip
    """Compute columns `first` to `last` of out[rows, n] from float32 rows x and weights w."""
    if rows == 1:
        _one_row(x, w, kind, out, out_kind, first, last, k, scratch)
        return
    tile = scratch
    panel = scratch + TILE_BYTES
    size, out_size = size_of(kind), size_of(out_kind)
    block = rows
    if rows > FEW_ROWS:
        fitting = BLOCK_BYTES // (4 * k)
        block = max(12, fitting // TILE_ROWS * TILE_ROWS)
    for top in range(0, rows, block):
        bottom = min(rows, top + block)
        for column in range(first, last, TILE_COLUMNS):
            columns = min(TILE_COLUMNS, last - column)
            at, stride, used = w + column * k * size, k * size, kind
            if rows > FEW_ROWS and kind != F32:
                read(at, kind, panel, columns * k)
                at, stride, used = panel, k * 4, F32
            for row in range(top, bottom, TILE_ROWS):
                count = min(TILE_ROWS, bottom - row)
                _tile(x + row * k * 4, k * 4, at, stride, k, tile, count, columns, used)
                for r in range(count):
                    here = out + ((row + r) * n + column) * out_size
                    write(tile + r * 32, here, out_kind, columns)


@compiled
def matmul(
    x: int, w: int, kind: int, out: int, out_kind: int, rows: int, n: int, k: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Compute this part's columns of a product."""
    groups = (n + GROUP - 1) // GROUP
    first = groups * part // parts * GROUP
    last = min(n, groups * (part + 1) // parts * GROUP)
    matmul_block(x, w, kind, out, out_kind, rows, n, k, first, last, scratch)


@compiled
def gather(
    table: int, kind: int, ids: int, out: int, out_kind: int, rows: int, width: int,
    part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy this part's rows of a table."""
    from_ids = words(ids, rows)
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        source = table + np.int64(from_ids[row]) * width * size_of(kind)
        read(source, kind, scratch, width)
        write(scratch, out + row * width * size_of(out_kind), out_kind, width)


def lower_matmul(target: Builder, item: Item) -> bool:
    """Emit a product with a weight; a product of two values per token is left to the reference."""
    x, w = item.inputs
    (out,) = item.outputs
    if not (isinstance(x, Buffer) and isinstance(w, Held) and isinstance(out, Buffer)):
        return False
    n, k = w.array.shape
    x_at = target.widened(x)
    target.reserve(TILE_BYTES + 4 * 4 * k)
    target.emit(
        opcodes.MATMUL, x_at, target.at(w), kind_of(w.array.dtype), target.at(out),
        kind_of(out.dtype), target.rows(x.elements // k), n, k,
    )  # fmt: skip
    return True


def lower_gather(target: Builder, item: Item) -> bool:
    """Emit a look-up of one row per token in a floating table."""
    table, ids = item.inputs
    (out,) = item.outputs
    if not (isinstance(table, Held) and isinstance(ids, Buffer) and isinstance(out, Buffer)):
        return False
    if not is_float(table.array.dtype) or ids.elements != 1:
        return False
    target.reserve(4 * out.elements)
    target.emit(
        opcodes.GATHER, target.at(table), kind_of(table.array.dtype), target.at(ids),
        target.at(out), kind_of(out.dtype), target.rows(), out.elements,
    )  # fmt: skip
    return True


MATMUL = Kernel(reference_matmul, lower_matmul, declared)
HEAD_MATMUL = Kernel(reference_head_matmul, result=as_first)
GATHER = Kernel(reference_gather, lower_gather)
