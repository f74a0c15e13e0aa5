# SPDX-License-Identifier: Apache-2.0
"""A reference of the user's own as the verdict asks for it, in place of the original of transformers.

It is the truth, and there is nothing to know of what it would make of a low precision: of those the port's error is
told, and not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from device_model.numbers.precision import Product
from porting.files.progress import Progress
from porting.original.own_reference import OwnReference
from porting.original.reference import Precision
from porting.verdict.feeding import Feeding
from porting.verdict.kept import Facts
from porting.verdict.rows import Row
from porting.verdict.truth import Own, Truth, truth_of


class OwnOriginal:
    """A user's reference: no lengths, no special tokens, no choices and no errors of its own are known of it."""

    knows_own_error = False

    def __init__(self, reference: OwnReference, progress: Progress) -> None:
        self._reference, self._progress = reference, progress
        self.name = reference.name

    def facts(self) -> Facts:
        """Return what rows are chosen by: the vocabulary alone."""
        return Facts(self._reference.vocab_size, {}, frozenset())

    def truth(
        self, rows: Sequence[Row], start: int, feedings: Iterable[Feeding]
    ) -> tuple[Truth, str]:
        """Return the results of rows, and what a reader must know of them."""
        truth = truth_of(self._reference, rows, start, feedings, self._progress)
        return truth, self._reference.note

    def own(self, precision: Precision, product: Product | None, truth: Truth) -> Own | None:
        """Return nothing: only the one who wrote the reference knows what it would make of a low precision."""
        return None

    def own_float32(self, truth: Truth) -> Sequence[Own]:
        """Return nothing, for the same reason."""
        return ()

    def forget(self) -> None:
        """Keep the reference: it is the user's."""
