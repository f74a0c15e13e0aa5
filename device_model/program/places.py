# SPDX-License-Identifier: Apache-2.0
"""Where the operands of a planned operation are, and the operation itself.

A place is a value per token (`Buffer`), an array that never changes (`Fixed`, or `Packed` as it is stored) or what
persists between steps (`StateRef`).
Nothing here allocates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any, TypeAlias

import numpy as np

from device_model.numbers.numerics import Array
from device_model.numbers.packed import Packed
from device_model.numbers.precision import Leaves, Product
from dsl.graph import Attr
from dsl.source import Span


@dataclass(frozen=True, slots=True)
class Buffer:
    """A value per token, or one per sequence; `index` names the memory, which values of other shapes may share."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    per_sequence: bool = False

    @property
    def elements(self) -> int:
        """Return the number of elements per token."""
        return prod(self.shape)

    @property
    def width(self) -> int:
        """Return the size of the last axis."""
        return self.shape[-1] if self.shape else 1


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """A weight or a constant."""

    array: Array


@dataclass(frozen=True, slots=True)
class StateRef:
    """A state: before the context axis `outer` shape, after it `inner`; one instance per sequence.

    A state of fixed size does not grow: `outer` is its shape. A ring keeps the last `ring` tokens of the context.
    `columns` is the range of the last axis that is looked at, None for all of it.
    """

    index: int
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    dtype: np.dtype[Any]
    columns: tuple[int, int] | None = None
    grows: bool = True
    ring: int | None = None

    @property
    def width(self) -> int:
        """Return the number of elements of the last axis that are looked at."""
        if self.columns is not None:
            return self.columns[1] - self.columns[0]
        return (*self.outer, *self.inner)[-1]

    @property
    def entry_bytes(self) -> int:
        """Return the bytes of one token of a growing state, or of all of a fixed one."""
        return prod(self.outer) * prod(self.inner) * self.dtype.itemsize


GIVEN = "given"
"""The operand of an operation that chooses experts where they are chosen for it; no program names it."""

Place: TypeAlias = Buffer | Fixed | StateRef | Packed


class Meets(Enum):
    """What chips do with what they hand each other: add, take each row from who has it, or put parts side by side."""

    ADD = "add"
    PICK = "pick"
    JOIN = "join"
    SEND = "send"
    RECEIVE = "receive"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where chips of a mesh exchange values: who meets, and what each of them brings, in the order of `group`.

    To add, `nodes` are the subtrees of a tree of `leaves` whose sums each chip has, one input each. To pick rows or to
    join parts, `spans` are the ranges that each chip has, of the table or of the axis `axis` per token.
    """

    kind: Meets
    group: tuple[int, ...]
    nodes: tuple[tuple[tuple[int, int], ...], ...] = ()
    leaves: int = 0
    spans: tuple[tuple[int, int], ...] = ()
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One planned operation; `operands` names the parameter of each input.

    `head` operations see only the tokens whose results are asked for. `span` and `layer` say where it comes from;
    outside of layers the layer is -1. `product` says how one multiplies in low precision, if it does, and `leaves`
    how its sums are added where a mesh may cut them. With a `meeting` it is an exchange between chips.
    """

    op: str
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    attrs: Mapping[str, Attr]
    operands: tuple[str, ...]
    head: bool = False
    span: Span | None = None
    layer: int = -1
    product: Product | None = None
    leaves: Leaves | None = None
    meeting: Meeting | None = None

    def operand(self, name: str) -> Place | None:
        """Return the place of a parameter that may be left out."""
        return dict(zip(self.operands, self.inputs, strict=True)).get(name)


def dtype_of(place: Place) -> np.dtype[Any]:
    """Return the array dtype of what is at a place."""
    return place.array.dtype if isinstance(place, Fixed) else place.dtype
