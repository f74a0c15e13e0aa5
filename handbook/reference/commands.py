# SPDX-License-Identifier: Apache-2.0
"""The page of commands, made from the table that the command line is made from."""

from __future__ import annotations

import argparse
from itertools import groupby

from handbook.reference.markdown import code, page, table
from sohu.commands.described import arguments
from sohu.commands.parsing import STATUSES, parser_of
from sohu.commands.table import COMMANDS

ABOUT = "`sohu help` lists the commands, `sohu help COMMAND` shows what one takes. `port` is `sohu port`."


def commands() -> str:
    """Return the page."""
    parts = [ABOUT]
    for group, members in groupby(COMMANDS, lambda name: COMMANDS[name].group):
        parts.append(f"## {group[:1].upper()}{group[1:]}")
        parts += [_command(name) for name in members]
    return page("Commands", *parts, "## Exit status", STATUSES.removeprefix("exit status: "))


def _command(name: str) -> str:
    parser = parser_of(name)
    about = COMMANDS[name].help
    rows = ((_words(a), _filled(a)) for a in arguments(parser) if a.dest != "help")
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    shown = f"```text\n{usage}\n```"
    taken = table(("argument", "is"), rows)
    return "\n\n".join((f"### `sohu {name}`", f"{about[:1].upper()}{about[1:]}.", shown, taken))


def _words(action: argparse.Action) -> str:
    """Return an argument as it is written."""
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if isinstance(value, tuple):
        value = " ".join(value)
    if action.choices is not None:
        value = " | ".join(map(str, action.choices))
    names = ", ".join(action.option_strings)
    return code(" ".join(filter(None, (names, value))).strip())


def _filled(action: argparse.Action) -> str:
    """Return the help of an argument, with its default where the help names it."""
    words = action.help or ""
    return words % {**vars(action), "prog": "sohu"} if "%" in words else words
