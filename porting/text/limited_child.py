# SPDX-License-Identifier: Apache-2.0
"""A process for a stranger's tokenizer and template, with limits on memory and time; what it prints is not shown.

Says why a job failed. Whether that refuses a model is the caller's affair.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

SECONDS = 5
MEMORY_BYTES = 2**30
BYTES_PER_SECOND = 4 * 2**20
"""What a tokenizer surely reads in a second: a large file is allowed more time."""
WALL = 4
"""Wall seconds allowed for a second of processor time, on a busy machine."""
LATE = getattr(signal, "SIGALRM", signal.SIGTERM)
"""What ends a process that waits too long: nobody else sends it, so that it says why."""
CHILD = Path(__file__).with_name("text_child.py")
# Threads of the tokenizers library would each take address space.
SINGLE = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}


class ChildError(Exception):
    """A job failed; the message says why."""


class LimitedChild:
    """A process that performs jobs one by one; it is started with the first and ends with this object."""

    __slots__ = ("__weakref__", "_process")

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, operation: str, body: bytes = b"", **arguments: object) -> Any:
        """Return the value of a job; raises `ChildError` where it fails, or takes more than its share."""
        process = self._process or self._start()
        seconds = SECONDS + len(body) / BYTES_PER_SECOND
        job = {
            "operation": operation,
            "seconds": seconds,
            "body": len(body),
            "with": arguments,
        }
        timer = Timer(WALL * seconds, process.send_signal, [LATE])
        timer.start()
        try:
            line = _exchange(process, json.dumps(job).encode() + b"\n" + body)
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            raise ChildError(_last_words(process, seconds))
        outcome = json.loads(line)
        if "error" in outcome:
            raise ChildError(f"failed: {outcome['error']}")
        return outcome["value"]

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", str(CHILD), str(MEMORY_BYTES)]
        process = subprocess.Popen(  # noqa: S603 - our own script, its jobs on standard input
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **SINGLE},
        )
        self._process = process
        weakref.finalize(self, _end, process)
        return process


def _exchange(process: subprocess.Popen[bytes], job: bytes) -> bytes:
    """Return the line that answers a job, cut short or empty where the process ends before."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process has no pipes")
    with suppress(BrokenPipeError):
        process.stdin.write(job)
        process.stdin.flush()
    return process.stdout.readline()


def _last_words(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Return why a process ended within a job."""
    code = process.wait()
    if -code in (LATE, getattr(signal, "SIGPROF", LATE)):
        return f"did not finish within {seconds:.0f} seconds"
    return f"did not finish: it needs more than {MEMORY_BYTES // 2**20:,} MiB, or crashes (exit status {code})"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
