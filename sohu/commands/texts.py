# SPDX-License-Identifier: Apache-2.0
"""`sohu check` and `sohu fmt`: every text that is asked about, in files, in folders, on standard input.

Binds nothing. A folder is a port, or has texts in it or below; what a link leads to outside of it is refused.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import refuse
from dsl.regular_file import is_folder
from dsl.source import Source
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from dsl.text.schedules import format_schedule, is_schedule
from porting.files.files import part_of
from porting.planning.bound import SPEC_NAME
from porting.planning.library import (
    SUFFIX,
    holds_schedule,
    named_text,
    read_schedule_text,
    read_source,
    read_stream,
    write_text,
)
from sohu.api.checking import Outcome, check_file, check_text
from sohu.terminal import console

STANDARD_INPUT, STREAM = Path("-"), "<stdin>"
MAX_TEXTS = 10_000
OK, FAILED, REFUSED = 0, 1, 2


def check(options: argparse.Namespace) -> int:
    """Check texts; each is looked at, whatever is wrong with the others."""
    outcomes = [_checked(path) for path in texts_in(options.files, names=True)]
    failed = any(o.refused for o in outcomes)
    if options.json:
        console.emit(
            {
                "verdict": "refused" if failed else "pass",
                "files": [o.as_dict() for o in outcomes],
                "diagnostics": [d.as_dict() for o in outcomes for d in o.diagnostics],
            }
        )
        return REFUSED if failed else OK
    for outcome in outcomes:
        console.diagnostics(outcome.diagnostics)
        if not outcome.refused:
            console.say(outcome.summary())
    return REFUSED if failed else OK


def _checked(path: Path) -> Outcome:
    return check_text(_stream(), Path()) if path == STANDARD_INPUT else check_file(path)


@dataclass(frozen=True, slots=True)
class Formatted:
    """A text in the canonical layout; `changed` where it was in another."""

    path: Path
    text: str
    changed: bool


def fmt(options: argparse.Namespace) -> int:
    """Rewrite files in the canonical layout, or tell which would change; standard input goes to standard output."""
    done = [_formatted(path) for path in texts_in(options.files, names=False)]
    changed = [str(one.path) for one in done if one.changed]
    if not options.check:
        for one in done:
            if one.changed and one.path != Path(STREAM):
                write_text(one.path, one.text)
    verdict = FAILED if changed and options.check else OK
    streamed = [one.text for one in done if one.path == Path(STREAM) and not options.check]
    if options.json:
        data: dict[str, object] = {"verdict": "fail" if verdict else "pass", "changed": changed}
        console.emit(data | ({"text": streamed[0]} if streamed else {}))
        return verdict
    for text in streamed:
        console.hand_on(text)
    for path in changed:
        if not streamed or path != STREAM:
            console.say(f"{'would change' if options.check else 'formatted'} {path}")
    return verdict


def _formatted(path: Path) -> Formatted:
    streamed = path == STANDARD_INPUT
    source = _stream() if streamed else _read(path)
    schedule = is_schedule(source.text)
    text = format_schedule(source) if schedule else format_file(parse(source))
    return Formatted(Path(STREAM) if streamed else path, text, text != source.text)


def _read(path: Path) -> Source:
    return (read_schedule_text if holds_schedule(path) else read_source)(path, str(path))


def _stream() -> Source:
    if sys.stdin is None or sys.stdin.closed:
        raise refuse("S108", "standard input is closed", place=STREAM)
    return read_stream(sys.stdin.buffer, STREAM)


def texts_in(paths: Sequence[Path], *, names: bool) -> Iterator[Path]:
    """Yield the files that are meant by files, folders and, where `names` may be given, names of the zoo's texts.

    Raises `Refused` for a folder without a text (S108), and for a link that leads out of one (S512).
    """
    for path in paths:
        if is_folder(path):
            yield from _below(path)
        else:
            yield named_text(path) if names and path != STANDARD_INPUT else path


def _below(folder: Path) -> Iterator[Path]:
    if is_folder(folder) and os.path.lexists(folder / SPEC_NAME):
        yield part_of(folder, SPEC_NAME)
        return
    count = 0
    for inner, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if name.endswith(SUFFIX)):
            count += 1
            if count > MAX_TEXTS:
                message = f"the folder has more than {MAX_TEXTS:,} texts"
                raise refuse("S108", message, place=str(folder), help="name its parts")
            yield part_of(folder, str((Path(inner) / name).relative_to(folder)))
    if not count:
        help_ = "`sohu port FOLDER --plan` makes the text of a model"
        raise refuse("S108", f"the folder has no {SUFFIX} file", place=str(folder), help=help_)
