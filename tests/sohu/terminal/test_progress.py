# SPDX-License-Identifier: Apache-2.0
"""Progress in a log: lines at the end of stages and every ten seconds, none for what is quick or quiet."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from sohu.commands.described import arguments
from sohu.commands.parsing import parser_of
from sohu.terminal import console, progress
from sohu.terminal.progress import Lines

LONG = ("port", "validate", "diff", "run", "generate", "sweep", "predict", "calibrate")


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def told(clock: Clock, said: list[str]) -> Lines:
    return Lines(said.append, clock)


def test_a_stage_has_a_line_when_it_ends(told: Lines, clock: Clock, said: list[str]) -> None:
    for done in range(5):
        told("compare", done, 4)
        clock.seconds += 1
    told("compare", 4, 4)
    assert said == ["compare 4 of 4, 4 s"]


def test_a_long_stage_has_a_line_every_ten_seconds(
    told: Lines, clock: Clock, said: list[str]
) -> None:
    for done in range(33):
        told("compare", done, 32)
        clock.seconds += 1
    assert said == [
        "compare 10 of 32, 10 s", "compare 20 of 32, 20 s", "compare 30 of 32, 30 s",
        "compare 32 of 32, 32 s",
    ]  # fmt: skip


def test_a_step_that_takes_long_is_told_of_by_the_beat(
    told: Lines, clock: Clock, said: list[str]
) -> None:
    told("compile kernels: matmul", 0, 7)
    for _ in range(25):
        clock.seconds += 1
        told.beat()
    assert said == ["compile kernels: matmul 0 of 7, 10 s", "compile kernels: matmul 0 of 7, 20 s"]


def test_what_is_quick_or_over_says_nothing(told: Lines, clock: Clock, said: list[str]) -> None:
    told("read", 0, 1)
    told("read", 1, 1)
    clock.seconds = 60
    told.beat()
    assert said == []


class Log(io.StringIO):
    def isatty(self) -> bool:
        return False


class Broken(Log):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def work(quiet: bool) -> None:
    with console.bars(quiet=quiet) as report:
        report("work\x1b[2J", 0, 2)
        report("work\x1b[2J", 2, 2)


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SHORT", 0.0)


@pytest.mark.usefixtures("told_at_once")
def test_a_log_has_lines_and_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := Log())
    work(quiet=False)
    assert log.getvalue() == "work\\x1b[2J 2 of 2, 0 s\n"


@pytest.mark.usefixtures("told_at_once")
@pytest.mark.parametrize("stream", [None, Broken()])
def test_a_log_that_takes_nothing_does_not_end_the_work(
    monkeypatch: pytest.MonkeyPatch, stream: Log | None
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    work(quiet=False)


@pytest.mark.usefixtures("told_at_once")
def test_quiet_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := Log())
    work(quiet=True)
    assert log.getvalue() == ""


def test_the_watch_beats_while_the_work_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.01)
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)

    with progress.lines(hear) as report:
        report("work", 0, 2)
        for _ in range(2000):
            if said:
                break
            progress.time.sleep(0.01)
    assert said[0].startswith("work 0 of 2")


@pytest.mark.parametrize("name", LONG)
def test_whatever_tells_of_progress_can_be_quiet(name: str) -> None:
    options = {o for action in arguments(parser_of(name)) for o in action.option_strings}
    assert {"--quiet", "--json"} <= options


def test_every_command_that_shows_bars_is_among_them() -> None:
    root = Path(console.__file__).parents[1] / "commands"
    texts = [path.read_text() for path in root.glob("*.py")]
    shown = sum(text.count("console.bars(quiet=options.json or options.quiet)") for text in texts)
    assert shown == len(LONG) + 1  # diff has them on a mesh too
    assert sum(text.count("console.bars(") for text in texts) == shown + 1  # and chat
