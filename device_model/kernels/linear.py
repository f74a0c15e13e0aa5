"""Products with a weight, and table look-up.

`matmul` contracts the last axes of x[..., K] and w[N, K]. One output is one reduction in the order of `lanes`, so that
a row's bits do not depend on the other rows. Sparse and quantised weights are not here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from device_model.kernels import opcodes, order
from device_model.kernels.call import Call
from device_model.kernels.compiled import read, size_of, words, write
from device_model.kernels.deferred import compiled
from device_model.kernels.kernel import DTypes, Kernel, as_first, declared, promoted
from device_model.kernels.product import BYTES, NIBBLES, scratch_bytes
from device_model.numerics import BF16, F32, Array, Numerics, is_float
from device_model.packed import FP4, Packed
from device_model.places import Buffer, Held, Item, Place
from device_model.program import Argument, Builder, kind_of
from dsl.graph import Attr

PATTERNS = np.arange(256, dtype=np.uint8)
PANEL = 256
"""Rows of a packed weight that the reference widens at a time."""


def reference_matmul(call: Call) -> tuple[Array, ...]:
    """Multiply in the declared order."""
    x, w = call.array(0), call.weight(1)
    flat = product(x.reshape(-1, x.shape[-1]), w)
    return (flat.reshape(*x.shape[:-1], len(w)),)


def product(x: Array, w: Array | Packed) -> Array:
    """Return x @ w.T in the declared order; a packed weight is widened a panel at a time."""
    if not isinstance(w, Packed):
        return order.dot(x, w)
    out = np.empty((len(x), len(w)), np.float32)
    for start in range(0, len(w), PANEL):
        stop = min(len(w), start + PANEL)
        out[:, start:stop] = order.dot(x, w.panel(start, stop))
    return out


def entry(w: Array | Packed, index: int) -> Array | Packed:
    """Return one matrix of a stack."""
    return w.part(index) if isinstance(w, Packed) else w[index]


def reference_head_matmul(call: Call) -> tuple[Array, ...]:
    """Multiply each head by its own weight."""
    x, w = call.array(0), call.weight(1)
    heads = [product(np.ascontiguousarray(x[:, h]), entry(w, h)) for h in range(len(w))]
    return (np.stack(heads, axis=1),)


def reference_gather(call: Call) -> tuple[Array, ...]:
    """Take rows of a table."""
    table, ids = call.array(0), call.array(1)
    return (np.take(table, ids, axis=0),)


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


def stored(target: Builder, w: Held | Packed) -> tuple[Argument, ...]:
    """Return what a product must know of a weight as it is stored: address, kind, scales, blocks, table, rounding."""
    if isinstance(w, Held):
        return target.at(w), kind_of(w.array.dtype), 0, 0, 0, 0, 0
    values = FP4 if w.is_mxfp4 else PATTERNS.view(w.values.dtype).astype(np.float32)
    return (
        target.at(w), NIBBLES if w.is_mxfp4 else BYTES, target.at(Held(w.scales)), w.rows,
        w.columns, target.at(Held(np.ascontiguousarray(values))), int(w.dtype == BF16),
    )  # fmt: skip


def can_read(w: Place) -> bool:
    """Tell whether compiled products can read a weight."""
    if isinstance(w, Held):
        return w.array.dtype in (F32, BF16)
    return isinstance(w, Packed) and (w.is_mxfp4 or w.scales.dtype == F32)


def lower_matmul(target: Builder, item: Item) -> bool:
    """Emit a product with a weight; a product of two values per token is left to the reference."""
    x, w = item.inputs
    (out,) = item.outputs
    if not (isinstance(x, Buffer) and isinstance(w, Held | Packed) and can_read(w)):
        return False
    if not isinstance(out, Buffer):
        return False
    n, k = w.array.shape if isinstance(w, Held) else w.shape
    target.reserve(scratch_bytes(k))
    target.emit(
        opcodes.MATMUL, target.at(x), kind_of(x.dtype), *stored(target, w), target.at(out),
        kind_of(out.dtype), target.rows(x.elements // k), n, k,
    )  # fmt: skip
    return True


def lower_gather(target: Builder, item: Item) -> bool:
    """Emit a look-up of rows in a floating table."""
    table, ids = item.inputs
    (out,) = item.outputs
    if not (isinstance(table, Held) and isinstance(ids, Buffer) and isinstance(out, Buffer)):
        return False
    if not is_float(table.array.dtype):
        return False
    width = out.elements // ids.elements
    target.reserve(4 * width)
    target.emit(
        opcodes.GATHER, target.at(table), kind_of(table.array.dtype), target.at(ids),
        target.at(out), kind_of(out.dtype), target.rows(ids.elements), width,
    )  # fmt: skip
    return True


def _as_table(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    """Return the format of rows: whole numbers stay what they are."""
    return promoted(inputs, attrs, numerics) if is_float(inputs[0]) else inputs[:1]


MATMUL = Kernel(reference_matmul, lower_matmul, declared)
HEAD_MATMUL = Kernel(reference_head_matmul, result=as_first)
GATHER = Kernel(reference_gather, lower_gather, _as_table)
