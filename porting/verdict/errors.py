# SPDX-License-Identifier: Apache-2.0
"""How far logits are from the truth: an error for each position, and the statistics that the rule is made of.

The errors of a low precision are heavy-tailed: a few sensitive positions hold most of the mean square, and two draws of
rows differ by a factor of three. The geometric mean over positions does not have that tail. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floating: TypeAlias = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

BLOCK = 32
"""Positions whose logits are compared at a time: of large vocabularies a copy of all would not fit."""
COUNTED = 128
"""How many positions of a row count at most in the typical error."""
THREADS = 2
LEAST = 2.0**-60
"""What an error of 0 counts as, relative to the truth, where a logarithm is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class PositionErrors:
    """The errors of some positions, each array [P].

    `squares` are mean squares of got - truth over the vocabulary, infinite where got is not finite; `scales` those of
    the truth. `agrees` tells whether both prefer the same token, `stands` whether they do or the truth's two best
    differ by less than the error. The sums are those of a correlation. `weights` are how much positions count in the
    typical error: the errors of a row go together, so that a long one counts as `COUNTED` positions.
    """

    squares: Floats
    scales: Floats
    agrees: Flags
    stands: Flags
    got: Floats
    truth: Floats
    got_squares: Floats
    products: Floats
    weights: Floats

    @property
    def rmse(self) -> float:
        """Return the root mean square over all positions, relative to the truth's; infinite where one is no number."""
        if not np.isfinite(self.squares).all():
            return float("inf")
        return self._relative(float(np.sqrt(np.mean(self.squares))))

    @property
    def typical(self) -> float:
        """Return the weighted geometric mean of the positions' root mean squares, relative to the truth's over all."""
        if not np.isfinite(self.squares).all():
            return float("inf")
        least = LEAST**2 * float(np.mean(self.scales))
        logs = np.log(np.maximum(self.squares, max(least, 5e-324)))
        return self._relative(float(np.exp(np.average(logs, weights=self.weights) / 2)))

    @property
    def top1(self) -> float:
        """Return the share of positions where both prefer the same token."""
        return float(np.mean(self.agrees))

    def correlation(self, vocabulary: int) -> float | None:
        """Return Pearson's correlation, which others judge by; blind to scale and offset: it decides nothing."""
        if not np.isfinite(self.squares).all():
            return None
        count = vocabulary * len(self.scales)
        one, other = self.got.sum() / count, self.truth.sum() / count
        covariance = self.products.sum() / count - one * other
        spread = (self.got_squares.sum() / count - one**2) * (np.mean(self.scales) - other**2)
        return float(covariance / np.sqrt(spread)) if spread > 0 else None

    def part(self, start: int, stop: int) -> PositionErrors:
        """Return the errors of a range of the positions."""
        return PositionErrors(*(getattr(self, f.name)[start:stop] for f in fields(self)))

    def _relative(self, error: float) -> float:
        scale = float(np.sqrt(np.mean(self.scales)))
        return error / scale if scale else float("inf")


def joined(parts: Sequence[PositionErrors]) -> PositionErrors:
    """Return the errors of all positions."""
    return PositionErrors(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(PositionErrors))
    )


def compared(got: npt.NDArray[np.generic], truth: npt.NDArray[np.generic]) -> PositionErrors:
    """Return the errors of logits [P, V] against the truth's; those of another shape are infinitely wrong."""
    if got.shape != truth.shape:
        got = np.full(truth.shape, np.nan, np.float32)
    starts, weight = range(0, len(truth), BLOCK), min(1.0, COUNTED / max(len(truth), 1))
    with ThreadPoolExecutor(
        THREADS
    ) as pool:  # numpy lets go of the interpreter in blocks of this size
        blocks = pool.map(
            lambda i: _compared(got[i : i + BLOCK], truth[i : i + BLOCK], weight), starts
        )
        return joined(list(blocks))


def _compared(
    got: npt.NDArray[np.generic], truth: npt.NDArray[np.generic], weight: float
) -> PositionErrors:
    wide, wanted = got.astype(np.float64), truth.astype(np.float64, copy=False)
    count = wanted.shape[-1]
    got_squares = np.einsum("pv,pv->p", wide, wide)
    finite = np.asarray(np.isfinite(got_squares))
    if not finite.all():
        wide[~finite] = 0.0
        got_squares = np.einsum("pv,pv->p", wide, wide)
    products = np.einsum("pv,pv->p", wide, wanted)
    got_sums, first = wide.sum(-1), wide.argmax(-1)
    wide -= wanted
    squares = np.einsum("pv,pv->p", wide, wide) / count
    furthest = np.maximum(wide.max(-1), -wide.min(-1))
    places, best = np.arange(len(wanted)), wanted.argmax(-1)
    rest = wanted.copy()
    rest[places, best] = -np.inf
    agrees = finite & (first == best)
    unsure = wanted[places, best] - rest.max(-1) <= furthest
    return PositionErrors(
        np.where(finite, squares, np.inf),
        np.einsum("pv,pv->p", wanted, wanted) / count,
        agrees,
        finite & (agrees | unsure),
        got_sums,
        wanted.sum(-1),
        got_squares,
        products,
        np.full(len(wanted), weight),
    )
