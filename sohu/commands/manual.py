# SPDX-License-Identifier: Apache-2.0
"""`sohu help --man`: the manual page, in the language of man pages, made of the table of commands.

Says no more than help does, but of all commands at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby

from sohu.api.version import version
from sohu.commands.described import ABOUT, Described, arguments

STATUSES = (
    ("0", "every verdict passes"),
    ("1", "a verdict fails"),
    ("2", "the input is refused, or the arguments are none that a command takes"),
    ("70", "a fault of sohu itself, whatever the input was"),
    ("130, 143", "interrupted, ended"),
    ("141", "nobody reads on"),
)
SETTINGS = (
    ("SOHU_CACHE", "the folder of caches, instead of ~/.cache/sohu"),
    ("SOHU_PATH", "folders with families of your own, separated as in PATH"),
    ("SOHU_ROOT", "the folder that models are read from and results written to, and no other"),
    ("NUMBA_CACHE_DIR", "the folder of compiled kernels"),
    ("HF_HUB_OFFLINE", "1: hub ids are read from the hub's cache alone"),
)
SYNOPSIS = (
    ".B sohu",
    ".I COMMAND",
    ".RI [ ARGUMENT \\~.\\|.\\|.]",
    ".br",
    ".B port",
    ".I MODEL",
    ".RI [ ARGUMENT \\~.\\|.\\|.]",
)
DESCRIPTION = (
    ".B port",
    "is",
    '.BR "sohu port" .',
    "Results go to standard output, notes and progress to standard error.",
)


def manual(commands: Sequence[Described]) -> str:
    """Return the page of these commands."""
    about = ABOUT[:1].lower() + ABOUT[1:].rstrip(".")
    lines = [
        f'.TH SOHU 1 "" "sohu {_text(version())}" "User Commands"',
        ".SH NAME",
        f"sohu \\- {_text(about)}",
        ".SH SYNOPSIS",
        *SYNOPSIS,
        ".SH DESCRIPTION",
        _text(ABOUT),
        *DESCRIPTION,
    ]
    for group, members in groupby(commands, lambda command: command.group):
        lines.append(f".SH {_text(group.upper())}")
        for command in members:
            lines += _command(command)
    lines += [".SH EXIT STATUS", *_pairs(STATUSES), ".SH ENVIRONMENT", *_pairs(SETTINGS)]
    return "\n".join(lines) + "\n"


def _command(command: Described) -> Iterator[str]:
    takes = [action for action in arguments(command.parser) if action.dest != "help"]
    words = " ".join(_value(action) for action in takes if not action.option_strings)
    yield f'.SS "{_text(f"sohu {command.name} {words}".rstrip())}"'
    yield f"{_text(command.help[:1].upper() + command.help[1:])}."
    for action in takes:
        yield ".TP"
        yield _heading(action)
        yield _text(" ".join((action.help or "").split())) or "\\&"


def _heading(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    if not names:
        return f".I {_text(_value(action))}"
    takes = "" if action.nargs == 0 else f" \\fI{_text(_value(action))}\\fR"
    return f"\\fB{_text(names)}\\fR{takes}"


def _value(action: argparse.Action) -> str:
    """Return what stands for an argument's value."""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _pairs(rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for name, text in rows:
        yield ".TP"
        yield f".B {_text(name)}"
        yield _text(text)


ESCAPES = str.maketrans(
    {"\\": "\\e", "-": "\\-", "…": ".\\|.\\|.", '"': "\\(dq", "^": "\\(ha", "~": "\\(ti"}
)


def _text(text: str) -> str:
    """Return a text in which nothing is a request or an escape."""
    escaped = text.translate(ESCAPES)
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped
