# SPDX-License-Identifier: Apache-2.0
"""How products are computed in low precision: operands, scales, accumulators, and where this holds. Data only.

What each word means for the bits is in `device_model.numbers.quantise` and `device_model.kernels.quantised`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dsl.types import DTYPES, DType


class Overflow(Enum):
    """What becomes of a number beyond the largest: the largest, or infinity (NaN where there is none)."""

    SATURATE = "saturate"
    NONFINITE = "nonfinite"


class ScaleRounding(Enum):
    """How the exponent of a block's scale is taken: as the standard says, or so that nothing overflows."""

    FLOOR = "floor"
    UP = "up"


class Rounding(Enum):
    """How a sum is brought to the accumulator's width."""

    NEAREST = "nearest"
    TRUNCATE = "truncate"


class Scale(Enum):
    """Which numbers share a scale.

    `NONE`: a plain cast. `ROW`: a float32 for each output channel of a weight or each token's row. `BLOCK`: a power of
    two for each 32 along K. `GROUP`: a float32 for each group along K.
    """

    NONE = "none"
    ROW = "row"
    BLOCK = "block"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Accumulator:
    """How the products of one output are added up.

    Within a chunk of K (0: all of it) in the order of `lanes`, every sum rounded to `significand` bits; the chunks'
    sums are added in order in `dtype`. Whole numbers in i32 are exact, so that no order or width matters.
    """

    name: str
    dtype: DType
    significand: int
    rounding: Rounding
    chunk: int

    @property
    def is_integer(self) -> bool:
        """Tell whether sums are whole numbers."""
        return self.dtype.name == "i32"

    @property
    def is_plain(self) -> bool:
        """Tell whether sums are kept in float32 from end to end."""
        return not self.is_integer and not self.is_narrow and not self.chunk

    @property
    def is_narrow(self) -> bool:
        """Tell whether sums have fewer bits than float32's."""
        return self.significand < F32_SIGNIFICAND


F32_SIGNIFICAND = 24
F32_SUMS = Accumulator("f32", DTYPES["f32"], F32_SIGNIFICAND, Rounding.NEAREST, 0)


@dataclass(frozen=True, slots=True)
class Operand:
    """A low-precision side of a product; `group` is the length of what shares a scale along K, where that is fixed."""

    name: str
    format: str
    scale: Scale
    group: int
    overflow: Overflow
    rounding: ScaleRounding

    @property
    def is_integer(self) -> bool:
        """Tell whether elements are whole numbers."""
        return self.format in INTEGERS


INTEGERS = {"i8": 8, "i4": 4}
"""Bits of the symmetric integers: no operand uses the least pattern."""


@dataclass(frozen=True, slots=True)
class Leaves:
    """How a sum over K is added as a tree: the borders of its leaves, and the additions that follow each of them.

    Without them all of K is one leaf.
    """

    borders: tuple[int, ...]
    merges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Products with weights in low precision: which operations, and whether outside of layers and in routers.

    Without an `activation` operand the rows stay in the run's format.
    """

    operations: frozenset[str]
    head: bool
    router: bool
    weight: Operand
    activation: Operand | None
    accumulator: Accumulator

    @property
    def is_plain(self) -> bool:
        """Tell whether an ordinary product of a packed weight computes it."""
        return self.activation is None and self.accumulator.is_plain
