# SPDX-License-Identifier: Apache-2.0
"""A command as help describes it: its name, its heading, its line and its arguments. Completion and the manual read it.

Knows no command: which there are is the table's, and `parsing` describes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

PROG, HELP = "sohu", "help"
ABOUT = "Port transformer models to an accelerator, check and run them."


@dataclass(frozen=True, slots=True)
class Described:
    """A command: its name, the heading that it stands under, a line about it, and the parser of its arguments."""

    name: str
    group: str
    help: str
    parser: argparse.ArgumentParser


def arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser that help shows."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way
        if action.help != argparse.SUPPRESS:
            yield action
