# SPDX-License-Identifier: Apache-2.0
"""Read a port's folder back: its report, and whether its text is still the one that `port` wrote there.

An edited text is somebody's work. What it says is nobody's affair here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from dsl.regular_file import TooLarge, is_there, open_regular, read_at_most, read_regular
from porting.files.files import part_of
from porting.report.model import JSON_NAME, SPEC_NAME

MAX_REPORT_BYTES = 64 * 2**20
MAX_TEXT_BYTES = 2**26
"""A text beyond this was written by nobody here."""
DIGEST = "text_sha256"
CHOICE = (
    "--out names another folder, --force writes over it; `sohu validate` judges it as it stands"
)


def digest_of(text: bytes) -> str:
    """Return the digest by which a report knows the text beside it."""
    return hashlib.sha256(text).hexdigest()


def read_report(folder: Path) -> dict[str, object]:
    """Return the report of a port as JSON data; raises `Refused` (S531) where it cannot be read."""
    path = part_of(folder, JSON_NAME)
    try:
        data = json.loads(read_regular(path, MAX_REPORT_BYTES))
    except TooLarge as error:
        raise refuse("S531", f"{JSON_NAME} is {error.strerror}") from error
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        message = f"{JSON_NAME} of the port cannot be read: {why}"
        raise refuse("S531", message, help="port the model again") from error
    return data if isinstance(data, dict) else {}


def is_edited(text: str, report: dict[str, object]) -> bool:
    """Tell whether a text differs from the one that its report was written with; older reports do not know theirs."""
    known = report.get(DIGEST)
    return isinstance(known, str) and known != digest_of(text.encode())


def keep_edits(folder: Path, text: str) -> None:
    """Refuse (S557) to write a text over one that `port` did not write: edited since, or known to no report.

    What would be written anyway may always be written.
    """
    path = folder / SPEC_NAME
    if not is_there(path):
        return
    try:
        with open_regular(path, follow=False) as stream:
            there = digest_of(read_at_most(stream, MAX_TEXT_BYTES))
    except OSError as error:
        raise refuse("S557", f"`{path}` is no file that port wrote", help=CHOICE) from error
    if there == digest_of(text.encode()):
        return
    try:
        known = read_report(folder).get(DIGEST)
    except Refused:
        known = None
    if known is None:
        raise refuse(
            "S557", f"`{path}` is there, and no report says that port wrote it", help=CHOICE
        )
    if known != there:
        raise refuse("S557", f"`{path}` was edited since port wrote it", help=CHOICE)
