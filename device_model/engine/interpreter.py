# SPDX-License-Identifier: Apache-2.0
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
from device_model.numbers.precision import Leaves, Product
from device_model.program.call import Batch, Call, Operand
from device_model.program.places import Buffer, Fixed, Operation, Place, StateRef, dtype_of
from dsl.graph import Attr

Read: TypeAlias = Callable[[Buffer], Array]
Write: TypeAlias = Callable[[Buffer, Array], None]


def compute(
    op: str,
    inputs: Sequence[Operand],
    operands: tuple[str, ...],
    attrs: Mapping[str, Attr],
    batch: Batch,
    numerics: Numerics,
    dtypes: Sequence[np.dtype[Any]],
    product: Product | None = None,
    leaves: Leaves | None = None,
) -> tuple[Array, ...]:
    """Return an operation's results, rounded to their formats."""
    call = Call(tuple(inputs), operands, attrs, batch, numerics, product, leaves)
    results = KERNELS[op].reference(call)
    return tuple(
        np.ascontiguousarray(cast(result, dtype))
        for result, dtype in zip(results, dtypes, strict=True)
    )


def run(
    operation: Operation, read: Read, write: Write, cache: Cache, batch: Batch, numerics: Numerics
) -> None:
    """Execute one planned operation."""
    if operation.op == "append":
        state, new = operation.inputs
        if isinstance(state, StateRef) and isinstance(new, Buffer):
            cache.append(state, cast(read(new), state.dtype), batch)
        return

    def operand(place: Place) -> Operand:
        match place:
            case Fixed(array):
                return array
            case Packed():
                return place
            case StateRef():
                return cache.context(place)
            case Buffer():
                return read(place)

    dtypes = [dtype_of(place) for place in operation.outputs]
    results = compute(
        operation.op, [operand(place) for place in operation.inputs], operation.operands, operation.attrs, batch,
        numerics, dtypes, operation.product, operation.leaves,
    )  # fmt: skip
    for place, result in zip(operation.outputs, results, strict=True):
        if isinstance(place, Buffer):
            write(place, result)
