# SPDX-License-Identifier: Apache-2.0
"""`sohu diff DIR` for the command line: compare, write the reproduction, show the parts and the guilty operation."""

from __future__ import annotations

from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused, Severity, render
from porting.checkpoint import accounting
from porting.diff.departure import Departure, compare, reproduced
from porting.diff.search import Guilty
from porting.files.progress import Progress
from porting.original.reference import Reference
from porting.pipeline import Stages, open_checkpoint, read_port
from porting.report.proof import Proof
from porting.verdict.feeding import RAGGED_LENGTHS
from sohu.terminal import console

UNREADABLE = frozenset({"S560", "S562", "S563"})


def diff(folder: Path, progress: Progress) -> Departure:
    """Compare an existing port with its original model; raises `Refused` where it cannot run at all."""
    existing = read_port(folder)
    if existing.graph is None:
        raise Refused(existing.diagnostics)
    opened = open_checkpoint(existing, Stages(), progress)
    checkpoint = opened.checkpoint
    found = accounting.account(existing.graph, checkpoint.tensors, checkpoint)
    unreadable = [d for d in found.diagnostics if d.code in UNREADABLE]
    if unreadable:
        raise Refused(unreadable)
    model = Reference.load(opened.origin.original, "float64", progress)
    return reproduced(compare(existing.graph, checkpoint, model, progress), folder)


def proof(found: Departure) -> Proof:
    """Return what a comparison shows and what it does not."""
    tokens = RAGGED_LENGTHS[0]
    agree = sum(not part.guilty for part in found.parts)
    shown = (
        f"in f32, {agree} of {len(found.parts)} parts give the original's float64 result from its own input, on "
        f"{tokens} tokens"
    )
    return Proof(
        (shown,) if agree else (),
        (
            f"rows longer than {tokens} tokens, ragged batches and lower precisions: `port` and `validate` judge those",
            *(f"{part.name}: departs" for part in found.sources),
        ),
    )


def show(found: Departure) -> None:
    """Print every part, then what departs first."""
    rows = [
        (part.name, part.steps, f"{part.error:.1e}", "departs" if part.guilty else "agrees")
        for part in found.parts
    ]
    console.table("With the reference's own input", ("part", "fed", "error", ""), rows)
    if not found.sources:
        console.say(f"No operation departs from the reference over {RAGGED_LENGTHS[0]} tokens.")
        return
    first, *others = found.sources
    if first.guilty is not None:
        console.say(render(_finding(first.guilty, first.name, first.steps)))
    if others:
        names = ", ".join(part.name for part in others)
        console.say(
            f"\nSources as well: {names}. The other parts only pass on what they are given."
        )
    else:
        console.say("\nThe other parts only pass on what they are given.")
    if found.reproduction is not None:
        console.say(
            f"Alone in {found.reproduction}: python -m porting.diff.reproduction {found.reproduction}"
        )


def _finding(guilty: Guilty, part: str, steps: str) -> Diagnostic:
    near = "" if guilty.nearest == float("inf") else f"; the nearest is {guilty.nearest:.1e} away"
    message = f"`{guilty.op}` departs first, in {part}, fed {steps}"
    note = f"what it is given agrees with the reference, its result is nowhere in it{near}"
    return Diagnostic("S580", message, guilty.span, severity=Severity.ERROR, notes=(note,))
