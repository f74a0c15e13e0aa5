# SPDX-License-Identifier: Apache-2.0
"""Replace the files of a directory together: a crash, a full disk or a kill leaves the old set or the new one.

It knows nothing of what the files hold. A directory that also holds other files keeps them, as links in the new one;
one with folders in it has its files exchanged one by one, and put back when that fails: a kill may then leave files of
both sets, each of them whole.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from porting.files.bounds import may_write

STALE_SECONDS = 86_400
MAX_PREFIX = 100
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def replace_directory(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make a directory hold these files, all of them or none; raises `OSError` and leaves it as it was.

    Where files must be exchanged one by one the last of them comes last: a reader may know by it whether the others
    belong to it.
    """
    target = directory.resolve()
    _check_bounds(target)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(20, "not a directory", str(directory))
    for name in files:
        check_replaceable(target / name)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = _prefix(target)
    _sweep(target.parent, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as work:
        staged = Path(work, "new")
        staged.mkdir()
        for name, content in files.items():
            _write(staged / name, content)
        _sync(staged)
        _install(staged, target, tuple(files))
    _sync(target.parent)


def replace_file(path: Path, save: Callable[[BinaryIO], None]) -> None:
    """Make a file hold what `save` writes, or leave it as it was; raises `OSError`.

    A file that was there keeps its mode. What is no regular file is not replaced: a device's name would become that of
    a file. Nor is what a link in a stranger's folder leads to elsewhere, `/etc/passwd` say.
    """
    target = _target(path)
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = _prefix(target)
    _sweep(target.parent, prefix)
    handle, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        staged.chmod(mode)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)
    _sync(target.parent)


def check_writable(path: Path) -> None:
    """Raise `OSError` where `replace_file` is sure to fail, before work is done for it; writes nothing."""
    target = _target(path)
    there = next(parent for parent in target.parents if os.path.lexists(parent))
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"`{there}` is no folder", str(path))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"nothing may be written in `{there}`", str(path))


def _target(path: Path) -> Path:
    """Return the file that a path names and that may be replaced; raises `OSError` where it may not."""
    target = path.resolve()
    if path.is_symlink() and target.parent != path.parent.resolve():
        message = f"it is a link to `{target}`, which is in another folder"
        raise OSError(errno.EPERM, message, str(path))
    _check_bounds(target)
    check_replaceable(target)
    return target


def check_replaceable(path: Path) -> None:
    """Raise `OSError` where there is something that is no regular file: a folder, a device, a pipe."""
    if not os.path.lexists(path):
        return
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "there is something that is no regular file", str(path))


def _check_bounds(target: Path) -> None:
    if not may_write(target):
        message = "it is outside of the folder that this is limited to"
        raise OSError(errno.EPERM, message, str(target))


def _prefix(target: Path) -> str:
    return f".{target.name[:MAX_PREFIX]}.sohu-"


def _sweep(parent: Path, prefix: str) -> None:
    """Remove what killed runs of this user left here, once it is a day old."""
    with suppress(OSError):
        for left in parent.glob(f"{glob.escape(prefix)}*"):
            status = left.lstat()
            if status.st_uid != os.geteuid() or status.st_mtime > time.time() - STALE_SECONDS:
                continue
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _umask() -> int:
    """Return the mask of new files' modes; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _install(staged: Path, target: Path, names: tuple[str, ...]) -> None:
    if not target.exists():
        staged.rename(target)
        return
    others = [path for path in target.iterdir() if path.name not in names]
    if _linked(others, staged):
        shutil.copymode(target, staged)
        if _exchange(staged, target):
            _bring_back(staged, target, {*names, *(path.name for path in others)})
            return
        for path in others:
            (staged / path.name).unlink()
    _replace_each(staged, target, names)
    _sync(target)


def _linked(others: Iterable[Path], staged: Path) -> bool:
    """Give the new directory the old one's other files too; tell whether all of them could be."""
    made: list[Path] = []
    for path in others:
        try:
            if path.is_dir() and not path.is_symlink():
                raise IsADirectoryError
            os.link(path, staged / path.name, follow_symlinks=False)
        except OSError:
            for link in made:
                link.unlink()
            return False
        made.append(staged / path.name)
    return True


def _bring_back(old: Path, target: Path, known: Container[str]) -> None:
    """Move files that somebody put into the old directory meanwhile."""
    for path in old.iterdir():
        if path.name not in known and not os.path.lexists(target / path.name):
            path.rename(target / path.name)


def _replace_each(staged: Path, target: Path, names: Iterable[str]) -> None:
    """Move files into a directory one by one, and put the old ones back when one fails, or the user stops it."""
    kept = staged.parent / "old"
    kept.mkdir()
    moved: list[str] = []
    try:
        for name in names:
            moved.append(name)
            if os.path.lexists(target / name):
                os.link(target / name, kept / name, follow_symlinks=False)
            (staged / name).replace(target / name)
    except (OSError, KeyboardInterrupt):
        for name in moved:
            if os.path.lexists(kept / name):
                (kept / name).replace(target / name)
            elif not os.path.lexists(staged / name):
                (target / name).unlink(missing_ok=True)
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
