# SPDX-License-Identifier: Apache-2.0
"""Open files of a model folder: plain names only, no way out of the folder, regular files, size limits.

Every reader of a checkpoint goes through here. What the bytes mean is the reader's affair.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dsl.diagnostics import refuse
from dsl.regular_file import is_inside, open_regular
from porting.files.strict_json import shown

MAX_NAME = 255
CONFIG = "config.json"
CONFIG_SUFFIX = ".json"


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Refuse (S513) a file that fails while it is read or mapped: a bad disk, a lost mount, no address space."""
    try:
        yield
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror or type(error).__name__}"
        raise refuse("S513", message, place=name) from error


NO_IDENTITY: tuple[int, ...] = ()


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A regular file of a model folder: its name there, where it really is, and its size.

    Whenever it is opened it must be the file that was found, so that what was checked is what is read.
    """

    name: str
    path: Path
    size: int
    identity: tuple[int, ...] = NO_IDENTITY

    def open(self) -> BinaryIO:
        """Open the file for reading; a link or a pipe put in its place since is not followed."""
        with reading(self.name):
            stream = open_regular(self.path, follow=False)
        if self.identity not in (NO_IDENTITY, identity(os.fstat(stream.fileno()))):
            stream.close()
            message = f"{self.name} is another file than a moment ago, or was written to"
            raise refuse(
                "S513", message, place=self.name, help="wait until it is whole, and try again"
            )
        return stream

    def read(self, limit: int) -> bytes:
        """Return the whole file, or refuse if it is larger than the limit."""
        if self.size > limit:
            message = f"{self.name} has {self.size:,} bytes; at most {limit:,} are read"
            raise refuse("S514", message, place=self.name)
        with self.open() as file, reading(self.name):
            return file.read(limit)


def find_file(directory: Path, name: str) -> ModelFile | None:
    """Return a file of a folder, nothing if there is none; refuse names and links that lead elsewhere."""
    if not is_plain_name(name):
        message = f"`{shown(name)}` is not a plain file name"
        raise refuse("S512", message, help="a file of a checkpoint is named without any folder")
    path = directory / name
    if not os.path.lexists(path):
        return None
    try:
        target = path.resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError) as error:
        raise refuse("S513", f"{name} is a link that leads nowhere", place=name) from error
    if not _inside(target, allowed_root(directory)):
        message = f"{name} is a link to a file outside of the model folder"
        raise refuse("S512", message, place=name, help="copy the file into the folder")
    if not stat.S_ISREG(status.st_mode):
        raise refuse("S513", f"{name} is not a regular file", place=name)
    return ModelFile(name, target, status.st_size, identity(status))


def part_of(folder: Path, name: str) -> Path:
    """Return the path of a port's file; refuse (S512) a link that leads out of the port's folder."""
    path = folder / name
    if path.is_symlink() and not is_inside(path, folder):
        message = f"{name} is a link to a file outside of the port's folder"
        raise refuse("S512", message, place=str(path), help="copy the file into the folder")
    return path


def list_names(directory: Path) -> tuple[str, ...]:
    """Return the names in a folder, sorted."""
    try:
        return tuple(sorted(path.name for path in directory.iterdir()))
    except OSError as error:
        message = f"the folder {shown(directory.name)} cannot be read: {error.strerror}"
        raise refuse("S513", message) from error


def is_plain_name(name: str) -> bool:
    """Tell whether a name is that of one file, with no folder, drive or control character in it."""
    if not name or len(name) > MAX_NAME or name in {".", ".."}:
        return False
    return name.isprintable() and not set(name) & set("/\\:\0")


def allowed_root(directory: Path) -> Path:
    """Return the folder that links may lead into: the model's, or its repository in the hub's cache.

    The hub's cache keeps `models--org--name/snapshots/<commit>/config.json` as a link into `models--org--name/blobs`.
    """
    resolved = directory.resolve()
    repository = resolved.parent.parent
    is_snapshot = resolved.parent.name == "snapshots" and repository.name.startswith("models--")
    return repository if is_snapshot and (repository / "blobs").is_dir() else resolved


def _inside(path: Path, root: Path) -> bool:
    return path.is_relative_to(root)
