# SPDX-License-Identifier: Apache-2.0
"""Pin what a port chooses to the truth's choice, where that is close, and count where it mattered.

Both sides choose k of n in the same order of layers; where their numbers of such choices differ, nothing is pinned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from device_model.engine.deciding import Decision
from device_model.engine.plan import Plan
from dsl.ops import OPS
from porting.report.model import Pin, Pins
from porting.verdict.errors import Flags
from porting.verdict.ties import close_choice
from porting.verdict.truth import Own, Truth

LISTED = 12
Signature = tuple[int, int]
Picks = npt.NDArray[np.int32]


@dataclass(slots=True)
class Pinning:
    """The close choices of all rows in one numerics; remembers each token whose choice was close."""

    truth: Truth
    own: Own | None
    numbers: Mapping[int, int]
    close: dict[tuple[int, int], list[Flags]] = field(default_factory=dict)
    listed: dict[tuple[int, int, int], Pin] = field(default_factory=dict)
    decisions: int = 0

    def decide(self, spots: Sequence[tuple[int, int]], decision: Decision) -> Picks | None:
        """Return the choice of some tokens with those that are close as the truth has them; `spots` by sequence."""
        number = self.numbers.get(decision.number)
        if number is None:
            return None
        instead = decision.choice.copy()
        for sequence in np.unique(decision.sequences):
            at = decision.sequences == sequence
            self._pin(spots[int(sequence)], number, decision, at, instead)
        return instead

    def _pin(
        self, spot: tuple[int, int], number: int, decision: Decision, at: Flags, instead: Picks
    ) -> None:  # fmt: skip
        row, end = spot
        choices = self.truth.at(row, end).choices
        close = self._close(row, end)
        if number >= len(close):
            return
        self.decisions += int(at.sum())
        positions = decision.positions[at]
        picked = choices[number].picked[positions].astype(np.int32)
        pinned = close[number][positions]
        instead[at] = np.where(pinned[:, None], picked, instead[at])
        differs = np.any(np.sort(decision.choice[at], -1) != np.sort(picked, -1), axis=-1)
        for place in np.flatnonzero(pinned):
            position = int(positions[place])
            pin = Pin(self.truth.rows[row].name, position, decision.layer, bool(differs[place]))
            self.listed.setdefault((row, position, number), pin)

    def _close(self, row: int, end: int) -> list[Flags]:
        key = (row, end)
        if key not in self.close:
            exact = self.truth.at(row, end).choices
            if self.own is None:
                self.close[key] = [close_choice(choice, None) for choice in exact]
            else:
                tokens = len(exact[0].picked)
                self.close[key] = [flags[:tokens] for flags in self.own.close[row]]
        return self.close[key]

    def result(self, numerics: str) -> Pins | None:
        """Return what was pinned, None where nothing is chosen."""
        if not self.decisions:
            return None
        pins = tuple(self.listed.values())
        changed = [pin for pin in pins if pin.differed]
        return Pins(numerics, self.decisions, len(pins), len(changed), tuple(changed[:LISTED]))


def pinning(plan: Plan, truth: Truth, own: Own | None) -> Pinning | None:
    """Return the pinning of a port, None where nothing is chosen or the two sides choose differently often."""
    choosing = (operation for operation in plan.operations if OPS[operation.op].chooses)
    made = [(_width(x.inputs[0]), _width(x.outputs[0])) for x in choosing]
    exact = [choice.signature for choice in truth.whole[0].choices]
    if not made or any(Counter(made)[s] != Counter(exact)[s] for s in set(made)):
        return None
    places: dict[Signature, list[int]] = {}
    for place, signature in enumerate(exact):
        places.setdefault(signature, []).append(place)
    return Pinning(truth, own, {n: places[s].pop(0) for n, s in enumerate(made)})


def _width(place: object) -> int:
    shape = getattr(place, "shape", ())
    return int(shape[-1]) if shape else 0
