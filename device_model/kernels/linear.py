# SPDX-License-Identifier: Apache-2.0
"""Products with a weight, and table look-up.

`matmul` contracts the last axes of x[..., K] and w[N, K]. One output is one reduction in the order of `lanes`, so that
a row's bits do not depend on the other rows. Sparse and quantised weights are not here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from device_model.kernels.matmul import MATMUL, scratch_bytes
from device_model.kernels.quantised import Stored, leaf_table, lower, product
from device_model.machine.deferred import compiled
from device_model.machine.elementary import floats, read, size_of, words, write
from device_model.machine.pairs import wanted
from device_model.machine.panels import BYTES, CENTRED_NIBBLES, MX_BYTES, NIBBLES, SCALED_NIBBLES
from device_model.numbers.numerics import BF16, F16, F32, Array, Numerics, is_float
from device_model.numbers.packed import Packed
from device_model.program.builder import Builder, kind_of
from device_model.program.call import Call, integer
from device_model.program.instruction import Instruction
from device_model.program.kernel import DTypes, Kernel, as_first, declared, promoted
from device_model.program.places import Buffer, Fixed, Operation, Place
from dsl.graph import Attr

PACKED_KINDS = {
    (False, False): BYTES, (True, True): NIBBLES, (False, True): MX_BYTES,
    (True, False): SCALED_NIBBLES,
}  # fmt: skip
"""Kinds of a packed weight by whether two elements share a byte and whether scales are exponents."""
ONE = np.ones(1, np.float32)


def reference_matmul(call: Call) -> tuple[Array, ...]:
    """Multiply in the declared order."""
    x, w = call.array(0), call.weight(1)
    flat = product(x.reshape(-1, x.shape[-1]), w, call.product, call.leaves)
    return (flat.reshape(*x.shape[:-1], len(w)),)


def entry(w: Array | Packed, index: int) -> Array | Packed:
    """Return one matrix of a stack."""
    return w.part(index) if isinstance(w, Packed) else w[index]


def reference_head_matmul(call: Call) -> tuple[Array, ...]:
    """Multiply each head by its own weight."""
    x, w = call.array(0), call.weight(1)
    heads = [
        product(np.ascontiguousarray(x[:, h]), entry(w, h), call.product) for h in range(len(w))
    ]
    return (np.stack(heads, axis=1),)


def reference_gather(call: Call) -> tuple[Array, ...]:
    """Take rows of a table that begins with row `first`; what names none of its rows gives zeros."""
    table = call.array(0)
    ids = call.array(1).astype(np.int64) - integer(call.attrs, "first", 0)
    known = (ids >= 0) & (ids < len(table))
    taken = np.take(table, np.where(known, ids, 0), axis=0)
    taken[~known] = 0
    return (taken,)


@compiled
def gather(
    table: int, kind: int, ids: int, first: int, out: int, out_kind: int, rows: int, entries: int,
    width: int, part: int, parts: int, scratch: int,
) -> None:  # fmt: skip
    """Copy this part's rows: table[entries, width] kind at ids[rows] int32, less `first`, to out[rows, width] out_kind.

    An id outside of the table gives zeros: whatever ids a text computes, nothing else is read.
    """
    from_ids, staged = words(ids, rows), floats(scratch, width)
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        entry = np.int64(from_ids[row]) - first
        if 0 <= entry < entries:
            read(table + entry * width * size_of(kind), kind, scratch, width)
        else:
            for i in range(width):
                staged[i] = np.float32(0.0)
        write(scratch, out + row * width * size_of(out_kind), out_kind, width)


GATHER = Instruction.of("gather", gather)


def stored(target: Builder, w: Fixed | Packed) -> Stored:
    """Return what a product must know of a weight as it is stored."""
    if isinstance(w, Fixed):
        return Stored(target.at(w), kind_of(w.array.dtype), 0, 0, 0, 0, 0)
    address, table = target.at(w), target.at(Fixed(w.patterns))
    if w.per_channel:
        kind, (rows, columns) = PACKED_KINDS[bool(w.four_bits), False], w.shape[-2:]
        return Stored(address, kind, target.at(Fixed(ONE)), rows, columns, table, 0)
    kind = PACKED_KINDS[bool(w.four_bits), w.has_exponents]
    kind = CENTRED_NIBBLES if w.has_zero_points else kind
    rounds = 0 if w.dtype == F32 else kind_of(w.dtype)
    scales = target.at(Fixed(w.scales))
    return Stored(address, kind, scales, w.rows, w.columns, table, rounds)


def can_read(w: Place) -> bool:
    """Tell whether compiled products can read a weight."""
    if isinstance(w, Fixed):
        return w.array.dtype in (F32, BF16, F16)
    return isinstance(w, Packed) and (w.has_exponents or w.scales.dtype == F32)


def lower_matmul(target: Builder, operation: Operation) -> bool:
    """Emit a product with a weight; a product of two values per token is left to the reference."""
    x, w = operation.inputs
    (out,) = operation.outputs
    if not (isinstance(x, Buffer) and isinstance(w, Fixed | Packed) and can_read(w)):
        return False
    if not isinstance(out, Buffer):
        return False
    if operation.product is not None and isinstance(w, Packed):
        lower(target, operation.product, x, w, stored(target, w), out, operation.leaves)
        return True
    n, k = w.array.shape if isinstance(w, Fixed) else w.shape
    target.reserve(scratch_bytes(k))
    target.emit(
        MATMUL, stored(target, w).operands, x=target.at(x), x_kind=kind_of(x.dtype),
        leaves=leaf_table(target, operation.leaves), out=target.at(out),
        out_kind=kind_of(out.dtype), rows=target.tokens(x.elements // k),
        n=n, k=k, pairs=wanted(),
    )  # fmt: skip
    return True


def lower_gather(target: Builder, operation: Operation) -> bool:
    """Emit a look-up of rows in a floating table."""
    table, ids = operation.inputs
    (out,) = operation.outputs
    if not (isinstance(table, Fixed) and isinstance(ids, Buffer) and isinstance(out, Buffer)):
        return False
    if not is_float(table.array.dtype):
        return False
    width = out.elements // ids.elements
    target.reserve(4 * width)
    target.emit(
        GATHER, table=target.at(table), kind=kind_of(table.array.dtype), ids=target.at(ids),
        first=integer(operation.attrs, "first", 0),
        out=target.at(out), out_kind=kind_of(out.dtype), rows=target.tokens(ids.elements),
        entries=len(table.array), width=width,
    )  # fmt: skip
    return True


def _as_table(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    """Return the format of rows: whole numbers stay what they are."""
    return promoted(inputs, attrs, numerics) if is_float(inputs[0]) else inputs[:1]


KERNELS: dict[str, Kernel] = {
    "matmul": Kernel(reference_matmul, lower_matmul, declared),
    "head_matmul": Kernel(reference_head_matmul, result=as_first),
    "gather": Kernel(reference_gather, lower_gather, _as_table),
}
