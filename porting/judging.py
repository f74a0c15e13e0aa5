# SPDX-License-Identifier: Apache-2.0
"""Judge a bound program by the rule: against the original in transformers, or a reference that the user brings.

Decides what it is judged by and on which rows; the rule and its order are `verdict`. Files of ports are not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device_model.chips.chip import Device
from device_model.numbers.catalogue import numerics_named
from dsl.diagnostics import refuse
from dsl.graph import Graph, Node
from dsl.ops import OPS
from porting.checkpoint import accounting
from porting.checkpoint.finite import check_finite
from porting.checkpoint.tensors import Checkpoint
from porting.files.progress import Progress, silent
from porting.origin.conversions import cache_folder
from porting.original.adapted import Adapted
from porting.original.own_code import FORMS, load_function
from porting.original.own_reference import (
    GivenFunction,
    GivenLogits,
    OwnReference,
    check_format,
)
from porting.report.model import Validation, Verdict
from porting.verdict.asked import OwnRows, wanted_rows
from porting.verdict.brought import NOTHING, Brought
from porting.verdict.kept import Kept
from porting.verdict.originals import Judge
from porting.verdict.own_original import OwnOriginal
from porting.verdict.rows import Row, Wanted
from porting.verdict.twin import twin_of
from porting.verdict.validate import NUMERICS, Stage, needs_own, passed, validate

UNTOLD = "choices near a tie, as of experts, are judged like all others: a reference of one's own does not tell them"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A bound program with its text and its weights.

    `folder` is the model's, with its tokenizer; `original` what transformers loads, where there is such a thing.
    """

    graph: Graph
    text: str
    weights: Checkpoint
    folder: Path
    original: Path | Adapted | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Court:
    """How it is judged: the numerics of the rule or others, whose accumulators, what the user brings."""

    numerics: Sequence[str] = ()
    on: Device | None = None
    own: Brought = NOTHING
    foreign: Sequence[Path] = ()
    """Folders whose code is nobody's here: of the model, of the port."""
    mesh: Mapping[str, int] = field(default_factory=dict)
    """Chips along each mesh axis, nothing for one chip."""


def judge(
    judged: Judged,
    court: Court,
    notes: Sequence[str] = (),
    stage: Stage = nullcontext,
    progress: Progress = silent,
) -> tuple[Validation, Verdict]:
    """Return what the rule says of a program, and the verdict.

    Raises `Refused` for weights that are no numbers, and for a reference that cannot be used.
    """
    numerics = court.numerics or NUMERICS
    read = accounting.account(judged.graph, judged.weights.tensors, None).account.consumed
    check_finite(judged.weights, read)
    if court.own.reference is not None:
        source, wanted = _own(judged, court)
        compared = validate(
            judged.graph, judged.weights, source(progress), progress, stage, numerics, on=court.on,
            wanted=wanted, mesh=court.mesh,
        )  # fmt: skip
        notes = (*notes, *((UNTOLD,) if chooses(judged.graph) else ()))
    else:
        compared = _by_transformers(judged, court, stage, progress)
    validation = replace(compared, text=(*notes, *compared.text))
    return validation, Verdict.PASS if passed(validation) else Verdict.FAIL


def chooses(graph: Graph) -> bool:
    """Tell whether a program chooses anything, as experts of a token."""
    steps = (step for body, _ in graph.bodies() for step in body.steps)
    return any(isinstance(step, Node) and OPS[step.op].chooses for step in steps)


def _by_transformers(
    judged: Judged, court: Court, stage: Stage, progress: Progress
) -> Validation:  # fmt: skip
    if judged.original is None:
        message = "a text has no original to be compared with"
        raise refuse("S554", message, help=FORMS)
    return validate(
        judged.graph, judged.weights, judged.original, progress, stage,
        court.numerics or NUMERICS, on=court.on,
        wanted=wanted_rows(judged.folder, court.own.rows),
        twin=partial(twin_of, judged.text, judged.folder, family=court.own.family),
        kept=Kept.of(judged.original, cache_folder("originals")), mesh=court.mesh,
    )  # fmt: skip


def _own(judged: Judged, court: Court) -> tuple[Callable[[Progress], Judge], Wanted]:
    """Return the user's reference and the rows that it is asked about."""
    numerics = [numerics_named(name, court.on) for name in court.numerics or NUMERICS]
    if all(needs_own(number) for number in numerics):
        message = f"nothing is left to judge in {', '.join(number.name for number in numerics)}"
        help_ = (
            "below f32 the yardstick is what the original itself makes of a precision, which only "
            "transformers' classes can tell; judge in f32"
        )
        raise refuse("S554", message, help=help_)
    reference, wanted = _opened(judged, court)
    size = judged.graph.outputs[0].type.axes[-1].dim
    if reference.vocab_size != size:
        message = (
            f"`{reference.name}` has {reference.vocab_size} logits a token; the text has {size}"
        )
        raise refuse("S555", message)
    return partial(OwnOriginal, reference), wanted


def _opened(judged: Judged, court: Court) -> tuple[OwnReference, Wanted]:
    given, called, rows = court.own.reference, court.own.called, court.own.rows
    if isinstance(given, np.ndarray):
        return _logits(given, called or "an array of logits", rows)
    wanted = wanted_rows(judged.folder, rows)
    if isinstance(given, str):
        return load_function(given, court.foreign), wanted
    if not callable(given):
        raise refuse("S554", f"a {type(given).__name__} is no reference", help=FORMS)
    name = called or getattr(given, "__qualname__", type(given).__name__)
    return GivenFunction(name, given), wanted


def _logits(
    logits: npt.NDArray[Any], name: str, rows: OwnRows
) -> tuple[GivenLogits, Wanted]:  # fmt: skip
    """Return logits [B, S, V] or [S, V] as the reference of as many rows of tokens [B, S]."""
    check_format(logits, name)
    if not rows.tokens or rows.prompts:
        message = f"`{name}` has the logits of some rows of tokens, and these rows are not given"
        raise refuse("S554", message, help="give their tokens, [S] or [B, S], and no prompts")
    shape = logits.shape if logits.ndim == 3 else (1, *logits.shape)
    lengths = {len(row) for row in rows.tokens}
    if logits.ndim not in {2, 3} or len(lengths) != 1 or shape[:2] != (len(rows.tokens), *lengths):
        tokens = f"{len(rows.tokens)} rows of {' and '.join(map(str, sorted(lengths)))} tokens"
        message = f"`{name}` is {list(logits.shape)}; there are {tokens}"
        raise refuse(
            "S555", message, help="logits are [B, S, V] for tokens [B, S], or [S, V] for [S]"
        )
    named = tuple(Row(f"own tokens {n}", tokens) for n, tokens in enumerate(rows.tokens, 1))
    return GivenLogits(name, rows.tokens, logits.reshape(shape)), Wanted(named, alone=True)
