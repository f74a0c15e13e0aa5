# SPDX-License-Identifier: Apache-2.0
"""What no argument of a command may be: text that is not UTF-8, and paths that can be no file's.

One look at all of them before a command begins, so that no reader has to expect such names. Whether a file is there is
the command's affair.
"""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused, refuse
from dsl.harmless import harmless
from dsl.regular_file import is_there

MAX_PATH, MAX_NAME, MAX_DEPTH = 4095, 255, 128
SHOWN = 80
OUTPUTS = ("logits", "out", "html", "trace")
"""Arguments that are files to be written."""
FOLDERS = ("port",)
"""Commands whose output is a folder, which they look at themselves."""


def check_arguments(options: argparse.Namespace) -> None:
    """Raise `Refused` where an argument is no text, or a path can be no file's name (S110)."""
    faults = tuple(
        Diagnostic("S110", f"`{harmless(str(value)[:SHOWN])}` {wrong}", place=_option(name))
        for name, value in _values(options)
        if (wrong := _wrong(value))
    )
    if faults:
        raise Refused(faults)


def check_outputs(options: argparse.Namespace) -> None:
    """Raise `Refused` (S530) for a file that the command would write at its end and cannot, before it begins."""
    given = {
        name: path for name in OUTPUTS if isinstance(path := getattr(options, name, None), Path)
    }
    if not given or options.command in FOLDERS:
        return
    from porting.files.atomic import check_writable  # noqa: PLC0415 - for a command that writes

    for name, path in given.items():
        try:
            check_writable(path)
        except OSError as error:
            message = f"cannot write `{path}`: {error.strerror}"
            raise refuse("S530", message, place=_option(name)) from None


def find_program(options: argparse.Namespace) -> None:
    """Put the zoo's text in the place of its name, where the program that is asked about is no file."""
    path = getattr(options, "path", None)
    if isinstance(path, Path) and not is_there(path):
        from porting.planning.library import named_text  # noqa: PLC0415 - reads texts, for a name alone

        options.path = named_text(path)


def _option(name: str) -> str:
    return name.replace("_", "-")


def _values(options: argparse.Namespace) -> Iterator[tuple[str, str | Path]]:
    for name, value in vars(options).items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, str | Path):
                yield name, part


def _wrong(value: str | Path) -> str | None:
    """Return what is wrong with an argument, None where nothing is."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return "is not UTF-8 text"
    return _wrong_path(value) if isinstance(value, Path) else None


def _wrong_path(path: Path) -> str | None:
    if "\0" in str(path):
        return "has a zero byte, which no file's name has"
    if len(os.fsencode(path)) > MAX_PATH or any(len(os.fsencode(p)) > MAX_NAME for p in path.parts):
        return f"is longer than a file's name can be: {MAX_PATH:,} bytes, {MAX_NAME} a folder"
    if len(path.parts) > MAX_DEPTH:
        return f"is more than {MAX_DEPTH} folders deep"
    try:
        path.stat()
    except OSError as error:
        return "is a link in a circle" if error.errno == errno.ELOOP else None
    return None
