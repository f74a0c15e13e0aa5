"""Run single operations with their plain-numpy reference kernels.

The values live wherever the caller keeps them. It assigns no memory and chooses no kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from device_model.engine.states import Cache
from device_model.kernels.table import KERNELS
from device_model.numbers.numerics import Array, Numerics, cast
from device_model.numbers.packed import Packed
from device_model.numbers.precision import Product
from device_model.program.call import Call, Operand, Rows
from device_model.program.places import Buffer, Held, Item, Kept, Place, dtype_of
from dsl.graph import Attr

Read: TypeAlias = Callable[[Buffer], Array]
Write: TypeAlias = Callable[[Buffer, Array], None]


def compute(
    op: str,
    inputs: Sequence[Operand],
    operands: tuple[str, ...],
    attrs: Mapping[str, Attr],
    rows: Rows,
    numerics: Numerics,
    dtypes: Sequence[np.dtype[Any]],
    product: Product | None = None,
) -> tuple[Array, ...]:
    """Return an operation's results, rounded to their formats."""
    call = Call(tuple(inputs), operands, attrs, rows, numerics, product)
    results = KERNELS[op].reference(call)
    return tuple(
        np.ascontiguousarray(cast(result, dtype))
        for result, dtype in zip(results, dtypes, strict=True)
    )


def run(item: Item, read: Read, write: Write, cache: Cache, rows: Rows, numerics: Numerics) -> None:
    """Execute one planned operation."""
    if item.op == "append":
        state, new = item.inputs
        if isinstance(state, Kept) and isinstance(new, Buffer):
            cache.append(state, cast(read(new), state.dtype), rows)
        return

    def operand(place: Place) -> Operand:
        match place:
            case Held(array):
                return array
            case Packed():
                return place
            case Kept():
                return cache.context(place)
            case Buffer():
                return read(place)

    dtypes = [dtype_of(place) for place in item.outputs]
    results = compute(
        item.op, [operand(place) for place in item.inputs], item.operands, item.attrs, rows,
        numerics, dtypes, item.product,
    )  # fmt: skip
    for place, result in zip(item.outputs, results, strict=True):
        if isinstance(place, Buffer):
            write(place, result)
