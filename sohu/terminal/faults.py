# SPDX-License-Identifier: Apache-2.0
"""What a command says of a fault of its own: one line, and a file with the rest of it.

A fault is never the user's, whatever the input was. It keeps an exit status to itself, so that nobody takes it for a
verdict. Decides nothing about commands.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dsl.diagnostics import Diagnostic
from dsl.own_folder import own_folder, user_cache

MAX_SHOWN = 200
MOST_KEPT = 20
REPORT = "please report it with that file; the input did not need to be right for this to be wrong"


def fault(error: BaseException) -> Diagnostic:
    """Return what to say of an exception that nothing expected; its traceback is saved where this user keeps things."""
    reason = str(error).splitlines()
    words = f"{type(error).__name__}: {reason[0] if reason else 'no reason'}"[:MAX_SHOWN]
    saved = _saved("".join(traceback.format_exception(error)))
    note = f"the traceback is in {saved}" if saved else "the traceback could not be saved"
    return Diagnostic("S999", f"internal fault, {words}", notes=(note,), help=REPORT)


def _saved(text: str) -> Path | None:
    cache = user_cache("faults")
    folder = None if cache is None else own_folder(cache)
    if folder is None:
        return None
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    with suppress(OSError, UnicodeError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(
            os.open(path, flags, 0o600), "w", encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
        for old in list(_oldest(folder))[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
        return path
    return None


def _oldest(folder: Path) -> Iterator[Path]:
    """Yield what was saved, the oldest first: names begin with the time."""
    yield from sorted(path for path in folder.iterdir() if path.suffix == ".txt")
