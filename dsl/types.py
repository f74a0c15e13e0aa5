# SPDX-License-Identifier: Apache-2.0
"""Types of values: a data type, axes with their sharding, and which mesh axes still owe a sum.

Storage sizes live here and nowhere else. Values of the types (bits, rounding) belong to the device model.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dsl.symbolic import Dim, ratio, symbol, text


class Kind(Enum):
    """What sort of number a data type holds."""

    FLOAT = "float"
    INTEGER = "integer"
    BOOL = "bool"
    SCALE = "scale"


@dataclass(frozen=True, slots=True)
class DType:
    """A storage format."""

    name: str
    kind: Kind
    bits: int

    def __str__(self) -> str:
        return self.name


_FLOAT, _INTEGER = Kind.FLOAT, Kind.INTEGER
DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        DType("f32", _FLOAT, 32),
        DType("bf16", _FLOAT, 16),
        DType("f16", _FLOAT, 16),
        DType("f8e4m3", _FLOAT, 8),
        DType("f8e5m2", _FLOAT, 8),
        DType("f4e2m1", _FLOAT, 4),
        DType("e8m0", Kind.SCALE, 8),
        DType("i4", _INTEGER, 4),
        DType("i8", _INTEGER, 8),
        DType("u8", _INTEGER, 8),
        DType("i32", _INTEGER, 32),
        DType("i64", _INTEGER, 64),
        DType("bool", Kind.BOOL, 8),
    )
}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its global size and the mesh axes it is split over."""

    dim: Dim
    shards: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([text(self.dim), *(f"@{name}" for name in self.shards)])

    def local(self) -> Dim:
        """Return the size on one chip, with mesh axes as symbols."""
        size = self.dim
        for name in self.shards:
            size = ratio(size, symbol(name))
        return size


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor's data type, axes, and the mesh axes over which it is a partial sum."""

    dtype: DType
    axes: tuple[Axis, ...]
    partial: frozenset[str] = frozenset()

    def __str__(self) -> str:
        shape = f"{self.dtype}[{', '.join(str(axis) for axis in self.axes)}]"
        if not self.partial:
            return shape
        return f"{shape} partial over {', '.join(sorted(self.partial))}"

    @property
    def dims(self) -> tuple[Dim, ...]:
        """Return the global shape."""
        return tuple(axis.dim for axis in self.axes)

    @property
    def rank(self) -> int:
        """Return the number of axes."""
        return len(self.axes)

    def elements(self) -> Dim:
        """Return the global number of elements."""
        count: Dim = 1
        for axis in self.axes:
            count = count * axis.dim
        return count

    def local_elements(self) -> Dim:
        """Return the number of elements on one chip."""
        count: Dim = 1
        for axis in self.axes:
            count = count * axis.local()
        return count
