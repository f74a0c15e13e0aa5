# SPDX-License-Identifier: Apache-2.0
"""Weights in the layouts of GPTQ and AWQ, written one number at a time, and the numbers that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word each of eight columns stands."""


@dataclass(frozen=True)
class Numbers:
    """Whole numbers of four bits [N, K], and for each group of columns scales and zero points [N, K / group]."""

    q: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray
    group: int

    def weight(self) -> np.ndarray:
        """Return the weight in float64, every element on its own."""
        out = np.zeros(self.q.shape)
        for n, k in np.ndindex(self.q.shape):
            g = k // self.group
            out[n, k] = float(self.scales[n, g]) * (int(self.q[n, k]) - int(self.zeros[n, g]))
        return out


def drawn(n: int, k: int, group: int, seed: int = 0, *, symmetric: bool = False) -> Numbers:
    """Return any numbers, with scales of float16."""
    random = np.random.default_rng(seed)
    shape = (n, k // group)
    zeros = np.full(shape, 8) if symmetric else random.integers(1, 16, shape)
    scales = np.exp(random.normal(size=shape) - 3).astype(np.float16)
    return Numbers(random.integers(0, 16, (n, k)), scales, zeros, group)


def nearest(weight: np.ndarray, group: int, *, symmetric: bool) -> Numbers:
    """Return a weight rounded to four bits, with the scales and zero points of each group."""
    n, k = weight.shape
    groups = weight.astype(np.float64).reshape(n, k // group, group)
    if symmetric:
        scales = (np.abs(groups).max(-1) / 7.5).astype(np.float16)
        zeros = np.full(scales.shape, 8)
    else:
        low, high = np.minimum(groups.min(-1), -1e-3), np.maximum(groups.max(-1), 1e-3)
        scales = ((high - low) / 15).astype(np.float16)
        zeros = np.clip(np.rint(-low / scales), 1, 15).astype(int)
    q = np.rint(groups / scales[..., None].astype(np.float64)) + zeros[..., None]
    return Numbers(np.clip(q, 0, 15).astype(int).reshape(n, k), scales, zeros, group)


def gptq(numbers: Numbers, added: int = 1) -> dict[str, np.ndarray]:
    """Return the tensors of GPTQ; zero points are stored less `added`."""
    n, k = numbers.q.shape
    qweight = np.zeros((k // 8, n), np.uint32)
    for row, column in np.ndindex(n, k):
        qweight[column // 8, row] |= np.uint32(int(numbers.q[row, column]) << 4 * (column % 8))
    qzeros = np.zeros((numbers.zeros.shape[1], n // 8), np.uint32)
    for row, g in np.ndindex(numbers.zeros.shape):
        qzeros[g, row // 8] |= np.uint32((int(numbers.zeros[row, g]) - added) << 4 * (row % 8))
    return {
        "qweight": qweight.view(np.int32),
        "qzeros": qzeros.view(np.int32),
        "scales": np.ascontiguousarray(numbers.scales.T),
        "g_idx": np.array([column // numbers.group for column in range(k)], np.int32),
    }


def awq(numbers: Numbers) -> dict[str, np.ndarray]:
    """Return the tensors of AWQ."""
    return {
        "qweight": _across(numbers.q),
        "qzeros": _across(numbers.zeros),
        "scales": np.ascontiguousarray(numbers.scales.T),
    }


def _across(matrix: np.ndarray) -> np.ndarray:
    n, columns = matrix.shape
    words = np.zeros((columns, n // 8), np.uint32)
    for row, column in np.ndindex(n, columns):
        words[column, row // 8] |= np.uint32(int(matrix[row, column]) << 4 * AWQ_PLACES[row % 8])
    return words.view(np.int32)
