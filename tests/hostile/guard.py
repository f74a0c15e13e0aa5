"""Run hostile inputs in one child with limits, and say of each what is wrong with how it ended.

The child is forked, so that nothing is imported again; it tells each outcome as it comes, and an input that takes the
child with it (a crash, a limit) is the one that was begun last. Then a new child goes on behind it.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from tests.hostile.generator import Input

ENDS = frozenset({0, 1, 2, 141})
SECONDS, HARD_SECONDS = 4.0, 20
MEMORY = 4 * 2**30
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def faults(batch: Sequence[Input], case: Path) -> dict[int, str]:
    """Return what is wrong, by the number of the input."""
    wrong: dict[int, str] = {}
    first = 0
    while first < len(batch):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _child(batch, first, case, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            told = [json.loads(line) for line in stream.read().splitlines()]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        wrong |= {number: fault for number, fault in told if fault}
        first += len(told)
        if first < len(batch):
            wrong[first] = f"ended the process: {status}"
            first += 1
    return wrong


def _child(batch: Sequence[Input], first: int, case: Path, writing: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
        for number in range(first, len(batch)):
            signal.setitimer(signal.ITIMER_VIRTUAL, HARD_SECONDS)  # ends it where it hangs
            line = json.dumps([number, _fault(batch[number], case)])
            os.write(writing, line.encode() + b"\n")
    finally:
        os._exit(0)


def _fault(hostile: Input, case: Path) -> str:
    work = case.parent / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(case, work)
    for name, content in hostile.files.items():
        (work / name).write_bytes(content)
    os.chdir(work)
    arguments = [argument.replace("{case}", str(work)) for argument in hostile.arguments]
    before = time.process_time()
    status, printed = _run(arguments)
    return _wrong(status, printed, time.process_time() - before)


def _run(arguments: Sequence[str]) -> tuple[object, str]:
    from sohu.commands.cli import main

    told = io.StringIO()
    status: object
    with redirect_stdout(told), redirect_stderr(told):
        try:
            status = main(arguments)
        except SystemExit as ended:  # argparse
            status = ended.code
        except BaseException as error:  # noqa: BLE001 - nothing may come out of main
            status = f"{type(error).__name__}: {error}"
    with suppress(ValueError):
        sys.stdout.flush()
    return status, told.getvalue()


def _wrong(status: object, printed: str, seconds: float) -> str:
    if status not in ENDS or "S999" in printed:
        return f"exit {status}: {printed[-600:]}"
    if raw := RAW.search(printed):
        return f"prints {raw[0]!r}"
    if "Traceback" in printed:
        return f"prints a traceback: {printed[-300:]}"
    return f"takes {seconds:.1f} s" if seconds > SECONDS else ""
