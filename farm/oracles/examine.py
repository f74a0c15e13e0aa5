# SPDX-License-Identifier: Apache-2.0
"""Make a tiny oracle and find out whether transformers runs it: finite, causal, alike at every precision."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsl.diagnostics import Refused
from farm.oracles.shrink import causal_types, outside, runs_in
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.files.progress import Progress
from porting.original.reference import Precision, Reference, libraries, refusing
from porting.verdict.errors import compared
from porting.verdict.rows import sample_rows

PREFIX = 20
CAUSAL_LIMIT = 1e-9


@dataclass(frozen=True, slots=True)
class OracleRun:
    """What became of one oracle: a problem in words, or the figures of a model that runs.

    `errors` are relative to float64, by precision. `spread` is the deviation of a token's logit over the positions.
    """

    model_type: str
    problem: str = ""
    weights: int = 0
    layers: int = 0
    spread: float = 0.0
    errors: tuple[tuple[Precision, float], ...] = ()

    def line(self) -> str:
        """Return the figures in one line."""
        errors = "  ".join(f"{name} {error:.1e}" for name, error in self.errors)
        figures = f"{self.weights:>9,} weights  {self.layers} layers  spread {self.spread:.2f}"
        return f"{self.model_type:<26} {self.problem or f'{figures}  {errors}'}"


def examine(model_type: str, directory: Path | None = None) -> OracleRun:
    """Return the outcome of one type; its checkpoint stays where a directory is given."""
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="farm-") as name:
            return examine(model_type, Path(name))
    try:
        return _examine(model_type, directory)
    except Refused as refused:
        return OracleRun(model_type, "; ".join(d.message for d in refused.diagnostics))


def examine_all(directory: Path, progress: Progress) -> list[OracleRun]:
    """Return the outcome of every type that an oracle can be made of, each in a folder of its own."""
    torch, _ = libraries()
    torch.set_num_threads(1)
    types = [name for name in causal_types() if name not in outside()]
    outcomes = []
    for number, model_type in enumerate(types):
        progress("oracles", number, len(types))
        outcomes.append(examine(model_type, directory / model_type))
    progress("oracles", len(types), len(types))
    return outcomes


def _examine(model_type: str, directory: Path) -> OracleRun:
    with refusing("S551", "build this model"):
        tiny(directory, model_type)
    checkpoint = Checkpoint.open(directory)
    weights = sum(int(np.prod(tensor.shape)) for tensor in checkpoint.tensors.values())
    with refusing("S551", "run this model"):
        model = Reference.load(directory, "float64")
        rows = [row.tolist() for row in sample_rows(model.vocab_size, model.special_tokens())]
        truth = model.logits(rows)
        (start,) = model.logits([rows[0][:PREFIX]])
    layers = model.layers
    logits = truth[0].logits.astype(np.float64)
    if not all(np.isfinite(row.logits).all() for row in truth):
        return OracleRun(model_type, "its logits are not finite", weights, layers)
    spread = float(logits.std(axis=0).mean())
    seen = compared(start.logits, logits[:PREFIX]).rmse
    if seen > CAUSAL_LIMIT:
        return OracleRun(
            model_type, f"a token sees what comes after it ({seen:.1e})", weights, layers
        )
    errors: list[tuple[Precision, float]] = []
    wanted: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in wanted if runs_in(model_type, "bf16") else wanted[:1]:
        with refusing("S551", f"run this model in {precision}"):
            lower = Reference.load(directory, precision)
            (got,) = lower.logits(rows[:1])
        errors.append((precision, compared(got.logits, logits).rmse))
    return OracleRun(model_type, "", weights, layers, spread, tuple(errors))
