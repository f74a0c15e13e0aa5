"""Where the operands of a planned operation are, and the operation itself.

A place is a value per token (`Buffer`), an array that never changes (`Held`) or what persists between steps (`Kept`).
Nothing here allocates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np

from device_model.numerics import Array
from dsl.graph import Attr


@dataclass(frozen=True, slots=True)
class Buffer:
    """A value per token; `index` names the memory, which values of other shapes may share."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def elements(self) -> int:
        """Return the number of elements per token."""
        return prod(self.shape)

    @property
    def width(self) -> int:
        """Return the size of the last axis."""
        return self.shape[-1] if self.shape else 1


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A weight or a constant."""

    array: Array


@dataclass(frozen=True, slots=True)
class Kept:
    """A state: before the context axis `outer` shape, after it `inner`; one instance per sequence."""

    index: int
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    dtype: np.dtype[Any]


Place: TypeAlias = Buffer | Held | Kept


@dataclass(frozen=True, slots=True)
class Item:
    """One planned operation. `head` operations see only the tokens whose results are asked for."""

    op: str
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    attrs: Mapping[str, Attr]
    head: bool = False


def dtype_of(place: Place) -> np.dtype[Any]:
    """Return the array dtype of what is at a place."""
    return place.array.dtype if isinstance(place, Held) else place.dtype
