# SPDX-License-Identifier: Apache-2.0
"""Processes that compile: each makes one part after the other, until all are made.

Such a process holds the compiler and its library, some 200 MB, and is gone with them when the work is done. What a
part is, is known to the module that the process runs: it calls `serve`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

from device_model.machine.team import available

MOST = 4
"""Processes at most: each reads anew what the parts share, and holds the compiler."""
LENGTH = 8  # bytes in front of a part


class CompilerError(RuntimeError):
    """A compiling process stopped without a result."""


def processes(parts: int) -> int:
    """Return how many processes compile so many parts."""
    return max(1, min(parts, available(), MOST))


def compile_parts(module: str, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield each part with its object file as processes that run the module make them; raises `CompilerError`.

    Parts are taken in their order. Where the caller stops early, the processes are stopped too.
    """
    waiting: SimpleQueue[str | None] = SimpleQueue()
    done: SimpleQueue[tuple[str, bytes] | CompilerError] = SimpleQueue()
    count = processes(len(names))
    for name in (*names, *[None] * count):
        waiting.put(name)
    workers = [_Worker(module, waiting, done) for _ in range(count)]
    try:
        for _ in names:
            part = done.get()
            if isinstance(part, CompilerError):
                raise part
            yield part
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One process, which is told a name a line and answers with a length and so many bytes."""

    def __init__(
        self,
        module: str,
        waiting: SimpleQueue[str | None],
        done: SimpleQueue[tuple[str, bytes] | CompilerError],
    ) -> None:
        paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 - an empty one is the current folder
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", module],  # the current folder may hold anything
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self._thread = Thread(target=self._work, args=(waiting, done), daemon=True)
        self._thread.start()

    def _work(
        self,
        waiting: SimpleQueue[str | None],
        done: SimpleQueue[tuple[str, bytes] | CompilerError],
    ) -> None:
        """Have part after part made."""
        while (name := waiting.get()) is not None:
            try:
                done.put((name, self._made(name)))
            except (OSError, EOFError):
                done.put(CompilerError(f"`{name}` was not compiled: {self._said()}"))
                return

    def _made(self, name: str) -> bytes:
        told, heard = self._process.stdin, self._process.stdout
        if told is None or heard is None:
            raise EOFError
        told.write(name.encode() + b"\n")
        told.flush()
        return _exactly(heard, int.from_bytes(_exactly(heard, LENGTH), "little"))

    def _said(self) -> str:
        """Return the end of what the process wrote about itself."""
        self._end()
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-2000:] or "no word"

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._end()
        self._thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(BrokenPipeError):  # of a name that the process did not read any more
                    stream.close()


def _exactly(stream: IO[bytes], size: int) -> bytes:
    taken = stream.read(size)
    if len(taken) != size:
        raise EOFError
    return taken


def serve(make: Callable[[str], bytes]) -> None:
    """Answer with the object file of each part that is asked for, until nobody asks."""
    answers: Any = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    for line in sys.stdin.buffer:
        code = make(line.decode().strip())
        answers.write(len(code).to_bytes(LENGTH, "little") + code)
        answers.flush()
