# SPDX-License-Identifier: Apache-2.0
"""The row of the kernel table: how an operation is computed, lowered and typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from device_model.numbers.numerics import STORAGE, Numerics
from device_model.program.builder import Builder
from device_model.program.call import Reference
from device_model.program.places import Operation
from device_model.program.renewal import Renewal
from dsl.graph import Attr
from dsl.types import DType

DTypes: TypeAlias = tuple[np.dtype[Any], ...]
Lower: TypeAlias = Callable[[Builder, Operation], bool]
"""Emits the instructions of an operation, or none and returns False where only the reference can compute it."""

Result: TypeAlias = Callable[[DTypes, Mapping[str, Attr], Numerics], DTypes]


def promoted(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    """The widest format among the operands."""
    return (numerics.promote(inputs),)


def as_first(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    """The format of the first operand; weights and tables do not widen a result."""
    return (numerics.promote(inputs[:1]),)


def unchanged(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    """The dtype of the first operand, as it is."""
    return (inputs[0],)


def all_unchanged(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    """The dtypes of all operands, as they are."""
    return inputs


def declared(inputs: DTypes, attrs: Mapping[str, Attr], numerics: Numerics) -> DTypes:
    """The format that the program declares, else that of the activations."""
    dtype = attrs.get("dtype")
    if not isinstance(dtype, DType):
        return (numerics.storage,)
    if dtype.name == "f32" or dtype.kind is not numerics.activation.kind:
        return (STORAGE[dtype.name],)
    return (numerics.storage,)


@dataclass(frozen=True, slots=True)
class Kernel:
    """How one operation is computed.

    `reference` is the plain-numpy meaning; `lower` the fast path, where there is one. A `view` only renames axes of the
    same bytes, and is not executed at all. `renewal` tells from an operation when what it gave for earlier tokens no
    longer holds.
    """

    reference: Reference
    lower: Lower | None = None
    result: Result = promoted
    view: bool = False
    renewal: Callable[[Operation], Renewal | None] | None = None
