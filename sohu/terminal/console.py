# SPDX-License-Identifier: Apache-2.0
"""What people and programs see of a command: text, tables, progress bars, diagnostics, JSON.

Results go to standard output, everything else to standard error. This is the one place that prints, and nothing in
what it prints is obeyed by a terminal. Decides nothing.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TextIO

from dsl.diagnostics import Diagnostic, Refused, refuse, render
from dsl.harmless import harmless, harmless_json
from porting.files.progress import Progress
from sohu.terminal.progress import lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from porting.report.model import Report, Validation


def say(*words: object, end: str = "\n", error: bool = False, flush: bool = False) -> None:
    """Print words, to standard error where that is asked for; raises `Refused` where a full disk takes none."""
    _print(
        harmless(" ".join(map(str, words))), end, sys.stderr if error else sys.stdout, flush=flush
    )


def hand_on(text: str) -> None:
    """Print a text as it is for whoever reads standard output, and as it may be shown where that is a terminal."""
    _print(harmless(text) if sys.stdout.isatty() else text, "", sys.stdout)


def _print(text: str, end: str, stream: TextIO, *, flush: bool = False) -> None:
    try:
        print(text, end=end, file=stream, flush=flush)
    except BrokenPipeError:
        raise
    except OSError as fault:
        raise unwritable(fault) from fault


def finish() -> None:
    """Hand on what was printed; raises `Refused` where it cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as fault:
        raise unwritable(fault) from fault


def unwritable(fault: OSError) -> Refused:
    """Return the refusal of output that nobody takes."""
    abandon()
    return refuse("S530", f"standard output cannot be written: {fault.strerror}")


def note(text: str) -> None:
    """Print a note to standard error."""
    say(f"note: {text}", error=True)


def abandon() -> None:
    """Let what is still to be printed go nowhere.

    Python writes it at its end, and would fail with a status of its own.
    """
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def diagnostics(found: Sequence[Diagnostic]) -> None:
    """Print diagnostics to standard error, a blank line after each."""
    for diagnostic in found:
        say(f"{render(diagnostic)}\n", error=True)


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


def misused(message: str, help: str, parser: argparse.ArgumentParser, *, json: bool) -> None:
    """Print what is wrong with arguments and how the command is used, and as JSON where that is asked for."""
    diagnostic = Diagnostic("S111", message, place=parser.prog, help=help)
    if json:
        emit({"verdict": "refused", "diagnostics": [diagnostic.as_dict()]})
        return
    diagnostics([diagnostic])
    say(parser.format_usage(), end="", error=True)


def faulty(fault: Diagnostic, options: argparse.Namespace) -> None:
    """Print a fault of ours, and as JSON where that is asked for; a stream that is closed hears nothing."""
    with suppress(OSError, ValueError, Refused):
        say(f"{render(fault)}\n", error=True)
        if getattr(options, "json", False):
            emit({"verdict": "fault", "diagnostics": [fault.as_dict()]})


def interrupted() -> None:
    """Say that the user stopped the command."""
    say("interrupted", error=True)


def emit(data: Mapping[str, object]) -> None:
    """Print one JSON object."""
    say(harmless_json(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)))


@contextmanager
def bars(quiet: bool) -> Iterator[Progress]:
    """Show a progress bar for every stage that reports, on standard error; lines where that is no terminal.

    What follows a colon in a stage says what is being done now, and is shown on the stage's own bar.
    """
    if quiet or sys.stderr is None:
        yield lambda _stage, _done, _total: None
        return
    if not sys.stderr.isatty():
        with lines(_logged) as told:
            yield told
        return
    from rich.progress import (  # noqa: PLC0415 - the light commands start without rich
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=_console(error=True)) as shown:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int) -> None:
            stage = harmless(stage)
            name, _, _ = stage.partition(":")
            if name not in tasks:
                tasks[name] = shown.add_task(stage, total=total)
            shown.update(tasks[name], description=stage, completed=done, total=total)

        yield advance


def _logged(line: str) -> None:
    """Print a line of a log at once; a log that takes none is not the work's affair."""
    print(harmless(line), file=sys.stderr, flush=True)


def table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)
) -> None:
    """Print a table; columns are numbers or short words, right-aligned, apart from those named in `left`."""
    from rich.table import Table  # noqa: PLC0415 - the light commands start without rich
    from rich.text import Text  # noqa: PLC0415

    shown = Table(title=Text(harmless(title)), title_justify="left", header_style="bold")
    for i, head in enumerate(heads):
        justify: Literal["left", "right"] = "left" if i in left else "right"
        shown.add_column(Text(harmless(head)), justify=justify, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(harmless(cell)) for cell in row))
    try:
        _console(error=False).print(shown)
    except BrokenPipeError:
        raise
    except OSError as fault:
        raise unwritable(fault) from fault


def _console(*, error: bool) -> Console:
    """Return a console of rich's that leaves a closed pipe to the command, as `print` does."""
    from rich.console import Console  # noqa: PLC0415 - the light commands start without rich

    class Passing(Console):
        """Rich's own would end the process with the status of a failed verdict."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    # A log has no width of its own; formulas there should not be cut to that of a terminal.
    return Passing(stderr=error, width=None if error or sys.stdout.isatty() else 140)


def judged(validation: Validation) -> None:
    """Print on how many tokens a port was judged, across which lengths, and which choices were near a tie."""
    rows = Counter(row.name.split(" ")[0] for row in validation.rows)
    named = ", ".join(f"{n} {name}" for name, n in rows.items())
    say(f"judged: {validation.tokens:,} tokens in {len(validation.rows)} rows ({named})")
    for where in dict.fromkeys(x.crossed for x in validation.lengths):
        lengths = [f"{x.length:,} ({x.what})" for x in validation.lengths if x.crossed == where]
        words = f"crossed on {where}" if where else "not crossed, too long for this model"
        say(f"lengths {words}: {', '.join(lengths)}")
    for mesh in dict.fromkeys(case.mesh for case in validation.meshes):
        own = [case for case in validation.meshes if case.mesh == mesh]
        ways = ", ".join(dict.fromkeys(case.numerics for case in own))
        if all(case.same_bits for case in own):
            modes = ", ".join(dict.fromkeys(case.mode for case in own))
            say(f"on {mesh}: same bits as one chip, in {ways}: {modes}")
        for case in own:
            if not case.same_bits:
                say(
                    f"on {mesh}: other bits than one chip, {case.mode} in {case.numerics}: {case.differs}"
                )
    for pins in validation.pins:
        say(
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
        say(f"note: {note}")
    seconds = ", ".join(f"{stage} {s:.1f}" for stage, s in found.timing.items())
    say(f"seconds: {seconds}; {sum(found.timing.values()):.1f} in all")
    weights = found.memory.weights_bytes
    if weights is not None:
        growth = found.memory.growth
        state = "" if growth is None else f"; state: {growth.text()}"
        say(f"weights: {weights:,} bytes{state}")
    say(f"verdict: {found.verdict.value}")
