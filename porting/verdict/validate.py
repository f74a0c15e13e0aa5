# SPDX-License-Identifier: Apache-2.0
"""Validate a port by the one rule: its logits against the original in float64, in every mode and numerics.

What a mode is, which rows are judged and what is close to a tie is in the modules beside this one; the order of things
is here. Weights are read by the original itself, from the files as they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite, prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from device_model.chips.chip import Device
from device_model.engine.engine import Engine
from device_model.mesh.engine import MeshEngine
from device_model.mesh.opening import AnyEngine
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Numerics
from device_model.weights.reading import TensorReader
from dsl.counting.longest import position_tables
from dsl.diagnostics import Refused, refuse
from dsl.graph import Graph
from porting.files.progress import Progress, silent
from porting.original.adapted import Adapted
from porting.original.reference import Precision
from porting.report.model import (
    Case,
    CrossedLength,
    JudgedRow,
    LayerError,
    MeshCase,
    Pins,
    Validation,
)
from porting.verdict.compiling import COMPILING, compile_kernels
from porting.verdict.errors import PositionErrors, compared, joined
from porting.verdict.feeding import MODES, PREFILL, Feeding, Mode
from porting.verdict.kept import Facts, Kept
from porting.verdict.meshed import on_mesh
from porting.verdict.originals import Judge, Original
from porting.verdict.pinning import pinning
from porting.verdict.rows import (
    Length,
    Row,
    Selection,
    Size,
    Wanted,
    common,
    lengths_of,
    select,
    size_of,
)
from porting.verdict.rule import F32_LIMIT, SENTENCE, f32_case, lower_case
from porting.verdict.running import Fed, PortRun
from porting.verdict.truth import Own, Truth
from porting.verdict.twin import Twin

NUMERICS = ("f32", "bf16")
REFERENCE_PRECISION: Mapping[str, Precision] = {"bf16": "bfloat16", "f16": "float16"}
STARTING = 24
"""A start of a row that is below every switch, unless one is shorter still."""

TWIN = "smaller twin"
BY_LENGTH = (
    "what the original computes for a token depends on how long its row is so far: every step of a mode is compared "
    "with a row of just its tokens"
)

Stage = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Known:
    """What a port is judged by: the rows, what the original makes of them, and how each mode feeds them."""

    selection: Selection
    truth: Truth
    feedings: Mapping[Mode, Sequence[Feeding]]
    vocabulary: int
    note: str = ""
    """Where the original contradicts itself."""


@dataclass(frozen=True, slots=True)
class Judging:
    """A port beside what it is judged by."""

    graph: Graph
    reader: TensorReader
    original: Judge
    known: Known
    progress: Progress
    stage: Stage
    mesh: Mapping[str, int] = field(default_factory=dict)


def validate(
    graph: Graph,
    reader: TensorReader,
    original: Path | Adapted | Judge,
    progress: Progress = silent,
    stage: Stage = nullcontext,
    numerics: Sequence[str] = NUMERICS,
    modes: Sequence[Mode] = MODES,
    on: Device | None = None,
    wanted: Wanted | None = None,
    twin: Callable[[Path], Twin] | None = None,
    kept: Kept | None = None,
    mesh: Mapping[str, int] | None = None,
) -> Validation:
    """Return every case of the rule for a port of the model that lies at `original`, or is it; `stage` times the parts.

    A device computes with its own accumulators. `wanted` has rows of the caller's and the draw of the others; `twin`
    makes a smaller one of the port in a folder, for lengths that are too dear; `kept` is what earlier runs left. On a
    mesh it is the chips' result that is judged, and its bits are compared with one chip's.
    """
    chosen = [numerics_named(name, on) for name in numerics]
    with stage("reference float64"):
        source = _judge(original, kept, progress)
        known = prepare(graph, source, modes, wanted or Wanted())
    with stage(COMPILING):
        compile_kernels(progress)
    judging = Judging(graph, reader, source, known, progress, stage, mesh or {})
    outcomes = [_numerics(judging, number, modes) for number in chosen]
    notes = [note for o in outcomes for note in o.notes]
    cases = [case for o in outcomes for case in o.cases]
    lengths = [CrossedLength(x.length, x.what, "original weights") for x in known.selection.crossed]
    if twin is not None and known.selection.dear:
        with stage(TWIN):
            small = _on_twin(twin, known.selection.dear, modes, progress)
        cases, lengths = [*cases, *small.cases], [*lengths, *small.lengths]
        notes += small.notes
    else:
        lengths += [CrossedLength(x.length, x.what, "") for x in known.selection.dear]
    if known.note:
        notes.append(known.note)
    if known.truth.by_length:
        notes.append(BY_LENGTH)
    return Validation(
        cases=tuple(cases),
        layers=tuple(error for o in outcomes for error in o.layers),
        text=tuple(notes),
        rule=SENTENCE,
        original=source.name,
        rows=_judged_rows(known.selection, outcomes),
        lengths=tuple(sorted(lengths, key=lambda x: x.length)),
        pins=tuple(o.pins for o in outcomes if o.pins is not None),
        meshes=tuple(case for o in outcomes for case in o.meshes),
    )


def _judge(original: Path | Adapted | Judge, kept: Kept | None, progress: Progress) -> Judge:
    if isinstance(original, Path | Adapted):
        return Original(original, kept, progress)
    return original


def passed(validation: Validation) -> bool:
    """Tell whether every case holds, that there are cases, and that meshes gave one chip's bits."""
    same = all(case.same_bits for case in validation.meshes)
    return same and bool(validation.cases) and all(case.passed for case in validation.cases)


def prepare(graph: Graph, original: Judge, modes: Sequence[Mode], wanted: Wanted) -> Known:
    """Choose the rows for a program and its original, and have the original's results on them in float64."""
    facts = original.facts()
    selection = _selected(graph, facts, wanted)
    feedings = _feedings(selection, modes)
    start = min([STARTING, *(x.length - 1 for x in selection.crossed)])
    every = [feeding for several in feedings.values() for feeding in several]
    truth, note = original.truth(selection.rows, max(start, 1), every)
    original.forget()
    return Known(selection, truth, feedings, facts.vocab_size, note)


def _selected(graph: Graph, facts: Facts, wanted: Wanted) -> Selection:
    """Return the rows for a program and its original."""
    size = size_of(graph, facts.vocab_size)
    special = common(facts.special, facts.vocab_size)
    lengths = lengths_of(graph, facts.lengths)
    longest = min(position_tables(graph), default=None)
    _check_own(wanted.own, size, longest)
    return select(size, lengths, longest, replace(wanted, special=special))


def _check_own(rows: Sequence[Row], size: Size, longest: int | None) -> None:
    """Refuse rows of the user's that the model has no tokens or positions for, or that no memory holds."""
    most = size.longest if longest is None else min(size.longest, longest)
    for row in rows:
        if not len(row):
            raise refuse("S532", f"{row.name} is empty")
        low, high = (int(x) for x in (row.tokens.min(), row.tokens.max()))
        if low < 0 or high >= size.vocabulary:
            wrong = low if low < 0 else high
            message = f"{row.name}: token {wrong} is not between 0 and {size.vocabulary - 1}"
            raise refuse("S532", message)
        if len(row) > most:
            what = (
                "the model has positions for" if most == longest else "in float64 there is room for"
            )
            raise refuse("S605", f"{row.name}: {len(row)} tokens; {what} {most}")


def _feedings(selection: Selection, modes: Sequence[Mode]) -> dict[Mode, list[Feeding]]:
    lengths = [len(row) for row in selection.rows]
    switches = [x.length for x in selection.crossed]
    return {mode: mode.feedings(lengths, switches) for mode in (PREFILL, *modes)}


@dataclass(slots=True)
class _Outcome:
    """What one numerics came to."""

    numerics: str
    cases: list[Case]
    layers: list[LayerError]
    notes: list[str]
    pins: Pins | None
    errors: Sequence[PositionErrors]
    own: Own | None
    meshes: tuple[MeshCase, ...] = ()


def _numerics(judging: Judging, numerics: Numerics, modes: Sequence[Mode]) -> _Outcome:
    name, known, progress = numerics.name, judging.known, judging.progress
    truth = known.truth
    with judging.stage(f"reference {name}"):
        own = _own(judging, numerics)
    with judging.stage(f"device {name}"):
        one = Engine(judging.graph, judging.reader, numerics)
        device = PortRun(_judged_engine(judging, one), truth, pinning(one.plan, truth, own))
        errors = device.prefill(known.feedings[PREFILL])
        if own is None and needs_own(numerics) and not judging.original.knows_own_error:
            return _Outcome(name, [], [], [_unjudged(name, errors)], None, errors, None)
        cases, apart = [], []
        for number, mode in enumerate(modes):
            progress(f"device {name}", number, len(modes))
            fed = device.run(mode, known.feedings[mode])
            cases.append(_case(judging, mode, name, fed, errors, own))
            apart += [] if fed.same_bits else [f"{mode.name} ({_away(fed.furthest)})"]
        progress(f"device {name}", len(modes), len(modes))
        layers = _layer_errors(one, name, truth, own)
    with judging.stage(f"mesh {name}") if judging.mesh else nullcontext():
        meshes = _meshes(judging, one, device.engine)
    notes = [_sensitive(case) for case in cases if own is None and case.reference_rmse is not None]
    told = f"differ from prefill: {', '.join(apart)}" if apart else "give the bits of prefill"
    pins = None if device.pinning is None else device.pinning.result(name)
    return _Outcome(
        name,
        cases,
        layers,
        [f"{name}: all modes {told}", *notes[:1]],
        pins,
        errors,
        own,
        meshes,
    )


def _judged_engine(judging: Judging, one: Engine) -> AnyEngine:
    """Return what is judged: the chips of a mesh but for copies of the whole, which do the same."""
    sizes = {**judging.mesh, **dict.fromkeys(judging.graph.batch_shards, 1)}
    if prod(sizes.values()) == 1:
        return one
    return MeshEngine(judging.graph, judging.reader, one.numerics, sizes)


def _meshes(judging: Judging, one: Engine, judged: AnyEngine) -> tuple[MeshCase, ...]:
    """Return how the bits of the mesh compare with one chip's, mode by mode."""
    if not judging.mesh:
        return ()
    many = judged
    if not isinstance(many, MeshEngine) or any(
        judging.mesh.get(axis, 1) > 1 for axis in judging.graph.batch_shards
    ):
        many = MeshEngine(judging.graph, judging.reader, one.numerics, judging.mesh)
    known = judging.known
    return on_mesh(one, many, judging.mesh, known.truth.rows, known.feedings)


def _sensitive(case: Case) -> str:
    return (
        f"{case.numerics}: {case.mode} is {case.error:.2e} away, more than {F32_LIMIT:.0e}; the original itself in "
        f"float32 is {case.reference_rmse:.2e} away on these rows, over runs that differ by a rounding: the limit is "
        f"{case.limit:.2e}"
    )


def _away(furthest: float) -> str:
    return f"by at most {furthest:.2e}" if isfinite(furthest) else "logits that are no numbers"


def needs_own(numerics: Numerics) -> bool:
    """Tell whether these numerics are judged by what the original itself makes of their precision."""
    return numerics.activation.name in REFERENCE_PRECISION


def _unjudged(name: str, errors: Sequence[PositionErrors]) -> str:
    return (
        f"{name}: {joined(errors).typical:.2e} from the reference, which is not judged: nobody knows what the original "
        f"itself makes of {name}"
    )


def _own(judging: Judging, numerics: Numerics) -> Own | None:
    precision = REFERENCE_PRECISION.get(numerics.activation.name)
    if precision is None:
        return None
    return judging.original.own(precision, numerics.product, judging.known.truth)


def _case(
    judging: Judging, mode: Mode, numerics: str, fed: Fed, errors: Sequence[PositionErrors], own: Own | None
) -> Case:  # fmt: skip
    positions = sum(end - start for _, start, end in fed.spots)
    if own is None:
        hear = partial(_heard, judging, fed.spots)
        return f32_case(mode.name, numerics, joined(fed.errors), judging.known.vocabulary, hear)
    mine, theirs = joined(errors), joined(own.errors)
    if not fed.same_bits:
        mine = joined(fed.errors)
        theirs = own.at(fed.spots)
    return lower_case(
        mode.name, numerics, mine, theirs, judging.known.vocabulary, positions,
        same_bits=fed.same_bits,
    )  # fmt: skip


def _heard(judging: Judging, spots: Sequence[tuple[int, int, int]]) -> list[PositionErrors]:
    """Return the original's own float32 errors at some spots, run by run."""
    runs = judging.original.own_float32(judging.known.truth)
    return [own.at(spots) for own in runs]


def _layer_errors(engine: Engine, numerics: str, truth: Truth, own: Own | None) -> list[LayerError]:
    ours: dict[int, npt.NDArray[np.float64]] = {}

    def observe(layer: int, carried: tuple[npt.NDArray[np.float32], ...]) -> None:
        ours[layer] = carried[0].astype(np.float64)

    engine.session(sequences=1).step([truth.rows[0].tokens], observe=observe)
    errors = []
    for layer, exact in enumerate(truth.whole[0].hidden):
        if layer not in ours or ours[layer].shape != exact.shape:
            continue
        reference = None if own is None else compared(own.hidden[layer], exact).rmse
        errors.append(LayerError(numerics, layer, compared(ours[layer], exact).rmse, reference))
    return errors


def _judged_rows(selection: Selection, outcomes: Sequence[_Outcome]) -> tuple[JudgedRow, ...]:
    return tuple(
        JudgedRow(
            row.name, len(row), {o.numerics: _row_error(o, number) for o in outcomes if o.cases}
        )
        for number, row in enumerate(selection.rows)
    )


def _row_error(outcome: _Outcome, row: int) -> float:
    """Return a row's error as the rule counts it: absolute in f32, in parts of the original's own below."""
    if outcome.own is None:
        return outcome.errors[row].rmse
    own = outcome.own.errors[row].typical
    return outcome.errors[row].typical / own if own else float("inf")


@dataclass(frozen=True, slots=True)
class _OnTwin:
    """What a smaller twin shows: its cases, the lengths that it crosses, and what there is to say."""

    cases: Sequence[Case]
    lengths: Sequence[CrossedLength]
    notes: Sequence[str] = ()


def _on_twin(
    make: Callable[[Path], Twin], dear: Sequence[Length], modes: Sequence[Mode], progress: Progress
) -> _OnTwin:  # fmt: skip
    """Judge a smaller twin of a port in f32, over rows that cross what is too dear for the model itself."""
    with TemporaryDirectory(prefix="sohu-") as name:
        try:
            small = make(Path(name))
            source = Original(small.folder, None, progress)
            known = prepare(small.graph, source, modes, Wanted())
        except Refused as refused:
            note = f"no smaller twin: {refused.diagnostics[0].message}"
            return _OnTwin((), [CrossedLength(x.length, x.what, "") for x in dear], (note,))
        judging = Judging(small.graph, small.checkpoint, source, known, progress, nullcontext)
        outcome = _numerics(judging, numerics_named("f32"), modes)
    cases = [replace(case, mode=f"{case.mode}, {TWIN}") for case in outcome.cases]
    reached = {x.length for x in known.selection.crossed}
    lengths = [CrossedLength(x.length, x.what, TWIN if x.length in reached else "") for x in dear]
    return _OnTwin(cases, lengths)
