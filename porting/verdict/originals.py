# SPDX-License-Identifier: Apache-2.0
"""The original as the verdict asks for it: its facts, its truth, its own errors; from what is kept, or by running it.

The float64 model is loaded with the first question that nothing kept answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from device_model.numbers.precision import Product
from porting.files.progress import Progress
from porting.original.adapted import Adapted
from porting.original.reference import Precision, Reference
from porting.verdict.feeding import Feeding
from porting.verdict.kept import Facts, Kept
from porting.verdict.rows import Row
from porting.verdict.truth import Own, Truth, cache_note, own_of, truth_of

DISTURBANCES = 8
"""Runs that the spread of the original's own float32 errors is taken from."""


class Judge(Protocol):
    """What a port is judged by: the original of transformers, or a reference of the user's own."""

    name: str
    """What the report calls it."""
    knows_own_error: bool
    """Whether it tells what itself makes of a low precision: nothing lower than f32 is judged without."""

    def facts(self) -> Facts:
        """Return what rows are chosen by."""
        ...

    def truth(
        self, rows: Sequence[Row], start: int, feedings: Iterable[Feeding]
    ) -> tuple[Truth, str]:
        """Return the float64 results of rows, and what there is to say of them."""
        ...

    def own(self, precision: Precision, product: Product | None, truth: Truth) -> Own | None:
        """Return its own errors at a precision, where it knows them."""
        ...

    def own_float32(self, truth: Truth) -> Sequence[Own]:
        """Return its own errors in float32, run by run, each disturbed by a rounding; none where it does not know."""
        ...

    def forget(self) -> None:
        """Give up what only the truth needs."""
        ...


class Original:
    """The model in a folder or .gguf file, or with an adapter, with what is kept of it."""

    name = "transformers"
    knows_own_error = True

    def __init__(
        self,
        path: Path | Adapted,
        kept: Kept | None,
        progress: Progress,
        *,
        stays: bool = False,
    ) -> None:
        """Take a model; with `stays` what is loaded stays loaded, for many questions."""
        self._path, self._kept, self._progress, self._stays = path, kept, progress, stays
        self._lower: dict[tuple[Precision, Product | None], Reference] = {}
        self._heard: tuple[Truth, tuple[Own, ...]] | None = None

    @cached_property
    def _model(self) -> Reference:
        return Reference.load(self._path, "float64", self._progress)

    def facts(self) -> Facts:
        """Return what rows are chosen by."""
        known = None if self._kept is None else self._kept.facts()
        if known is not None:
            return known
        model = self._model
        made = Facts(model.vocab_size, model.lengths(), model.special_tokens())
        if self._kept is not None:
            self._kept.keep_facts(made)
        return made

    def truth(
        self, rows: Sequence[Row], start: int, feedings: Iterable[Feeding]
    ) -> tuple[Truth, str]:
        """Return the float64 results of rows, and where the original contradicts itself."""
        known = None if self._kept is None else self._kept.truth(rows, start)
        if known is not None:
            return known
        truth = truth_of(self._model, rows, start, feedings, self._progress)
        note = cache_note(self._model, truth)
        if self._kept is not None:
            self._kept.keep_truth(truth, start, note)
        return truth, note

    def own(self, precision: Precision, product: Product | None, truth: Truth) -> Own:
        """Return the original's own errors at a precision, its linear layers in `product`."""
        kept = self._kept if product is None else None
        known = None if kept is None else kept.own(truth.rows, precision)
        if known is not None:
            return known
        made = own_of(self._at(precision, product), truth, self._progress)
        if kept is not None:
            kept.keep_own(made, truth.rows, precision)
        return made

    def own_float32(self, truth: Truth) -> Sequence[Own]:
        """Return the original's own errors in float32, once for each of several disturbances."""
        if self._heard is None or self._heard[0] is not truth:
            model = self._at("float32", None)
            runs = (own_of(model, truth, self._progress, seed) for seed in range(DISTURBANCES))
            self._heard = truth, tuple(runs)
        return self._heard[1]

    def _at(self, precision: Precision, product: Product | None) -> Reference:
        key = (precision, product)
        model = self._lower.get(key) or Reference.load(
            self._path, precision, self._progress, product
        )
        if self._stays:
            self._lower[key] = model
        return model

    def forget(self) -> None:
        """Give up the float64 model: nothing more will be asked of it."""
        if not self._stays:
            self.__dict__.pop("_model", None)
