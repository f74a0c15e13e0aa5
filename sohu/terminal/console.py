"""What people and programs see of a command: tables, progress bars, diagnostics, JSON.

Results go to standard output, everything else to standard error. Decides nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dsl.diagnostics import Diagnostic, Refused, render
from porting.files.progress import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

    from porting.report.model import Report, Validation


def diagnostics(found: Sequence[Diagnostic]) -> None:
    """Print diagnostics to standard error, a blank line after each."""
    for diagnostic in found:
        print(f"{render(diagnostic)}\n", file=sys.stderr)


def refused(error: Refused, options: argparse.Namespace) -> None:
    """Print why an input is refused, as text, and as the JSON report where that is asked for."""
    if not getattr(options, "json", False):
        diagnostics(error.diagnostics)
        return
    if options.command == "port":
        from porting.pipeline import refused_report  # noqa: PLC0415 - needs the report's libraries

        emit(refused_report(options.model, error).to_dict())
        return
    emit({"verdict": "refused", "diagnostics": [d.as_dict() for d in error.diagnostics]})


def interrupted() -> None:
    """Say that the user stopped the command."""
    print("interrupted", file=sys.stderr)


def emit(data: Mapping[str, object]) -> None:
    """Print one JSON object."""
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


@contextmanager
def bars(quiet: bool) -> Iterator[Progress]:
    """Show a progress bar for every stage that reports, on standard error.

    What follows a colon in a stage says what is being done now, and is shown on the stage's own bar.
    """
    if quiet:
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415 - the light commands start without rich
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as shown:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int) -> None:
            name, _, _ = stage.partition(":")
            if name not in tasks:
                tasks[name] = shown.add_task(stage, total=total)
            shown.update(tasks[name], description=stage, completed=done, total=total)

        yield advance


def table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)
) -> None:
    """Print a table; columns are numbers or short words, right-aligned, apart from those named in `left`."""
    from rich.console import Console  # noqa: PLC0415 - the light commands start without rich
    from rich.table import Table  # noqa: PLC0415

    shown = Table(title=title, title_justify="left", header_style="bold")
    for i, head in enumerate(heads):
        shown.add_column(head, justify="left" if i in left else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    # A log has no width of its own; formulas there should not be cut to that of a terminal.
    Console(width=None if sys.stdout.isatty() else 140).print(shown)


def judged(validation: Validation) -> None:
    """Print on how many tokens a port was judged, across which lengths, and which choices were near a tie."""
    rows = Counter(row.name.split(" ")[0] for row in validation.rows)
    named = ", ".join(f"{n} {name}" for name, n in rows.items())
    print(f"judged: {validation.tokens:,} tokens in {len(validation.rows)} rows ({named})")
    for where in dict.fromkeys(x.crossed for x in validation.lengths):
        lengths = [f"{x.length:,} ({x.what})" for x in validation.lengths if x.crossed == where]
        words = f"crossed on {where}" if where else "not crossed, too long for this model"
        print(f"lengths {words}: {', '.join(lengths)}")
    for pins in validation.pins:
        print(
            f"choices, {pins.numerics}: {pins.close:,} of {pins.decisions:,} near a tie, judged as the truth chooses; "
            f"{pins.differed:,} would have differed"
        )


def report(found: Report) -> None:
    """Print what a person wants to know of a port: cases, memory, time, verdict."""
    diagnostics(found.diagnostics)
    if found.validation.cases:
        rows = [
            (
                case.mode,
                case.numerics,
                f"{case.tokens:,}",
                f"{case.error:.2e}",
                "–" if case.reference is None else f"{case.reference:.2e}",
                f"{case.limit:.2e}",
                "–" if case.top1 is None else f"{case.top1:.1%}",
                "pass" if case.passed else "FAIL",
            )
            for case in found.validation.cases
        ]
        heads = ("mode", "numerics", "tokens", "error", "reference", "limit", "top-1", "")
        table("Error of the logits relative to float64", heads, rows)
        judged(found.validation)
    for note in found.validation.text:
        print(f"note: {note}")
    seconds = ", ".join(f"{stage} {s:.1f}" for stage, s in found.timing.items())
    print(f"seconds: {seconds}; {sum(found.timing.values()):.1f} in all")
    weights = found.memory.weights_bytes
    if weights is not None:
        growth = found.memory.growth
        state = "" if growth is None else f"; state: {growth.text()}"
        print(f"weights: {weights:,} bytes{state}")
    print(f"verdict: {found.verdict.value}")
