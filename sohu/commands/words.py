# SPDX-License-Identifier: Apache-2.0
"""What may stand where on a command line, read off the table of commands: for completion, in any shell.

A shell's own spelling is `completion`. Names of the zoo, devices and numerics are those of this installation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sohu.commands.described import HELP, Described, arguments
from sohu.commands.listing import listed
from sohu.commands.options import PROGRAM


@dataclass(frozen=True, slots=True)
class Slot:
    """What an argument takes: words, files, or both."""

    words: tuple[str, ...] = ()
    files: bool = False


@dataclass(frozen=True, slots=True)
class OptionWords:
    """An option: its name, a line about it, and what it takes; None for a flag."""

    name: str
    about: str
    takes: Slot | None


@dataclass(frozen=True, slots=True)
class CommandWords:
    """A command: its name, a line about it, its options, and what its other arguments take."""

    name: str
    about: str
    options: tuple[OptionWords, ...]
    takes: Slot


def command_line(commands: Iterable[Described]) -> tuple[CommandWords, ...]:
    """Return every command that completion knows, `help` among them."""
    known = tuple(_command(command) for command in commands)
    names = tuple(command.name for command in known)
    return (*known, CommandWords(HELP, "what a command takes", (), Slot(names)))


def _command(command: Described) -> CommandWords:
    options: list[OptionWords] = []
    words: list[str] = []
    files = False
    for action in arguments(command.parser):
        slot = _slot(action)
        takes = None if action.nargs == 0 else slot
        options += [
            OptionWords(option, _line(action.help), takes)
            for option in action.option_strings
            if option.startswith("--")
        ]
        if not action.option_strings:
            words += slot.words
            files = files or slot.files
    takes = Slot(tuple(words), files)
    return CommandWords(command.name, command.help, tuple(options), takes)


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _slot(action: argparse.Action) -> Slot:
    """Return what an argument takes: its choices, names by what it is called, or files."""
    if action.choices:
        return Slot(tuple(map(str, action.choices)))
    named = NAMES.get(action.dest)
    if action.help is not None and (PROGRAM in action.help or ZOO in action.help):
        named = _ports
    is_file = action.type is Path or action.dest in FILES
    return Slot(named() if named is not None else (), is_file)


@lru_cache(maxsize=8)
def _names(kind: str) -> tuple[str, ...]:
    return tuple(entry.name for entry in listed(kind))


def _ports() -> tuple[str, ...]:
    return _names("ports")


def _devices() -> tuple[str, ...]:
    return _names("devices")


def _numerics() -> tuple[str, ...]:
    return _names("numerics")


def _demo() -> tuple[str, ...]:
    return ("demo",)


def _explained() -> tuple[str, ...]:
    return tuple(_explained_names())


def _explained_names() -> Iterator[str]:
    from sohu.commands.explaining import PAGES, operations  # noqa: PLC0415 - for this alone

    yield from PAGES
    yield from operations()
    for kind in ("codes", "families", "ports", "blocks"):
        yield from _names(kind)


ZOO = "a name of the zoo"
FILES = ("model", "adapter", "base", "weights", "device")
"""Arguments that are files and more."""
NAMES: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "device": _devices,
    "numerics": _numerics,
    "model": _demo,
    "what": _explained,
}
"""Which names an argument takes, by what it is called."""
