"""Replace the files of a directory together: a crash, a full disk or a kill leaves the old set or the new one.

It knows nothing of what the files hold. A directory that also holds other files keeps them; its own are then exchanged
one by one and put back when that fails, since no file system call exchanges several names at once.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def replace_directory(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make a directory hold these files, all of them or none; raises `OSError` and leaves it as it was."""
    target = directory.resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(20, "not a directory", str(directory))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as work:
        staged = Path(work, "new")
        staged.mkdir()
        for name, content in files.items():
            _write(staged / name, content)
        _sync(staged)
        _install(staged, target, tuple(files))
    _sync(target.parent)


def replace_file(path: Path, save: Callable[[BinaryIO], None]) -> None:
    """Make a file hold what `save` writes, or leave it as it was; raises `OSError`."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        staged.chmod(0o644)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)
    _sync(target.parent)


def _install(staged: Path, target: Path, names: tuple[str, ...]) -> None:
    if not target.exists():
        staged.rename(target)
        return
    if {path.name for path in target.iterdir()} <= set(names):
        shutil.copymode(target, staged)
        if _exchange(staged, target):
            return
    _replace_each(staged, target, names)
    _sync(target)


def _replace_each(staged: Path, target: Path, names: Iterable[str]) -> None:
    """Move files into a directory one by one, and put the old ones back when one fails."""
    kept = staged.parent / "old"
    kept.mkdir()
    moved: list[str] = []
    try:
        for name in names:
            if os.path.lexists(target / name):
                (target / name).rename(kept / name)
            moved.append(name)
            (staged / name).rename(target / name)
    except OSError:
        for name in moved:
            (target / name).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                (kept / name).rename(target / name)
        raise


def _exchange(a: Path, b: Path) -> bool:
    """Swap two directories in one step; tell whether this system can."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
