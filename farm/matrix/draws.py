# SPDX-License-Identifier: Apache-2.0
"""How far a verdict depends on luck: judge a model on other draws of the random rows, and say what changes.

`python -m farm draws`. The rows of two draws have nothing in common but their lengths. Nothing is judged anew here:
each draw has the verdict of the rule.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_model.engine.engine import Engine
from device_model.numbers.numerics import Array, is_float
from device_model.weights.reading import TensorReader
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.files.progress import silent
from porting.origin.resolve import Origin, resolve
from porting.planning.plan import plan
from porting.report.model import Case
from porting.verdict.errors import joined
from porting.verdict.feeding import PREFILL
from porting.verdict.originals import Original
from porting.verdict.pinning import pinning
from porting.verdict.rows import Wanted
from porting.verdict.rule import f32_case, lower_case
from porting.verdict.running import PortRun
from porting.verdict.validate import REFERENCE_PRECISION, Known, prepare

FIRST_SEED = 1000


@dataclass(frozen=True, slots=True)
class Luck:
    """The cases of one model in one numerics, one for each draw."""

    model: str
    numerics: str
    cases: tuple[Case, ...]

    @property
    def passed(self) -> int:
        """Return how many draws pass."""
        return sum(case.passed for case in self.cases)

    @property
    def used(self) -> tuple[float, ...]:
        """Return the error of each draw in parts of its limit."""
        return tuple(case.error / case.limit for case in self.cases)

    def line(self) -> str:
        """Return the figures in one line: draws that pass, and errors in parts of the limit."""
        low, high = min(self.used), max(self.used)
        spread = f"error ÷ limit {low:.2f} to {high:.2f}"
        ratios = [c.rmse / c.reference_rmse for c in self.cases if c.rmse and c.reference_rmse]
        beside = (
            f"; root mean squares {min(ratios):.2f} to {max(ratios):.2f} of the original's"
            if ratios
            else ""
        )
        return f"{self.model:<24}{self.numerics:<14}{self.passed:>4} of {len(self.cases)} pass  {spread}{beside}"


@dataclass(frozen=True, slots=True)
class Coarse:
    """A checkpoint whose floats have lost all but some bits of their fractions: a mistake of one precision alone."""

    reader: TensorReader
    bits: int

    def read(self, name: str) -> Array:
        """Return a tensor with short fractions, in its own format."""
        array = self.reader.read(name)
        if not is_float(array.dtype):
            return array
        values = array.astype(np.float32)
        fraction, exponent = np.frexp(values)
        short = np.ldexp(np.round(fraction * 2.0**self.bits) / 2.0**self.bits, exponent)
        return short.astype(array.dtype)


def luck(
    model: str,
    numerics: Sequence[str],
    draws: int,
    told: Callable[[int, int], None],
    coarse: Sequence[int] = (),
) -> Iterator[Luck]:
    """Yield, for each numerics, what a model's verdict is on each draw; MODEL is a type or what `port` takes.

    For each number of bits in `coarse` the same, with weights of so many bits in every numerics but f32.
    """
    with tempfile.TemporaryDirectory(prefix="farm-") as name:
        origin = _origin(model, Path(name))
        checkpoint = Checkpoint.open(origin.directory)
        graph = plan(origin, read_config(origin.directory), checkpoint).graph
        original = Original(origin.original, None, silent, stays=True)
        engines = {name: Engine(graph, checkpoint, name) for name in numerics}
        for bits in coarse:
            short = Coarse(checkpoint, bits)
            lower = (name for name in numerics if name != "f32")
            engines |= {f"{name}, {bits} bits": Engine(graph, short, name) for name in lower}
        cases: dict[str, list[Case]] = {name: [] for name in engines}
        for draw in range(draws):
            told(draw, draws)
            known = prepare(graph, original, (PREFILL,), Wanted(seed=FIRST_SEED + draw))
            for of, engine in engines.items():
                cases[of].append(_case(engine, original, known))
        told(draws, draws)
    for of, several in cases.items():
        yield Luck(model, of, tuple(several))


def _case(engine: Engine, original: Original, known: Known) -> Case:
    """Return the case of prefill, which every mode has the bits of."""
    numerics, truth = engine.numerics, known.truth
    precision = REFERENCE_PRECISION.get(numerics.activation.name)
    own = None if precision is None else original.own(precision, numerics.product, truth)
    run = PortRun(engine, truth, pinning(engine.plan, truth, own))
    errors = joined(run.prefill(known.feedings[PREFILL]))
    if own is None:
        return f32_case(
            PREFILL.name, numerics.name, errors, known.vocabulary,
            lambda: [joined(own.errors) for own in original.own_float32(truth)],
        )  # fmt: skip
    return lower_case(
        PREFILL.name, numerics.name, errors, joined(own.errors), known.vocabulary,
        len(errors.squares), same_bits=True,
    )  # fmt: skip


def _origin(model: str, folder: Path) -> Origin:
    is_path = "/" in model or model == "demo"
    return resolve(model) if is_path else resolve(str(tiny(folder, model)))
