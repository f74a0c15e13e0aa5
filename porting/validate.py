"""Validate a port by the one rule: its logits against transformers in float64, in every mode and numerics.

f32 must be within 1e-5 of the truth; a lower precision within 1.5 times the reference's own error at that precision.
No tolerance depends on the model. What a mode is, and on which tokens, is fixed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_model.chips.chip import Device
from device_model.engine.engine import Engine, Session, warm_up
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Numerics
from device_model.weights.reading import TensorReader
from dsl.graph import Graph
from porting.files.progress import Progress, silent
from porting.original.reference import Precision, Reference, RowOutput
from porting.report.model import Case, LayerError, Validation

F32_LIMIT = 1e-5
LOWER_PRECISION_FACTOR = 1.5
SEED = 20240229
ROW_LENGTHS = (48, 17, 1, 33)
CHUNK = 7
COMPILING = "compile kernels"
NUMERICS = ("f32", "bf16")
# A prefix of each row of the ragged batch goes first, the rest in steps of different sizes.
RAGGED_STEPS = ((20, 5, 1, 9), (1, 1, 0, 1), (11, 1, 0, 23), (16, 10, 0, 0))
REFERENCE_PRECISION: Mapping[str, Precision] = {"bf16": "bfloat16", "f16": "float16"}

Array = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to feed the same rows: `feed` returns the logits of every row."""

    name: str
    rows: int
    feed: Callable[[Session, Sequence[Tokens]], list[Array]]


def _in_steps(session: Session, row: Tokens, size: int) -> list[Array]:
    parts = [session.step([row[i : i + size]])[0] for i in range(0, len(row), size)]
    return [np.concatenate(parts).astype(np.float64)]


def _prefill(session: Session, rows: Sequence[Tokens]) -> list[Array]:
    return _in_steps(session, rows[0], len(rows[0]))


def _token_by_token(session: Session, rows: Sequence[Tokens]) -> list[Array]:
    return _in_steps(session, rows[0], 1)


def _chunked(session: Session, rows: Sequence[Tokens]) -> list[Array]:
    return _in_steps(session, rows[0], CHUNK)


def _ragged(session: Session, rows: Sequence[Tokens]) -> list[Array]:
    done = [0] * len(rows)
    parts: list[list[Array]] = [[] for _ in rows]
    for sizes in RAGGED_STEPS:
        step = [row[at : at + n] for row, at, n in zip(rows, done, sizes, strict=True)]
        for part, logits in zip(parts, session.step(step), strict=True):
            part.append(logits.astype(np.float64))
        done = [at + n for at, n in zip(done, sizes, strict=True)]
    return [np.concatenate(p) for p in parts]


MODES = (
    Mode("prefill", 1, _prefill),
    Mode("token by token", 1, _token_by_token),
    Mode(f"chunks of {CHUNK}", 1, _chunked),
    Mode("ragged batch", len(ROW_LENGTHS), _ragged),
)


def validate(
    graph: Graph,
    reader: TensorReader,
    directory: Path,
    progress: Progress = silent,
    stage: Callable[[str], AbstractContextManager[object]] = nullcontext,
    numerics: Sequence[str] = NUMERICS,
    modes: Sequence[Mode] = MODES,
    on: Device | None = None,
) -> Validation:
    """Return every case of the rule for a port of the model in a directory or .gguf file; `stage` times the parts.

    A device computes with its own accumulators.
    """
    chosen = [numerics_named(name, on) for name in numerics]
    with stage("reference float64"):
        truth_model = Reference.load(directory, "float64", progress)
        rows = sample_rows(truth_model.vocab_size)
        truth = truth_model.logits([r.tolist() for r in rows], hidden=True, progress=progress)
        del truth_model
    with stage(COMPILING):
        compile_kernels(progress)
    cases: list[Case] = []
    layers: list[LayerError] = []
    notes: list[str] = []
    for number in chosen:
        name = number.name
        with stage(f"reference {name}"):
            own = _reference(directory, number, rows, progress)
        with stage(f"device {name}"):
            engine = Engine(graph, reader, number)
            outputs = dict(_run_modes(engine, name, modes, rows, progress))
        cases += [_case(m, name, outputs[m.name], truth, own) for m in modes]
        layers += _layer_errors(engine, name, rows[0], truth[0], own)
        notes.append(_agreement(name, outputs))
    return Validation(tuple(cases), tuple(layers), tuple(notes))


def compile_kernels(progress: Progress) -> None:
    """Compile the device model's kernels, or load them from the cache; the first run says how far it is."""

    def advance(parts: str, done: int, total: int) -> None:
        progress(f"{COMPILING}: {parts}" if parts else COMPILING, done, total)

    warm_up(advance)


def sample_rows(vocab_size: int) -> tuple[Tokens, ...]:
    """Return the token rows that every port is validated on: seeded, and spread over the vocabulary."""
    rng = np.random.default_rng(SEED)
    return tuple(rng.integers(0, vocab_size, n, dtype=np.int64) for n in ROW_LENGTHS)


def passed(validation: Validation) -> bool:
    """Tell whether every case holds, and that there are cases."""
    return bool(validation.cases) and all(case.passed for case in validation.cases)


def _reference(
    directory: Path, numerics: Numerics, rows: Sequence[Tokens], progress: Progress
) -> tuple[RowOutput, ...] | None:
    precision = REFERENCE_PRECISION.get(numerics.activation.name)
    if precision is None:
        return None
    model = Reference.load(directory, precision, progress, numerics.product)
    return model.logits([r.tolist() for r in rows], hidden=True, progress=progress)


def _run_modes(
    engine: Engine,
    numerics: str,
    modes: Sequence[Mode],
    rows: Sequence[Tokens],
    progress: Progress,
) -> Iterator[tuple[str, list[Array]]]:
    for number, mode in enumerate(modes):
        progress(f"device {numerics}", number, len(modes))
        yield mode.name, mode.feed(engine.session(sequences=mode.rows), rows)
    progress(f"device {numerics}", len(modes), len(modes))


def _case(
    mode: Mode,
    numerics: str,
    outputs: Sequence[Array],
    truth: Sequence[RowOutput],
    own: Sequence[RowOutput] | None,
) -> Case:
    wanted = np.concatenate([t.logits for t in truth[: mode.rows]]).astype(np.float64)
    got = np.concatenate(outputs)
    error = relative_rmse(got, wanted)
    agreement, likeness = top1(got, wanted), correlation(got, wanted)
    if own is None:
        sure = _sure_top1(got, wanted)
        passed_ = error <= F32_LIMIT and sure
        return Case(mode.name, numerics, error, F32_LIMIT, passed_, None, agreement, likeness)
    reference = relative_rmse(
        np.concatenate([r.logits for r in own[: mode.rows]]).astype(np.float64), wanted
    )
    limit = LOWER_PRECISION_FACTOR * reference
    passed_ = error <= limit
    return Case(mode.name, numerics, error, limit, passed_, reference, agreement, likeness)


def relative_rmse(got: Array, truth: Array) -> float:
    """Return the root mean square of got - truth, relative to that of truth; inf where got is not finite."""
    if got.shape != truth.shape or not np.isfinite(got).all():
        return float("inf")
    scale = float(np.sqrt(np.mean(truth**2)))
    return float(np.sqrt(np.mean((got - truth) ** 2))) / scale if scale else float("inf")


def correlation(got: Array, truth: Array) -> float | None:
    """Return Pearson's correlation, which others judge by; blind to scale and offset, so it decides nothing here."""
    if got.shape != truth.shape or not np.isfinite(got).all():
        return None
    one, other = got - got.mean(), truth - truth.mean()
    scale = float(np.sqrt(np.sum(one**2) * np.sum(other**2)))
    return float(np.sum(one * other)) / scale if scale else None


def top1(got: Array, truth: Array) -> float:
    """Return the share of positions where both prefer the same token."""
    return float(np.mean(got.argmax(-1) == truth.argmax(-1)))


def _sure_top1(got: Array, truth: Array) -> bool:
    """Tell whether the preferred token is the same wherever the truth's top two differ by more than the error."""
    if not np.isfinite(got).all():
        return False
    top = np.partition(truth, -2, axis=-1)[:, -2:]
    sure = (top[:, 1] - top[:, 0]) > np.abs(got - truth).max(-1)
    return bool(np.all((got.argmax(-1) == truth.argmax(-1))[sure]))


def _layer_errors(
    engine: Engine,
    numerics: str,
    row: Tokens,
    truth: RowOutput,
    own: Sequence[RowOutput] | None,
) -> list[LayerError]:
    ours: dict[int, Array] = {}

    def observe(layer: int, carried: tuple[npt.NDArray[np.float32], ...]) -> None:
        ours[layer] = carried[0].astype(np.float64)

    engine.session(sequences=1).step([row], observe=observe)
    errors = []
    for layer, wanted in enumerate(truth.hidden):
        if layer not in ours or ours[layer].shape != wanted.shape:
            continue
        exact = wanted.astype(np.float64)
        reference = (
            None if own is None else relative_rmse(own[0].hidden[layer].astype(np.float64), exact)
        )
        errors.append(LayerError(numerics, layer, relative_rmse(ours[layer], exact), reference))
    return errors


def _agreement(numerics: str, outputs: Mapping[str, list[Array]]) -> str:
    """Return a sentence on how far the modes differ from prefill on the row they share."""
    base = next(iter(outputs.values()))[0]
    furthest = max(float(np.abs(o[0] - base).max()) for o in outputs.values())
    if furthest == 0.0:
        return f"{numerics}: all modes give identical bits on the row they share"
    return f"{numerics}: the modes differ by at most {furthest:.2e} on the row they share"
