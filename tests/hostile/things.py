# SPDX-License-Identifier: Apache-2.0
"""What a name may be besides a file with bytes: a pipe, a device, a link, a file of holes, a folder, a socket.

Each knows how to put itself at a path. Nothing here knows who reads it.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ZERO, FULL = 5, 7
MEMORY_DEVICES = 1


@dataclass(frozen=True, slots=True)
class Pipe:
    """A named pipe that nobody writes to: opening it waits for ever."""

    def put(self, path: Path) -> None:
        """Make it."""
        os.mkfifo(path)


@dataclass(frozen=True, slots=True)
class Device:
    """A device without an end; a link to the system's where this user may make none."""

    minor: int = ZERO

    def put(self, path: Path) -> None:
        """Make it."""
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(MEMORY_DEVICES, self.minor))
        except PermissionError:
            path.symlink_to({ZERO: "/dev/zero", FULL: "/dev/full"}[self.minor])


@dataclass(frozen=True, slots=True)
class LinkTo:
    """A link: to a device, to itself, to nothing, out of the folder."""

    target: str

    def put(self, path: Path) -> None:
        """Make it."""
        path.symlink_to(self.target)


@dataclass(frozen=True, slots=True)
class Sparse:
    """A file that begins with some bytes and has a size; the rest are holes."""

    head: bytes
    size: int

    def put(self, path: Path) -> None:
        """Make it."""
        path.write_bytes(self.head)
        os.truncate(path, self.size)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder where a file is expected."""

    def put(self, path: Path) -> None:
        """Make it."""
        path.mkdir()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file that its reader may not open; only the system's user may."""

    content: bytes

    def put(self, path: Path) -> None:
        """Make it."""
        path.write_bytes(self.content)
        path.chmod(0)


@dataclass(frozen=True, slots=True)
class Plug:
    """A socket's name."""

    def put(self, path: Path) -> None:
        """Make it; a socket has room for a short name only."""
        before = Path.cwd()
        os.chdir(path.parent)
        try:
            with socket.socket(socket.AF_UNIX) as plug:
                plug.bind(path.name)
        finally:
            os.chdir(before)


@dataclass(frozen=True, slots=True)
class CopyOf:
    """A copy of another folder of the case, under this name."""

    folder: str

    def put(self, path: Path) -> None:
        """Make it."""
        shutil.copytree(path.parent / self.folder, path)


Thing: TypeAlias = Pipe | Device | LinkTo | Sparse | Folder | Sealed | Plug | CopyOf
Content: TypeAlias = bytes | Thing


def put_all(case: Path, files: Mapping[str, Content]) -> None:
    """Put files and things into a case, in place of what is there."""
    for name, content in files.items():
        path = case / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.put(path)
