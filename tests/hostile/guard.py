# SPDX-License-Identifier: Apache-2.0
"""Run hostile inputs in one child with limits, and say of each how it ended and what is wrong with that.

The child is forked, so that nothing is imported again; it tells each outcome as it comes, and an input that takes the
child with it (a crash, a limit) is the one that was begun last. Then a new child goes on behind it. What is done to
other people's files is `watch`'s to see.
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
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from porting.text import limited_child
from tests.hostile.generator import Input
from tests.hostile.things import put_all
from tests.hostile.watch import Watch

ENDS = frozenset({0, 1, 2, 141})
# The limit is 2 s of a processor of its own; beside other work on the same core all takes up to twice as long.
SECONDS, HARD_SECONDS, WALL_SECONDS = 4.0, 30, 200
MEMORY = 4 * 2**30
JUDGED_SECONDS = 20.0
"""Where the original model is loaded or a GGUF is converted, torch and transformers are too."""
MOST_MIB = {"port": 256, "check": 256, "fmt": 256, "cost": 256}
OTHERS_MIB = 1024
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PANIC = re.compile(r"thread '.*' panicked|stack backtrace:")
CODE = re.compile(r"^error\[(\w+)\]", re.MULTILINE)
WORK = "work"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its status, the first code that it printed, CPU seconds, MiB at most, what is wrong."""

    status: str
    code: str = ""
    seconds: float = 0.0
    mib: int = 0
    fault: str = ""

    @property
    def answer(self) -> str:
        """The code of the refusal, or the exit status where there is none."""
        return self.code if self.status == "2" else self.status


def faults(batch: Sequence[Input], case: Path) -> dict[int, str]:
    """Return what is wrong, by the number of the input."""
    told = enumerate(outcomes(batch, case))
    return {number: outcome.fault for number, outcome in told if outcome.fault}


def outcomes(batch: Sequence[Input], case: Path) -> tuple[Outcome, ...]:
    """Return how each input ended."""
    told: list[Outcome] = []
    while len(told) < len(batch):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _child(batch, len(told), case, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            told += [Outcome(**json.loads(line)) for line in stream.read().splitlines()]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if len(told) < len(batch):
            told.append(Outcome(str(status), fault=f"ended the process: {status}"))
    return tuple(told)


def _child(batch: Sequence[Input], first: int, case: Path, writing: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGVTALRM, signal.SIGALRM):  # they end it where it hangs
            signal.signal(number, signal.SIG_DFL)
        watch = Watch.of(case.parent / WORK)
        # In a fresh checkout the first import would write its compiled form.
        sys.dont_write_bytecode = True
        sys.addaudithook(watch.see)
        for hostile in batch[first:]:
            signal.setitimer(signal.ITIMER_VIRTUAL, HARD_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
            outcome = _outcome(hostile, case, watch)
            os.write(writing, json.dumps(asdict(outcome)).encode() + b"\n")
    except BaseException:  # noqa: BLE001 - the guard's own faults are told, and end the process
        traceback.print_exc()
    finally:
        os._exit(99)


def _outcome(hostile: Input, case: Path, watch: Watch) -> Outcome:
    work = case.parent / WORK
    os.chdir(case.parent)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(case, work)
    put_all(work, hostile.files)
    os.chdir(work)
    arguments = tuple(argument.replace("{case}", str(work)) for argument in hostile.arguments)
    watch.begin(arguments)
    base, before = _forget_peak(), _processor_seconds()
    status, printed = _run(arguments)
    seconds, mib = _processor_seconds() - before, _memory("VmHWM") - base
    code = CODE.search(printed)
    fault = _wrong(status, printed) or "; ".join(watch.seen) or _excess(arguments, seconds, mib)
    return Outcome(str(status), code[1] if code else "", round(seconds, 2), mib, fault)


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


def _wrong(status: object, printed: str) -> str:
    if status not in ENDS or "S999" in printed:
        return f"exit {status}: {printed[-600:]}"
    if raw := RAW.search(printed):
        return f"prints {raw[0]!r}"
    if "Traceback" in printed or PANIC.search(printed):
        return f"prints a traceback: {printed[-300:]}"
    return ""


def _excess(arguments: Sequence[str], seconds: float, mib: int) -> str:
    command = arguments[0]
    is_gguf = any(argument.endswith(".gguf") for argument in arguments)
    is_judged = (
        command == "validate" or is_gguf or (command == "port" and "--plan" not in arguments)
    )
    # A tokenizer has a child of its own, and that a limit.
    most_seconds = SECONDS + (limited_child.SECONDS if command == "generate" else 0)
    if seconds > (JUDGED_SECONDS if is_judged else most_seconds):
        return f"takes {seconds:.1f} s"
    most = OTHERS_MIB if is_judged else MOST_MIB.get(command, OTHERS_MIB)
    return f"takes {mib} MiB" if mib > most else ""


def _processor_seconds() -> float:
    """Return what this process and its ended children have taken."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _forget_peak() -> int:
    """Let the kernel count the most memory anew; returns what is in use, in MiB."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status")
    match = re.search(rf"{name}:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(match[1]) // 1024 if match else 0
