# SPDX-License-Identifier: Apache-2.0
"""Parsers made of the table of commands: what is not one of its words is answered with the word that is near.

Runs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import NoReturn

from dsl.diagnostics import did_you_mean
from sohu.commands.described import ABOUT, HELP, PROG, Described, arguments
from sohu.commands.table import COMMANDS

SHOWN = 80
STATUSES = (
    "exit status: 0 every verdict passes; 1 one fails; 2 the input is refused; 70 a fault of ours;\n"
    "130, 143 interrupted, ended; 141 nobody reads on"
)


class Misused(Exception):
    """Arguments that no command takes: what is wrong, of which parser, and what may help."""

    def __init__(self, parser: argparse.ArgumentParser, message: str, help: str = "") -> None:
        super().__init__(message)
        self.parser, self.message, self.help = parser, message, help


class Parser(argparse.ArgumentParser):
    """A parser that raises `Misused`, and names the near word where a choice or an option is misspelt."""

    def error(self, message: str) -> NoReturn:
        """Raise `Misused`."""
        raise Misused(self, message, f"`{self.prog} --help` lists what it takes")

    def parsed(self, given: Sequence[str]) -> argparse.Namespace:
        """Return the options; raises `Misused`, for a misspelt option before anything that is missing."""
        known = [word for action in arguments(self) for word in action.option_strings]
        for word in takewhile(lambda word: word != "--", given):
            if word.startswith("--") and not any(
                o.startswith(word.partition("=")[0]) for o in known
            ):
                raise self._no_option(word, known)
        options, rest = self.parse_known_args(given)
        if not rest:
            return options
        if rest[0].startswith("-"):
            raise self._no_option(rest[0], known)
        raise Misused(self, f"`{rest[0][:SHOWN]}` is one argument too many")

    def _no_option(self, word: str, known: Sequence[str]) -> Misused:
        name = word.partition("=")[0]
        near = did_you_mean(name, known) or f"`{self.prog} --help` lists the options"
        return Misused(self, f"there is no option `{name[:SHOWN]}`", near)


class Version(argparse.Action):
    """Prints the version, which is read for nobody who does not ask."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it as other programs do: the name, then the number."""
        from sohu.api.version import version  # noqa: PLC0415 - for this alone

        print(f"{parser.prog} {version()}")
        parser.exit()


class Manual(argparse.Action):
    """Prints the manual page, which is made for nobody who does not ask."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the page and stop."""
        from sohu.commands.manual import manual  # noqa: PLC0415 - for this alone

        print(manual(described()), end="")
        parser.exit()


class Overview(Parser):
    """The parser of `sohu` without a command: its help lists the commands by what they are for."""

    def format_help(self) -> str:
        """Return the list of commands."""
        width = max(map(len, COMMANDS))
        parts = [f"usage: {self.prog} COMMAND [ARGUMENT …]", ABOUT]
        for group, members in groupby(COMMANDS.items(), lambda item: item[1].group):
            lines = (f"  {name:<{width}}  {command.help}" for name, command in members)
            parts.append("\n".join((f"{group}:", *lines)))
        more = f"`{self.prog} help COMMAND` shows what a command takes; `{self.prog} help --man`, the manual page."
        parts += [more, STATUSES]
        return "\n\n".join(parts) + "\n"

    def format_usage(self) -> str:
        """Return one line."""
        return f"usage: {self.prog} COMMAND [ARGUMENT …]\n"


def overview() -> Overview:
    """Return the parser of what may stand before a command, or in its place."""
    parser = Overview(prog=PROG)
    parser.add_argument("--version", action=Version, help="print the version and stop")
    parser.add_argument("--man", action=Manual, help="print the manual page and stop")
    return parser


def parser_of(name: str, prog: str | None = None) -> Parser:
    """Return the parser of a command, called `sohu NAME` where it is called nothing else."""
    command = COMMANDS[name]
    parser = Parser(prog=prog or f"{PROG} {name}", description=f"{_sentence(command.help)}.")
    parser.set_defaults(command=name, described=described)
    if prog:
        parser.add_argument("--version", action=Version, help="print the version and stop")
    command.options(parser)
    return parser


def described() -> tuple[Described, ...]:
    """Return every command with its parser, in the order of the table."""
    return tuple(
        Described(name, command.group, command.help, parser_of(name))
        for name, command in COMMANDS.items()
    )


def parsed(given: Sequence[str]) -> argparse.Namespace | None:
    """Return the options of a command line after `sohu`, None where no command is given; raises `Misused`."""
    first, *rest = given or ("",)
    if first == HELP:
        first, rest = (rest[0], ["--help"]) if rest[:1] not in ([], [HELP]) else ("--help", [])
    if first in COMMANDS:
        return parser_of(first).parsed(rest)
    parser = overview()
    if not first:
        return None
    if first.startswith("-"):
        parser.parsed([first])
        return None
    near = did_you_mean(first, COMMANDS) or f"`{PROG} help` lists the commands"
    raise Misused(parser, f"there is no command `{first[:SHOWN]}`", near)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
