# SPDX-License-Identifier: Apache-2.0
"""Run a port on the rows, mode by mode, and compare what it gives with the truth and with its own prefill.

The bits of a mode are those of prefill or they are not: only what differs is compared anew. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from device_model.mesh.opening import AnyEngine, AnySession
from porting.verdict.errors import PositionErrors, compared
from porting.verdict.feeding import PREFILL, Feeding, Mode
from porting.verdict.pinning import Pinning
from porting.verdict.truth import Truth

Logits = npt.NDArray[np.float32]


def _as_it_is(session: AnySession) -> AnySession:
    return session


@dataclass(frozen=True, slots=True)
class Fed:
    """What a mode gave: errors of the positions it was fed by row and start, and how far it is from prefill."""

    spots: Sequence[tuple[int, int, int]]
    errors: Sequence[PositionErrors]
    furthest: float

    @property
    def same_bits(self) -> bool:
        """Tell whether the mode gave the bits of prefill."""
        return self.furthest == 0.0


@dataclass(slots=True)
class PortRun:
    """The port as it runs, and what it gave for every row in one go."""

    engine: AnyEngine
    truth: Truth
    pinning: Pinning | None = None
    wrapped: Callable[[AnySession], AnySession] = _as_it_is
    whole: dict[tuple[int, int], Logits] = field(default_factory=dict)
    errors: dict[int, PositionErrors] = field(default_factory=dict)

    def prefill(self, feedings: Sequence[Feeding]) -> list[PositionErrors]:
        """Run every row in one go and return its errors, by row."""
        for feeding in feedings:
            for (row, start, end), logits in self._fed(feeding):
                self.whole[row, end] = logits
                self.errors[row] = compared(logits, self.truth.logits(row, start, end))
        return [self.errors[row] for row in sorted(self.errors)]

    def run(self, mode: Mode, feedings: Sequence[Feeding]) -> Fed:
        """Run a mode and return its errors; those of equal bits are known already."""
        if mode is PREFILL:
            rows = sorted(self.errors)
            spots = [(row, 0, len(self.truth.rows[row])) for row in rows]
            return Fed(spots, [self.errors[row] for row in rows], 0.0)
        spots, errors, furthest = [], [], 0.0
        for feeding in feedings:
            for (row, start, end), logits in self._fed(feeding):
                base = self._base(row, start, end)
                away = 0.0 if np.array_equal(logits, base) else _distance(logits, base)
                furthest = max(furthest, away)
                known = away == 0.0 and not self.truth.by_length
                exact = self.truth.logits(row, start, end)
                part = self.errors[row].part(start, end) if known else compared(logits, exact)
                spots.append((row, start, end))
                errors.append(part)
        return Fed(spots, errors, furthest)

    def _base(self, row: int, start: int, end: int) -> Logits:
        """Return what prefill gives for these positions; of all tokens so far, where their number counts."""
        whole = (row, len(self.truth.rows[row]))
        if not self.truth.by_length:
            return self.whole[whole][start:end]
        if (row, end) not in self.whole:
            ((_, logits),) = self._fed(Feeding((row,), ((end,),)))
            self.whole[row, end] = logits
        return self.whole[row, end][start:end]

    def _fed(self, feeding: Feeding) -> list[tuple[tuple[int, int, int], Logits]]:
        """Run a feeding and return the logits of each piece."""
        session = self.wrapped(self.engine.session(sequences=len(feeding.rows)))
        outputs = []
        for pieces in feeding.pieces():
            tokens = [self.truth.rows[row].tokens[start:end] for row, start, end in pieces]
            spots = [(row, end) for row, _, end in pieces]
            decide = None if self.pinning is None else partial(self.pinning.decide, spots)
            made = session.step(tokens, decide=decide)
            outputs += [(p, out) for p, out in zip(pieces, made, strict=True) if p[2] > p[1]]
        return outputs


def _distance(one: Logits, other: Logits) -> float:
    away = float(np.abs(one.astype(np.float64) - other).max())
    return away if np.isfinite(away) and away > 0.0 else float("inf")
