# SPDX-License-Identifier: Apache-2.0
"""Check `.sohu` texts and files: families, blocks, and ports. What is wrong is a value, never an exception.

Binds nothing that is not bound, and reads no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused, Severity
from dsl.inference.inference import Checked, check_block
from dsl.inference.inference import check as check_family
from dsl.linking.program import Program
from dsl.source import Source
from dsl.text.schedules import is_schedule
from porting.planning.library import (
    SUFFIX,
    holds_schedule,
    load_program,
    read_schedule_text,
    text_program,
)

TEXT = "<text>"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What checking one file gave."""

    path: Path
    names: tuple[str, ...]
    paths: int
    diagnostics: tuple[Diagnostic, ...]

    @property
    def refused(self) -> bool:
        """Tell whether the file is refused."""
        return any(d.severity is Severity.ERROR for d in self.diagnostics)

    def summary(self) -> str:
        """Return one line for a file that is sound."""
        ways = f", {self.paths} combinations of conditions" if self.paths > 1 else ""
        return f"{self.path}: ok ({', '.join(self.names)}{ways})"

    def as_dict(self) -> dict[str, object]:
        """Return the outcome as JSON data."""
        return {
            "path": str(self.path),
            "verdict": "refused" if self.refused else "pass",
            "declares": list(self.names),
            "paths": self.paths,
        }


def check(source: str | Path) -> tuple[Diagnostic, ...]:
    """Return every diagnostic of a `.sohu` text or file, errors and warnings; none for a sound one.

    A `Path` names a file, and so does a `str` of one line that ends in `.sohu`, which no text does; any other `str` is
    a text, whose `use` is looked up in the zoo alone. A file that cannot be read is a diagnostic too.
    """
    if isinstance(source, str) and is_schedule(source):
        return check_text(Source(TEXT, source), Path()).diagnostics
    if isinstance(source, str) and not is_path(source):
        try:
            return tuple(d for c in _checked(text_program(source, TEXT)) for d in c.diagnostics)
        except Refused as refused:
            return refused.diagnostics
    return check_file(Path(source)).diagnostics


def is_path(source: str) -> bool:
    """Tell whether a string names a file, rather than being a text itself."""
    return source.endswith(SUFFIX) and "\n" not in source


def check_file(path: Path) -> Outcome:
    """Check every family and block that a file declares, or every collective."""
    if holds_schedule(path):
        return _schedule(path, lambda: read_schedule_text(path, str(path)))
    return _outcome(path, lambda: load_program(path))


def check_text(source: Source, beside: Path) -> Outcome:
    """Check a text that is in no file, whose `use` is looked up in a folder and in the zoo."""
    if is_schedule(source.text):
        return _schedule(Path(source.name), lambda: source)
    return _outcome(Path(source.name), lambda: text_program(source.text, source.name, beside))


def _outcome(path: Path, load: Callable[[], Program]) -> Outcome:
    try:
        program = load()
    except Refused as refused:
        return Outcome(path, (), 0, refused.diagnostics)
    checked = _checked(program)
    names = [f"family {f.name.id}" for f in program.families]
    names += [f"part {p.name.id}" for p in program.file.parts]
    names += [f"block {b.name.id}" for b in program.file.blocks]
    diagnostics = tuple(d for c in checked for d in c.diagnostics)
    return Outcome(path, tuple(names), sum(c.paths for c in checked), diagnostics)


def _schedule(path: Path, read: Callable[[], Source]) -> Outcome:
    """Return what the proofs of a text's collectives say."""
    from device_model.collectives.text import read_programs  # noqa: PLC0415 - other texts start without
    from device_model.collectives.verify import verify  # noqa: PLC0415

    try:
        topologies, written = read_programs(read())
    except Refused as refused:
        return Outcome(path, (), 0, refused.diagnostics)
    names = [f"topology {name}" for name in topologies]
    names += [f"{w.program.operation} over {w.program.topology.name}" for w in written]
    diagnostics = tuple(d for w in written for d in verify(w.program, w.where).faults)
    return Outcome(path, tuple(names), 0, diagnostics)


def _checked(program: Program) -> list[Checked]:
    """Return what inference says of each family, or of each block where there is none."""
    if program.families:
        return [check_family(family, program.blocks) for family in program.families]
    return [check_block(block, program.blocks) for block in program.file.blocks]
