# SPDX-License-Identifier: Apache-2.0
"""Keep converted models in the user's cache, and believe only what nobody else can have put there.

A conversion is a folder with a record, under the sha256 of what it was made from; it appears at once and is this user's
own, as is the folder that it lies in. Knows nothing of what is converted.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from dsl.own_folder import (
    OTHERS_WRITE,
    PRIVATE,
    SYSTEM,
    is_own_folder,
    own_folder,
    read_own,
    user_cache,
)
from porting.files.strict_json import shown

# Raised when the same file would be converted differently.
CONVERSION = 4
RECORD = "conversion.json"
MAX_RECORD = 2**20
OWN_PLACE = "set SOHU_CACHE to a folder of your own"


def cache_folder(room: str) -> Path:
    """Return where something is kept; raises `Refused` (S575) for a user without a home."""
    folder = user_cache(room)
    if folder is None:
        raise refuse("S575", "there is no folder for a cache", help=OWN_PLACE)
    return folder


def recorded(target: Path) -> tuple[str, ...] | None:
    """Return the notes of a finished conversion, nothing if there is none by this version and this user."""
    if not (is_own_folder(target.parent) and is_own_folder(target)):
        return None
    try:
        if not all(_is_closed(path) for path in target.iterdir()):
            return None
        record = json.loads(read_own(target / RECORD, MAX_RECORD))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    notes = record.get("notes")
    if (record.get("conversion"), record.get("sha256")) != (CONVERSION, target.name):
        return None
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        return None
    return tuple(notes)


def build(
    target: Path, name: str, least: int, write: Callable[[Path], tuple[str, ...]]
) -> tuple[str, ...]:
    """Make a conversion by what writes it into a folder, and return its notes; nothing is left of one that fails.

    `least` are the bytes that it takes at the least: a file may promise more than there is room for.
    """
    try:
        _own_room(target.parent)
        _check_room(target.parent, name, least)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name[:16]}-", dir=target.parent))
    except OSError as error:
        raise _no_room(error) from error
    try:
        notes = write(work)
        record = {
            "conversion": CONVERSION,
            "sha256": target.name,
            "file": name,
            "notes": list(notes),
        }
        (work / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        _publish(work, target)
    except OSError as error:
        raise _no_room(error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return notes


def _is_closed(path: Path) -> bool:
    """Tell whether a file is a regular one that only its owner, this user or the system, can write."""
    status = path.lstat()
    is_trusted = status.st_uid in (SYSTEM, os.geteuid())
    return is_trusted and stat.S_ISREG(status.st_mode) and not status.st_mode & OTHERS_WRITE


def _own_room(room: Path) -> None:
    """Make the room where conversions are kept; refuse one that others can write."""
    if room.is_dir() and not room.is_symlink() and room.stat().st_uid == os.geteuid():
        # One made by an earlier version may be open to a group.
        room.chmod(stat.S_IMODE(room.stat().st_mode) & ~OTHERS_WRITE)
    room.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    if own_folder(room) is None:
        message = "the cache folder for converted models can be written by others"
        raise refuse("S575", message, help=OWN_PLACE)


def _check_room(room: Path, name: str, least: int) -> None:
    free = shutil.disk_usage(room).free
    if least > free:
        message = f"{name} takes {least:,} bytes of the cache or more, and {free:,} are free"
        raise refuse("S575", message, help="set SOHU_CACHE to a folder with room for it")


def _publish(work: Path, target: Path) -> None:
    """Put a finished folder in its place at once; keep the one that another process put there first."""
    for path in [*work.iterdir(), work]:
        if path != work:
            path.chmod(0o600)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if os.path.lexists(target) and recorded(target) is None:
        old = work.with_name(f"{work.name}-old")
        target.rename(old)
        _remove(old)
    try:
        work.rename(target)
    except OSError:
        if recorded(target) is None:
            raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _no_room(error: OSError) -> Refused:
    message = (
        f"the converted model cannot be written to the cache: {shown(error.strerror or str(error))}"
    )
    return refuse("S575", message, help="set SOHU_CACHE to a folder with room for it")
