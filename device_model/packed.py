"""Weights that stay packed: low-precision values with a scale per block, widened a panel of rows at a time.

A panel's elements are value times scale in float32, rounded once to the format that the run computes in. Which bytes
of which file they come from is decided elsewhere, and no panel is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from device_model.numerics import F32, Array, cast

MX_BLOCK = 32
E8M0_BIAS = 127
FP4 = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
"""The value of each four-bit pattern."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A weight [..., N, K] in blocks of `rows` x `columns`, each with one scale.

    `values` has one element of a low precision each, or two four-bit patterns a byte, the lower first; `scales` are
    float32, or exponents of two as bytes. `dtype` is the format that elements are rounded to.
    """

    values: Array
    scales: Array
    rows: int
    columns: int
    dtype: np.dtype[Any] = F32

    @property
    def is_mxfp4(self) -> bool:
        """Tell whether two elements share a byte and scales are exponents."""
        return self.scales.dtype == np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the weight."""
        if self.is_mxfp4:
            return (*self.values.shape[:-2], self.values.shape[-2] * MX_BLOCK)
        return tuple(int(size) for size in self.values.shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes as stored."""
        return self.values.nbytes + self.scales.nbytes

    def __len__(self) -> int:
        return self.shape[0]

    def part(self, index: int) -> Packed:
        """Return one entry of the leading axis of a stack."""
        return replace(self, values=self.values[index], scales=self.scales[index])

    def rounded(self, dtype: np.dtype[Any]) -> Packed:
        """Return the same weight with elements rounded to a format."""
        return replace(self, dtype=dtype)

    def panel(self, start: int, stop: int) -> Array:
        """Return rows `start` to `stop` of a matrix."""
        if self.is_mxfp4:
            return cast(self._mxfp4(start, stop), self.dtype)
        values = self.values[start:stop].astype(np.float32)
        blocks = self.scales[start // self.rows : -(-stop // self.rows)]
        scales = np.repeat(blocks, self.rows, axis=0)[start % self.rows :][: stop - start]
        scales = np.repeat(scales, self.columns, axis=1)[:, : values.shape[1]]
        return cast(values * scales, self.dtype)

    def _mxfp4(self, start: int, stop: int) -> Array:
        packed = self.values[start:stop]
        pairs = np.stack([FP4[packed & 15], FP4[packed >> 4]], axis=-1)
        exponents = self.scales[start:stop].astype(np.int32) - E8M0_BIAS
        with np.errstate(over="ignore"):
            scaled = np.ldexp(pairs.reshape(*packed.shape[:-1], MX_BLOCK), exponents[..., None])
        missing = self.scales[start:stop] == np.uint8(255)
        scaled = np.where(missing[..., None], np.float32(np.nan), scaled)
        return scaled.reshape(stop - start, -1)

    def swapped(self) -> Packed:
        """Return the transpose of the last two axes, still packed."""
        if self.is_mxfp4:
            raise ValueError("the device cannot transpose four-bit blocks")
        return replace(
            self,
            values=np.ascontiguousarray(self.values.swapaxes(-1, -2)),
            scales=np.ascontiguousarray(self.scales.swapaxes(-1, -2)),
            rows=self.columns,
            columns=self.rows,
        )


def stacked(parts: list[Packed]) -> Packed:
    """Return equally packed weights along a new leading axis."""
    values, scales = np.stack([p.values for p in parts]), np.stack([p.scales for p in parts])
    return replace(parts[0], values=values, scales=scales)
