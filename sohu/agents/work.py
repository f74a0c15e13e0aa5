# SPDX-License-Identifier: Apache-2.0
"""Run a command of `sohu` in a process of its own: in one folder, within limits, and ended with all that it started.

Returns its JSON as it stands. Which command, and whether its arguments are in the folder, is decided before.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process

from dsl.diagnostics import Diagnostic
from porting.files import bounds
from porting.planning.shelves import PATH as SHELVES
from sohu.agents.arguments import Place
from sohu.agents.tools import CommandLine

LAUNCHER = Path(__file__).with_name("limited.py")
HOME = Path(__file__).parents[2]
"""The folder that the package `sohu` is in."""
MAX_ANSWER = 32 * 2**20
GRACE = 3.0
"""Seconds for a command to put away what it has half-written."""
ANSWERED = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take: wall seconds, and bytes of memory that is written to."""

    seconds: int
    memory: int

    @property
    def processor_seconds(self) -> int:
        """Return the seconds of all processors: what ends a command whose server is gone."""
        return self.seconds * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command says with `--json`, and whether it says it: `failed` where it was ended, or is at fault."""

    data: Mapping[str, object]
    failed: bool = False


def environment(place: Place) -> dict[str, str]:
    """Return the environment of a command: bound to the folder, with no way of importing from it."""
    settings = dict(os.environ)
    settings[bounds.ROOT] = str(place.root)
    settings[bounds.HUB] = "1" if place.hub else "0"
    if not place.hub:
        settings["HF_HUB_OFFLINE"] = "1"
    kept, _ = shelves(place)
    settings[SHELVES] = os.pathsep.join(kept)
    paths = [path for path in settings.get("PYTHONPATH", "").split(os.pathsep) if path]
    if HOME.name not in ("site-packages", "dist-packages"):
        paths.append(str(HOME))
    settings["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in paths)
    return settings


def shelves(place: Place) -> tuple[list[str], list[str]]:
    """Return the folders of SOHU_PATH that lie in the folder, and those that do not and are left out."""
    written = [path for path in os.environ.get(SHELVES, "").split(os.pathsep) if path]
    inside = [path for path in written if Path(path).resolve().is_relative_to(place.root)]
    return inside, [path for path in written if path not in inside]


async def answer(asked: CommandLine, place: Place, limits: Limits) -> Answer:
    """Run a command and return its answer; cancelled, it ends with all that it started."""
    command = [sys.executable, "-I", str(LAUNCHER)]
    command += [str(limits.memory), str(limits.processor_seconds), *asked.words]
    process = await anyio.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=place.root,
        env=environment(place),
        start_new_session=True,
    )
    try:
        with anyio.move_on_after(limits.seconds) as scope:
            said = await _conversation(process, asked.given)
        if scope.cancelled_caught:
            return _ended(f"it did not finish within {limits.seconds:,} seconds")
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
    if len(said) > MAX_ANSWER:
        return _ended(f"its answer has more than {MAX_ANSWER // 2**20} MiB")
    return _read(said, process.returncode, limits)


async def _conversation(process: Process, given: str) -> bytes:
    """Hand a command its standard input and return what it prints, or the beginning of too much."""
    said = bytearray()
    async with anyio.create_task_group() as group:
        group.start_soon(_hand, process, given.encode())
        if process.stdout is not None:
            async for part in process.stdout:
                said += part
                if len(said) > MAX_ANSWER:
                    return bytes(said)
    await process.wait()
    return bytes(said)


async def _hand(process: Process, given: bytes) -> None:
    if process.stdin is None:
        return
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(given)
        await process.stdin.aclose()


def _read(said: bytes, status: int | None, limits: Limits) -> Answer:
    """Return a command's JSON, or what its silence means."""
    try:
        data = json.loads(said)
    except ValueError:
        data = None
    if isinstance(data, dict):
        return Answer(data, failed=status not in ANSWERED)
    memory = f"{limits.memory / 2**30:.1f} GiB"
    return _ended(
        f"it ended without an answer (status {status}): it may need more memory than {memory}"
    )


async def _end(process: Process) -> None:
    """End a command and what it started, gently at first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with anyio.move_on_after(GRACE):
            await process.wait()
    await process.aclose()


def _ended(why: str) -> Answer:
    help_ = "ask for less, or let whoever starts `sohu mcp` raise --seconds or --memory"
    diagnostic = Diagnostic("S119", f"the command was ended: {why}", help=help_)
    return Answer({"verdict": "refused", "diagnostics": [diagnostic.as_dict()]}, failed=True)
