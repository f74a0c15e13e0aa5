# SPDX-License-Identifier: Apache-2.0
"""See what a run does outside of its folder, by the audit hook of Python: files, programs, addresses.

A file that is not the run's is never changed: the hook raises first. The hook cannot be taken away again, so that it
belongs into a child.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile.odd_files import OUTSIDE

ASKED = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "os.system",
    "os.exec",
    "pty.spawn",
)
"""Events of Python's audit hook that no input may cause."""
CHANGES = {
    "os.remove": ((0, 1),), "os.rmdir": ((0, 1),), "os.mkdir": ((0, 2),), "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),), "os.symlink": ((1, 2),), "os.chmod": ((0, 2),), "os.chown": ((0, 3),),
    "os.truncate": ((0, 0),), "shutil.rmtree": ((0, 1),),
}  # fmt: skip
"""Events that change a file: the places of its path, and of the open folder that it is in."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TRAPS = ("/etc/passwd", "/dev/zero", "/dev/full")
"""Files that only a stranger's name leads to, unless the user gives it."""


@dataclass(slots=True)
class Watch:
    """What the process did that no input may make it do."""

    roots: tuple[str, ...]
    traps: tuple[str, ...]
    given: tuple[str, ...] = ()
    seen: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, work: Path) -> Watch:
        """Return the watch of runs that may write in this folder and in their user's caches."""
        caches = (
            os.environ.get(name) for name in ("SOHU_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
        )
        temporary = work.parent / "temporary"
        temporary.mkdir(exist_ok=True)
        tempfile.tempdir = str(temporary)
        places = [work, temporary, Path.home() / ".cache", *caches, "/dev/null", "/proc/self"]
        roots = tuple(os.path.realpath(place) + os.sep for place in places if place)
        return cls(roots, (*TRAPS, os.path.realpath(work.parent / OUTSIDE)))

    def begin(self, arguments: Sequence[str]) -> None:
        """Forget what was seen; files that the user names, whatever they lead to, are theirs to read."""
        self.given = tuple(os.path.realpath(name) for name in arguments if "\0" not in name)
        self.seen = []

    def see(self, event: str, values: tuple[object, ...]) -> None:
        """Keep an event of the audit hook where it is one of those; raises `PermissionError` for changes."""
        if event == "open":
            self._opened(values[0], values[2])
        elif event in CHANGES:
            for place, folder in CHANGES[event]:
                at = values[folder] if folder < len(values) else None
                if not isinstance(at, int) or at < 0:  # else it was asked for that folder already
                    self._changed(values[place], follow=False)
        elif event == "subprocess.Popen" and values[0] != sys.executable:
            self.seen.append(f"starts {values[0]}")
        elif event in ASKED:
            self.seen.append(f"{event} {values!r:.100}")

    def _opened(self, path: object, flags: object) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return  # it is open already
        if isinstance(flags, int) and flags & WRITING:
            self._changed(path, follow=True)
            return
        real = os.path.realpath(os.fsdecode(path))
        if real.startswith(self.traps) and real not in self.given:
            self.seen.append(f"opens {real}")

    def _changed(self, path: object, *, follow: bool) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - pathlib would ask the hook again
        folder, last = os.path.split(name)
        real = os.path.realpath(name) if follow else f"{os.path.realpath(folder)}/{last}"
        if not f"{real}{os.sep}".startswith(self.roots):
            self.seen.append(f"changes {real}")
            raise PermissionError(1, "no input may change this", name)
