# SPDX-License-Identifier: Apache-2.0
"""Measure the harness: how many of the bugs that ports have had the rule notices and `sohu diff` names.

Every operator of `bugs` is seeded into a type; a bug is caught when a mode fails the rule in f32. Beside it stands what
a correlation of 0.99, as others use it, would have noticed. What that means over all types is `campaign`'s question.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from device_model.engine.engine import Engine
from device_model.engine.plan import plan as planned
from device_model.mesh.opening import AnySession
from device_model.numbers.catalogue import numerics_named
from device_model.weights.reading import TensorReader
from dsl.diagnostics import Refused
from dsl.graph import Graph
from farm.mutants.bugs import Bug, bugs
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.diff.search import Search
from porting.files.progress import silent
from porting.origin.resolve import resolve
from porting.original.reference import Reference, Stretch
from porting.planning.plan import plan
from porting.verdict.errors import PositionErrors, joined
from porting.verdict.feeding import CHUNK, MODES, PREFILL
from porting.verdict.originals import Original
from porting.verdict.pinning import pinning
from porting.verdict.rows import Wanted
from porting.verdict.rule import F32_LIMIT, f32_case
from porting.verdict.running import PortRun
from porting.verdict.validate import Known, prepare

CORRELATION = 0.99
CACHE_OFFSET = "cache one entry too long"
"""The one bug that is none of the graph: the runtime feeds a token twice. `sohu diff` looks at graphs alone."""

Tokens = Sequence[np.ndarray[Any, np.dtype[np.int64]]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one bug.

    `mode` is the first mode that failed the rule, empty where none did; `row` the first kind of row that would have
    failed it alone; `correlation` the least over the modes that ran; `named` the operation that `sohu diff` blames, and
    `right` whether it stands where the bug is.
    """

    model_type: str
    operator: str
    mode: str
    row: str
    error: float
    correlation: float
    named: str
    right: bool

    @property
    def caught(self) -> bool:
        """Tell whether the rule noticed it, or the device refused to run it."""
        return bool(self.mode)

    @property
    def seen_by_correlation(self) -> bool:
        """Tell whether a correlation below the usual limit would have shown it in the modes that ran."""
        return self.correlation < CORRELATION


@dataclass(frozen=True, slots=True)
class _Subject:
    """A sound port of one type, with all that its bugs are compared with."""

    model_type: str
    graph: Graph
    reader: TensorReader
    original: Original
    known: Known
    stretches: tuple[Stretch, ...]


class _Repeating:
    """A session whose cache is one entry too long from its second step on: the last token goes in twice."""

    def __init__(self, session: AnySession) -> None:
        self._session = session
        self._before: list[Tokens] = []

    def step(self, rows: Tokens, decide: Any = None) -> list[np.ndarray[Any, Any]]:
        """Add tokens as a session does; nobody decides for it, since what it is fed stands elsewhere."""
        del decide
        twice = [bool(self._before) and len(row) > 0 for row in rows]
        last = self._before[-1] if self._before else rows
        fed = [
            np.concatenate([old[-1:], new]) if again else new
            for old, new, again in zip(last, rows, twice, strict=True)
        ]
        self._before.append([new if len(new) else old for old, new in zip(last, rows, strict=True)])
        made = self._session.step(fed)
        return [
            out[int(again) * len(old[-1:]) :]
            for out, again, old in zip(made, twice, last, strict=True)
        ]


def findings(model_type: str, each: int = 1) -> Iterator[Finding]:
    """Yield what becomes of every bug in one type."""
    with tempfile.TemporaryDirectory() as folder:
        subject = _subject(model_type, Path(folder))
        for bug in bugs(subject.graph, each):
            yield _finding(subject, bug)
        yield Finding(
            model_type, CACHE_OFFSET, *_by_rule(subject, subject.graph, _Repeating), "", False
        )


def _subject(model_type: str, folder: Path) -> _Subject:
    tiny(folder, model_type)
    checkpoint = Checkpoint.open(folder)
    graph = plan(resolve(str(folder)), read_config(folder), checkpoint).graph
    original = Original(folder, None, silent)
    known = prepare(graph, original, MODES, Wanted())
    stretches: list[Stretch] = []
    Reference.load(folder, "float64").walk(_first(known), stretches.append)
    return _Subject(model_type, graph, checkpoint, original, known, tuple(stretches))


def _first(known: Known) -> list[int]:
    ids: list[int] = known.truth.rows[0].tokens.tolist()
    return ids


def _finding(subject: _Subject, bug: Bug) -> Finding:
    mode, row, error, correlation = _by_rule(subject, bug.graph)
    named, right = _by_diff(subject, bug) if mode else ("", False)
    return Finding(subject.model_type, bug.operator, mode, row, error, correlation, named, right)


def _by_rule(
    subject: _Subject, graph: Graph, wrapped: Callable[[AnySession], Any] = lambda session: session
) -> tuple[str, str, float, float]:
    """Return the first mode that fails and the row that shows it, the largest error and the least correlation."""
    known = subject.known
    try:
        engine = Engine(graph, subject.reader, numerics="f32")
    except (Refused, ValueError) as refusal:
        return f"refused: {type(refusal).__name__}", "the text alone", float("inf"), 0.0
    run = PortRun(engine, known.truth, pinning(engine.plan, known.truth, None), wrapped)
    row = _failing(known, run.prefill(known.feedings[PREFILL]))
    worst, least = 0.0, 1.0
    for mode in MODES:
        fed = run.run(mode, known.feedings[mode])
        hear = partial(_heard, subject, fed.spots)
        case = f32_case(mode.name, "f32", joined(fed.errors), known.vocabulary, hear)
        worst, least = max(worst, case.error), min(least, case.pcc or 0.0)
        if not case.passed:
            return mode.name, row or mode.name, worst, least
    return "", "", worst, least


def _heard(subject: _Subject, spots: Sequence[tuple[int, int, int]]) -> list[PositionErrors]:
    return [own.at(spots) for own in subject.original.own_float32(subject.known.truth)]


def _failing(known: Known, errors: Sequence[PositionErrors]) -> str:
    """Return the first row that is over the limit alone, without its number; empty where none is."""
    rows = zip(known.truth.rows, errors, strict=True)
    return next((row.name.split(",")[0] for row, e in rows if e.rmse > F32_LIMIT), "")


def _by_diff(subject: _Subject, bug: Bug) -> tuple[str, bool]:
    """Return the operation that the comparison blames first, and whether that is where the bug is."""
    search = Search(
        planned(bug.graph, subject.reader, numerics_named("f32")), _first(subject.known)
    )
    for chunk in (0, CHUNK):
        for stretch in subject.stretches:
            guilty = search.compare(stretch, chunk).guilty
            if guilty is not None:
                return guilty.op, guilty.span in bug.places
    return "", False
