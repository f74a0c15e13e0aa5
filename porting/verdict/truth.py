# SPDX-License-Identifier: Apache-2.0
"""What the original makes of the rows: logits in float64, and its own errors in a low precision.

Where a choice of experts is close to a tie, both sides are judged with the truth's choice; what is close is `ties`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dsl.diagnostics import Refused
from porting.files.progress import Progress
from porting.original.choices import Choice, Picked
from porting.original.own_reference import OwnReference
from porting.original.reference import Reference, RowOutput
from porting.verdict.errors import Flags, Floating, PositionErrors, compared, joined
from porting.verdict.feeding import Feeding, longest_row
from porting.verdict.rows import Row
from porting.verdict.ties import close_choice

CAUSAL_LIMIT = 1e-9
"""How far the logits of a row's start may be from those of the whole row, before its length counts as a cause."""
CUTS = (20, 27, 28, 29, 30)
"""Where the first row is cut to run it with the original's own cache."""

Spot = tuple[int, int]
"""A row and the number of its tokens that are there so far."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The float64 results of every row, by row and length.

    Of most models the start of a row does not depend on what follows, and there is one result a row. Where it does
    (`by_length`), each length that some mode stops at has its own.
    """

    rows: tuple[Row, ...]
    whole: tuple[RowOutput, ...]
    by_length: bool
    starts: dict[Spot, RowOutput] = field(default_factory=dict)

    def at(self, row: int, end: int) -> RowOutput:
        """Return the result of a row's first `end` tokens, or of a longer start that gives the same."""
        return self.starts.get((row, end), self.whole[row])

    def logits(self, row: int, start: int, end: int) -> Floating:
        """Return the logits [end - start, V] of a step that ends a row's first `end` tokens."""
        return self.at(row, end).logits[start:end]


def truth_of(
    model: Reference | OwnReference,
    rows: Sequence[Row],
    start: int,
    feedings: Iterable[Feeding],
    progress: Progress,
) -> Truth:
    """Return the truth of the rows; `start` is a length below every switch, to see whether length itself counts."""
    whole = []
    for number, row in enumerate(rows):
        progress("float64 reference", number, len(rows))
        whole.append(model.row(row.tokens.tolist(), hidden=number == 0))
    progress("float64 reference", len(rows), len(rows))
    longest = longest_row([len(row) for row in rows])
    tokens = rows[longest].tokens
    short = model.row(tokens[:start].tolist()).logits
    error = compared(short, whole[longest].logits[:start]).rmse
    truth = Truth(tuple(rows), tuple(whole), error > CAUSAL_LIMIT)
    if truth.by_length:
        stops = {(row, end) for f in feedings for piece in f.pieces() for row, _, end in piece}
        wanted = sorted(s for s in stops if 0 < s[1] < len(rows[s[0]]))
        for number, (place, end) in enumerate(wanted):
            progress("float64 reference, by length", number, len(wanted))
            truth.starts[place, end] = model.row(rows[place].tokens[:end].tolist())
        progress("float64 reference, by length", len(wanted), len(wanted))
    return truth


def cache_note(model: Reference, truth: Truth) -> str:
    """Return where the original's own cached run departs from its own whole row, which is the truth; else nothing."""
    tokens = truth.rows[0].tokens.tolist()
    try:
        cached = model.cached(tokens, [n for n in CUTS if n < len(tokens)])
    except Refused as refused:
        return refused.diagnostics[0].message
    error = compared(cached, truth.whole[0].logits).rmse
    if error <= CAUSAL_LIMIT:
        return ""
    departs = f"transformers' own run with its cache departs from its own whole row by {error:.1e}"
    return f"{departs}; the whole row is the truth"


@dataclass(frozen=True, slots=True, eq=False)
class Own:
    """What the original itself makes of a low precision: errors of every row, and hidden states of the first.

    `close` tells for every row and choice which tokens, [S], are so near a tie that this precision may decide it.
    """

    errors: tuple[PositionErrors, ...]
    hidden: tuple[Floating, ...]
    close: tuple[tuple[Flags, ...], ...]

    def at(self, spots: Sequence[tuple[int, int, int]]) -> PositionErrors:
        """Return the errors at some spots: a row, a start and an end each."""
        return joined([self.errors[row].part(start, end) for row, start, end in spots])


def own_of(
    model: Reference, truth: Truth, progress: Progress, disturbance: int | None = None
) -> Own:
    """Return the original's own errors at its precision, its close choices made as the truth makes them.

    With the seed of a disturbance, of a model that differs by a rounding before its first layer.
    """
    errors: list[PositionErrors] = []
    hidden: tuple[Floating, ...] = ()
    close: list[tuple[Flags, ...]] = []
    for number, row in enumerate(truth.rows):
        progress(f"{model.precision} reference", number, len(truth.rows))
        exact = truth.whole[number]
        near: list[Flags] = []
        decide = _following(exact.choices, near) if exact.choices else None
        with model.disturbed(disturbance):
            output = model.row(row.tokens.tolist(), hidden=number == 0, decide=decide)
        errors.append(compared(output.logits, exact.logits))
        hidden = output.hidden if number == 0 else hidden
        close.append(tuple(near))
    progress(f"{model.precision} reference", len(truth.rows), len(truth.rows))
    return Own(tuple(errors), hidden, tuple(close))


def _following(
    exact: Sequence[Choice], near: list[Flags]
) -> Callable[[int, Choice], Picked | None]:
    """Return a decision that takes the truth's choice where it is close, and notes where that is."""

    def decide(number: int, choice: Choice) -> Picked | None:
        if number >= len(exact) or exact[number].signature != choice.signature:
            near.append(np.zeros(len(choice.picked), np.bool_))  # each has its place, pinned or not
            return None
        close = close_choice(exact[number], choice)
        near.append(close)
        return np.where(close[:, None], exact[number].picked, choice.picked)

    return decide
