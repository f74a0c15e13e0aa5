# SPDX-License-Identifier: Apache-2.0
"""Weights that stay packed: low-precision values with scales, widened a panel of rows at a time.

A panel's elements are value times scale in float32, rounded once to the format that the run computes in; a zero point
is subtracted from the value first. Where scales belong to whole channels they multiply the results instead. Which bytes
of which file a weight comes from is decided elsewhere, and no panel is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from device_model.numbers.numerics import F32, Array, cast

MX_BLOCK = 32
E8M0_BIAS = 127
FOUR_BITS: dict[str, Array] = {
    "f4e2m1": np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32),
    "i4": np.array([*range(8), *range(-8, 0)], np.float32),
    "u4": np.arange(16, dtype=np.float32),
}
"""The value of each four-bit pattern of a format."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A weight [..., N, K] in blocks of `rows` x `columns`, each with one scale.

    `values` has one element of a low precision each or, where `four_bits` names their format, two patterns a byte, the
    lower first, and `width` is K. `scales` are float32, or exponents of two as bytes; beside each scale of "u4" stands
    a zero point, along one more axis. `dtype` is the format that elements are rounded to. With `per_channel` the scales
    are one a row and no part of the elements: they multiply the results. A `table` of the file's own says what four-bit
    patterns stand for.
    """

    values: Array
    scales: Array
    rows: int
    columns: int
    dtype: np.dtype[Any] = F32
    four_bits: str = ""
    width: int = 0
    per_channel: bool = False
    table: Array | None = None

    @property
    def has_exponents(self) -> bool:
        """Tell whether scales are exponents of two."""
        return self.scales.dtype == np.uint8

    @property
    def has_zero_points(self) -> bool:
        """Tell whether each scale has a zero point beside it."""
        return self.four_bits == "u4"

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the weight."""
        sizes = tuple(int(size) for size in self.values.shape)
        return (*sizes[:-1], self.width) if self.four_bits else sizes

    @property
    def nbytes(self) -> int:
        """Return the bytes as stored."""
        return self.values.nbytes + self.scales.nbytes

    @property
    def patterns(self) -> Array:
        """Return the float32 value of every pattern of an element."""
        if self.table is not None:
            return self.table
        if self.four_bits:
            return FOUR_BITS[self.four_bits]
        return np.arange(256, dtype=np.uint8).view(self.values.dtype).astype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def is_like(self, other: Packed) -> bool:
        """Tell whether another weight is packed in the same way, so that both can be in one stack."""
        ways = [
            (
                w.shape,
                w.values.dtype,
                w.scales.dtype,
                w.scales.shape,
                w.rows,
                w.columns,
                w.four_bits,
            )
            for w in (self, other)
        ]
        same_table = self.table is other.table or (
            self.table is not None
            and other.table is not None
            and np.array_equal(self.table, other.table)
        )
        return ways[0] == ways[1] and same_table

    def part(self, index: int) -> Packed:
        """Return one entry of the leading axis of a stack."""
        return replace(self, values=self.values[index], scales=self.scales[index])

    def cut(self, spans: Sequence[tuple[int, int] | None]) -> Packed:
        """Return a range of each axis, None for all of one; raises `ValueError` where one begins or ends in a block."""
        *stacks, rows, columns = spans
        values, scales = self.values, self.scales
        for axis, span in enumerate(stacks):
            if span is not None:
                at = (slice(None),) * axis + (slice(*span),)
                values, scales = values[at], scales[at]
        axis, width = len(stacks), self.width
        if rows is not None:
            values = values[(slice(None),) * axis + (slice(*rows),)]
            taken = rows if self.per_channel else _blocks(rows, self.rows, self.shape[-2])
            scales = scales[(slice(None),) * axis + (slice(*taken),)]
        if columns is not None:
            width = columns[1] - columns[0] if self.four_bits else 0
            values = values[
                ..., slice(*_blocks(columns, 2 if self.four_bits else 1, self.shape[-1]))
            ]
            if not self.per_channel:
                taken = _blocks(columns, self.columns, self.shape[-1])
                scales = scales[(slice(None),) * (axis + 1) + (slice(*taken),)]
        made = np.ascontiguousarray(values), np.ascontiguousarray(scales)
        return replace(self, values=made[0], scales=made[1], width=width)

    def rounded(self, dtype: np.dtype[Any]) -> Packed:
        """Return the same weight with elements rounded to a format."""
        return replace(self, dtype=dtype)

    def panel(self, start: int, stop: int) -> Array:
        """Return rows `start` to `stop` of a matrix, without scales that belong to channels."""
        values = self._values(start, stop)
        if self.per_channel:
            return values
        blocks = self.scales[start // self.rows : -(-stop // self.rows)]
        scales = np.repeat(blocks, self.rows, axis=0)[start % self.rows :][: stop - start]
        scales = np.repeat(scales, self.columns, axis=1)[:, : values.shape[1]]
        if self.has_zero_points:
            return cast((values - scales[..., 1]) * scales[..., 0], self.dtype)
        if not self.has_exponents:
            return cast(values * scales, self.dtype)
        with np.errstate(over="ignore"):
            scaled = np.ldexp(values, scales.astype(np.int32) - E8M0_BIAS)
        return cast(np.where(scales == 255, np.float32(np.nan), scaled), self.dtype)

    def _values(self, start: int, stop: int) -> Array:
        values = self.values[start:stop]
        if not self.four_bits:
            return values.astype(np.float32)
        pairs = np.stack([self.patterns[values & 15], self.patterns[values >> 4]], axis=-1)
        return pairs.reshape(stop - start, -1)[:, : self.width]

    def swapped(self) -> Packed:
        """Return the transpose of the last two axes, still packed."""
        axis = self.scales.ndim - (3 if self.has_zero_points else 2)
        return replace(
            self,
            values=_turned(self) if self.four_bits else _swapped(self.values, -2),
            scales=_swapped(self.scales, axis),
            rows=self.columns,
            columns=self.rows,
            width=int(self.values.shape[-2]) if self.four_bits else 0,
        )


def _blocks(span: tuple[int, int], size: int, whole: int) -> tuple[int, int]:
    """Return the blocks that a range is made of."""
    start, stop = span
    if start % size or (stop % size and stop != whole):
        raise ValueError(f"{start} to {stop} cuts a block of {size}")
    return start // size, -(-stop // size)


def _swapped(x: Array, axis: int) -> Array:
    return np.ascontiguousarray(x.swapaxes(axis, axis + 1))


def _turned(w: Packed) -> Array:
    """Return four-bit patterns of the transpose, two a byte, one matrix of a stack after the other."""
    if w.values.ndim > 2:
        return np.stack([_turned(w.part(index)) for index in range(len(w))])
    patterns = np.stack([w.values & 15, w.values >> 4], axis=-1)
    return in_pairs(patterns.reshape(len(w), -1)[:, : w.width].T)


def in_pairs(patterns: Array) -> Array:
    """Return four-bit patterns [N, K], two a byte, the lower first; an odd row ends with half a byte of zeros."""
    if patterns.shape[1] % 2:
        patterns = np.pad(patterns, ((0, 0), (0, 1)))
    return np.ascontiguousarray(patterns[:, 0::2] | patterns[:, 1::2] << np.uint8(4))


def mxfp4(blocks: Array, scales: Array) -> Packed:
    """Return a weight stored as [..., N, K / 32, 16] bytes of two patterns and [..., N, K / 32] exponents."""
    width = int(scales.shape[-1]) * MX_BLOCK
    values = blocks.reshape(*blocks.shape[:-2], width // 2)
    return Packed(values, scales.view(np.uint8), 1, MX_BLOCK, four_bits="f4e2m1", width=width)
