# SPDX-License-Identifier: Apache-2.0
"""Folders whose files can be believed: this user's own (or the system's), which nobody else can write.

What is kept there is run as code or taken for a checked model, so that a file somebody else could have put there is as
good as none. Nothing here knows what is kept. Where there is no such folder, callers do without one.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from dsl.regular_file import FLAGS, read_at_most

PRIVATE = 0o700
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
SYSTEM = 0


def user_cache(room: str) -> Path | None:
    """Return where something of this user is kept: a room of $SOHU_CACHE or of the cache; None without a home."""
    if own := os.environ.get("SOHU_CACHE"):
        return Path(own) / room
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "sohu" / room
    try:
        return Path.home() / ".cache" / "sohu" / room
    except RuntimeError:  # no HOME, and a user whom the system does not know
        return None


def own_folder(path: Path) -> Path | None:
    """Return the real path of a folder that is this user's own, made where it is missing, None where it is not."""
    with suppress(OSError, ValueError, RuntimeError):
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=PRIVATE, exist_ok=True)
        descriptor = _opened(path)
        os.close(descriptor)
        return path.resolve()
    return None


def is_own_folder(path: Path) -> bool:
    """Tell whether there is a folder of this user's own, which nobody else can write; makes none."""
    with suppress(OSError, ValueError, RuntimeError):
        os.close(_opened(path))
        return True
    return False


def read_own(path: Path, limit: int) -> bytes:
    """Return the bytes of a file in such a folder; raises `OSError` where file or folder could be another's.

    The file is opened in the folder that was looked at, whatever takes the folder's name meanwhile.
    """
    folder = _opened(path.parent)
    try:
        descriptor = os.open(path.name, FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        _check(status, path)
        return read_at_most(stream, limit)


def _opened(path: Path) -> int:
    """Open a folder that nobody else can write; a link to it must be as trustworthy as the folder."""
    link = path.lstat()
    if stat.S_ISLNK(link.st_mode):
        _check_owner(link, path)
        path = path.resolve(strict=True)
    descriptor = os.open(path, FLAGS | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _check(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, path: Path) -> None:
    _check_owner(status, path)
    if status.st_mode & OTHERS_WRITE:
        raise PermissionError(errno.EPERM, "others can write it", str(path))


def _check_owner(status: os.stat_result, path: Path) -> None:
    if status.st_uid not in (os.geteuid(), SYSTEM):
        raise PermissionError(errno.EPERM, "it belongs to somebody else", str(path))
