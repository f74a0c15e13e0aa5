# SPDX-License-Identifier: Apache-2.0
"""How rows are fed to a session: modes as data, steps of so many tokens of each sequence.

A mode is a list of feedings, made for the rows at hand and the lengths at which something switches: long rows go in at
once up to a switch, and slowly across it. Nothing is compared here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]

CHUNK = 7
TOGETHER = 512
"""Tokens of several rows that are prefilled in one step."""
BEFORE, BEYOND = 3, 5
"""How many tokens around a switch go in one by one."""
# A prefix of each row of the ragged batch goes first, the rest in steps of different sizes.
RAGGED_LENGTHS = (48, 17, 1, 33)
RAGGED_STEPS = ((20, 5, 1, 9), (1, 1, 0, 1), (11, 1, 0, 23), (16, 10, 0, 0))


@dataclass(frozen=True, slots=True)
class Feeding:
    """Some rows, each a sequence of one session, and how many tokens of each go into every step."""

    rows: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]

    def pieces(self) -> Iterator[tuple[tuple[int, int, int], ...]]:
        """Yield for every step the row, the first token and the end of what each sequence is fed."""
        done = [0] * len(self.rows)
        for step in self.steps:
            ends = [at + n for at, n in zip(done, step, strict=True)]
            yield tuple(zip(self.rows, done, ends, strict=True))
            done = ends


Feedings = Callable[[Sequence[int], Sequence[int]], list[Feeding]]


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to feed rows: `feedings` makes it from their lengths and the lengths at which something switches."""

    name: str
    feedings: Feedings


def _prefill(lengths: Sequence[int], switches: Sequence[int]) -> list[Feeding]:
    groups: list[list[int]] = []
    for row, length in enumerate(lengths):
        if groups and sum(lengths[r] for r in groups[-1]) + length <= TOGETHER:
            groups[-1].append(row)
        else:
            groups.append([row])
    return [Feeding(tuple(g), (tuple(lengths[row] for row in g),)) for g in groups]


def _token_by_token(lengths: Sequence[int], switches: Sequence[int]) -> list[Feeding]:
    return [
        _alone(0, range(1, lengths[0] + 1)),
        *_across(lengths, switches, lambda at: range(at - BEFORE, at + BEYOND + 1)),
    ]


def _chunked(lengths: Sequence[int], switches: Sequence[int]) -> list[Feeding]:
    row, last = longest_row(lengths), max(switches, default=0)

    def ends(at: int) -> range:
        # Behind the last switch to the end: a ring comes round there.
        stop = lengths[row] if at == last else at + 2 * CHUNK
        return range(at - CHUNK - BEFORE, stop + 1, CHUNK)

    return [
        _alone(0, [*range(CHUNK, lengths[0], CHUNK), lengths[0]]),
        *_across(lengths, switches, ends),
    ]


def _ragged(lengths: Sequence[int], switches: Sequence[int]) -> list[Feeding]:
    left = list(lengths[: len(RAGGED_LENGTHS)])
    steps = []
    for step in RAGGED_STEPS:
        taken = [min(n, here) for n, here in zip(step, left, strict=False)]
        left = [here - n for n, here in zip(taken, left, strict=True)]
        if any(taken):
            steps.append(tuple(taken))
    return [Feeding(tuple(range(len(left))), tuple(steps))]


MODES = (
    Mode("prefill", _prefill),
    Mode("token by token", _token_by_token),
    Mode(f"chunks of {CHUNK}", _chunked),
    Mode("ragged batch", _ragged),
)
PREFILL = MODES[0]


def longest_row(lengths: Sequence[int]) -> int:
    """Return the row that crosses all that any row crosses."""
    return max(range(len(lengths)), key=lambda row: lengths[row])


def _alone(row: int, ends: Sequence[int]) -> Feeding:
    """Return the feeding of one row in steps that end at some lengths."""
    return Feeding((row,), tuple((end - start,) for start, end in pairwise((0, *ends))))


def _across(
    lengths: Sequence[int], switches: Sequence[int], around: Callable[[int], Sequence[int]]
) -> list[Feeding]:
    """Return the feeding of the longest row, slow around the switches that the first row does not cross."""
    row = longest_row(lengths)
    crossed = [at for at in switches if lengths[0] < at + BEYOND and at - BEFORE < lengths[row]]
    if not crossed or row == 0:
        return []
    ends = {end for at in crossed for end in around(at) if 0 < end < lengths[row]}
    return [_alone(row, [*sorted(ends), lengths[row]])]
