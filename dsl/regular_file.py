# SPDX-License-Identifier: Apache-2.0
"""Read files that may be anything: regular files alone, at most so many bytes, and never a wait.

A name may be a pipe that nobody writes to, a device without an end, a link in a circle, or no name at all; each is an
`OSError` with words for people. What the bytes mean, and which code a refusal has, is the caller's affair. Nothing
else should open a file of a stranger's for reading.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
NO_NAME = "this can be no file's name"
NO_FILE = "not a regular file"


class TooLarge(OSError):
    """A file has more bytes than its reader takes."""


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; raises `OSError` for anything else.

    Without `follow` the last part of the path may be no link.
    """
    try:
        # Looked at before it is opened: opening a device may do something.
        _check(path.stat(follow_symlinks=follow), path)
        descriptor = os.open(path, FLAGS | (0 if follow else os.O_NOFOLLOW))
    except ValueError as error:  # a zero byte, or half of a character
        raise OSError(errno.EINVAL, NO_NAME) from error
    try:
        _check(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file; raises `OSError`, and `TooLarge` where there are more than the limit."""
    with open_regular(path) as stream:
        return read_at_most(stream, limit)


def read_at_most(stream: BinaryIO, limit: int) -> bytes:
    """Return what is left of a stream; raises `TooLarge` where there is more than the limit."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(errno.EFBIG, f"larger than {limit:,} bytes")
    return data


def read_shipped(path: Path) -> str:
    """Return a text that is part of a package; it is trusted as the code beside it is."""
    return path.read_text(encoding="utf-8")


def is_file(path: Path) -> bool:
    """Tell whether there is a regular file; what can be no file's name is none."""
    return os.path.isfile(path)  # noqa: PTH113 - unlike pathlib's, it never raises


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder; what can be no file's name is none."""
    return os.path.isdir(path)  # noqa: PTH112 - unlike pathlib's, it never raises


def is_there(path: Path) -> bool:
    """Tell whether there is anything; what can be no file's name is nothing."""
    return os.path.lexists(path)


def is_inside(path: Path, root: Path) -> bool:
    """Tell whether a path lies in a folder after links are followed; a circle of links lies nowhere."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _check(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a directory, not a file", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, NO_FILE, str(path))
