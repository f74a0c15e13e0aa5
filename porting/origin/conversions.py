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
from porting.files.files import find_file
from porting.files.strict_json import shown

# Raised when the same file would be converted differently.
CONVERSION = 4
RECORD = "conversion.json"
MAX_RECORD = 2**20
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_folder(room: str) -> Path:
    """Return where something is kept: a room of $SOHU_CACHE or of the user's cache folder."""
    if own := os.environ.get("SOHU_CACHE"):
        return Path(own) / room
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sohu" / room


def recorded(target: Path) -> tuple[str, ...] | None:
    """Return the notes of a finished conversion, nothing if there is none by this version and this user."""
    if not (_is_own(target.parent) and _is_own(target)):
        return None
    try:
        if not all(_is_own(path, stat.S_ISREG) for path in target.iterdir()):
            return None
        file = find_file(target, RECORD)
        record = json.loads(file.read(MAX_RECORD)) if file is not None else None
    except (OSError, ValueError, RecursionError, Refused):
        return None
    if not isinstance(record, dict):
        return None
    notes = record.get("notes")
    if (record.get("conversion"), record.get("sha256")) != (CONVERSION, target.name):
        return None
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        return None
    return tuple(notes)


def build(target: Path, name: str, write: Callable[[Path], tuple[str, ...]]) -> tuple[str, ...]:
    """Make a conversion by what writes it into a folder, and return its notes; nothing is left of one that fails."""
    try:
        _own_room(target.parent)
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


def _is_own(path: Path, kind: Callable[[int], bool] = stat.S_ISDIR) -> bool:
    """Tell whether a folder or file is this user's or root's, is no link, and nobody else can write it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    is_closed = not status.st_mode & OTHERS_WRITE
    return kind(status.st_mode) and is_closed and status.st_uid in (0, os.geteuid())


def _own_room(room: Path) -> None:
    """Make the room where conversions are kept; refuse one that others can write."""
    room.parent.mkdir(parents=True, exist_ok=True)
    room.mkdir(mode=0o700, exist_ok=True)
    status = room.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        # One made by an earlier version may be open to a group.
        room.chmod(stat.S_IMODE(status.st_mode) & ~OTHERS_WRITE)
    if not _is_own(room):
        message = "the cache folder for converted models is a link, or can be written by others"
        raise refuse("S575", message, help="set SOHU_CACHE to a folder of your own")


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
