# SPDX-License-Identifier: Apache-2.0
"""Sequences whose states depend on their length: their tokens are kept, to compute them anew where they must be.

The length at which a rotation changes is that of the whole sequence, so that with it every hidden state before changes
too: there is nothing to mend in the states. Nothing here runs a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from device_model.kernels.table import KERNELS
from device_model.numbers.numerics import Array
from device_model.program.places import Operation
from device_model.program.renewal import Renewal


def renewals(operations: Iterable[Operation]) -> tuple[Renewal, ...]:
    """Return when the states that these operations leave are out of date, each once."""
    own = [operation for operation in operations if operation.meeting is None]
    rows = [(KERNELS[operation.op].renewal, operation) for operation in own]
    made = [renewal(operation) for renewal, operation in rows if renewal is not None]
    return tuple(dict.fromkeys(one for one in made if one is not None))


class History:
    """The tokens of each sequence, in the pieces that they came in, for as long as they can be needed."""

    def __init__(self, renewals: Sequence[Renewal], sequences: int) -> None:
        self._renewals = tuple(renewals)
        self._pieces: list[list[Array]] = [[] for _ in range(sequences)]

    def forget(self, sequence: int) -> None:
        """Keep none of the tokens of a sequence that begins anew."""
        self._pieces[sequence].clear()

    def take(self, rows: Sequence[Array], lengths: Array, counts: Array) -> dict[int, Array]:
        """Keep new tokens, and return all tokens of the sequences that are to be computed anew with them."""
        whole: dict[int, Array] = {}
        for sequence in np.flatnonzero(counts).tolist():
            before, pieces = int(lengths[sequence]), self._pieces[sequence]
            if all(renewal.is_past(before) for renewal in self._renewals):
                pieces.clear()
                continue
            pieces.append(np.array(rows[sequence]))
            after = before + int(counts[sequence])
            if any(renewal.is_due(before, after) for renewal in self._renewals):
                pieces[:] = [np.concatenate(pieces)]
                whole[sequence] = pieces[0]
        return whole
