# SPDX-License-Identifier: Apache-2.0
"""Pages that tell what happens at a prompt: the files that they show, the commands, and what each answers.

A file is a block behind a line with its name, "`name`:". In a block of `console` each line behind a `$` is a command;
what follows is its answer, in which `…` stands for lines that are left out, or for the rest of a
line. Errors of logits may have other digits, and columns another width.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN_ARCHITECTURE = ROOT / "docs" / "your-own-architecture.md"
FILE = re.compile(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DIGITS = re.compile(r"\d\.\d+e[-+]\d\d|\d+\.\d%")
WIDTH = re.compile(r" {2,}")
LEFT_OUT = "…"


@dataclass(frozen=True)
class Told:
    """A command, and the lines that the page shows below it."""

    command: str
    lines: tuple[str, ...]

    def agrees(self, answer: str) -> bool:
        """Tell whether an answer is what the page shows, lines that are left out aside."""
        pattern = "".join(
            "(?:.*\n)*?" if line == LEFT_OUT else _pattern(line) for line in self.lines
        )
        lines = [_plain(line) for line in answer.splitlines() if line.strip()]
        return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def _pattern(line: str) -> str:
    return re.escape(_plain(line)).replace(LEFT_OUT, ".*") + "\n"


def _plain(line: str) -> str:
    return WIDTH.sub(" ", DIGITS.sub("#", line.rstrip().replace("\N{NO-BREAK SPACE}", " ")))


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows into a folder."""
    for name, text in FILE.findall(page.read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")


def commands(page: Path) -> list[Told]:
    """Return the commands of a page in order."""
    told = []
    for block in CONSOLE.findall(page.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            told.append(Told(command, tuple(lines)))
    return told


def follow(page: Path, folder: Path, answer: Callable[[str], str]) -> int:
    """Do what a page tells in a folder; returns the number of commands, fails where an answer is another."""
    write_files(page, folder)
    told = commands(page)
    for step in told:
        said = answer(step.command)
        if not step.agrees(said):
            shown = "\n".join(step.lines)
            raise AssertionError(f"$ {step.command}\n{said}\n--- is not what is told:\n{shown}")
    return len(told)
