# SPDX-License-Identifier: Apache-2.0
"""Every command: its name, its help, its arguments, what it does. Help, completion and the manual are made of this."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from sohu.commands import actions, options


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `sohu`; `group` is the heading of the overview that it stands under."""

    group: str
    help: str
    options: Callable[[argparse.ArgumentParser], None]
    does: Callable[[argparse.Namespace], int]


PORT, TEXT, PLAN, ASK = "port a model", "work on texts", "ask before you build", "find out"
AGENTS = "for agents"

COMMANDS: dict[str, Command] = {
    "port": Command(
        PORT, "port a model: plan, validate, report", options.port, actions.port
    ),
    "validate": Command(
        PORT, "validate a port again, or a text on weights of yours",
        options.validate, actions.validate,
    ),
    "diff": Command(PORT, "name the first operation that departs", options.diff, actions.diff),
    "run": Command(PORT, "run a port on given tokens", options.run, actions.run),
    "generate": Command(
        PORT, "answers of a port to prompts", options.generate, actions.generate
    ),
    "chat": Command(PORT, "talk to a port", options.chat, actions.chat),
    "new": Command(TEXT, "begin a text that passes the check", options.new, actions.new),
    "check": Command(TEXT, "parse, bind and infer .sohu files", options.check, actions.check),
    "fmt": Command(
        TEXT, "rewrite .sohu files in the canonical layout", options.fmt, actions.fmt
    ),
    "lsp": Command(
        TEXT, "serve an editor: diagnostics, hover, completion", options.lsp, actions.lsp
    ),
    "cost": Command(PLAN, "memory and work: formulas and values", options.cost, actions.cost),
    "fit": Command(
        PLAN, "whether a program fits a device, and how far it grows", options.fit, actions.fit
    ),
    "profile": Command(
        PLAN, "time on a device, and what holds it up", options.profile, actions.profile
    ),
    "sweep": Command(
        PLAN, "what if the device, mesh, batch … were others", options.sweep, actions.sweep
    ),
    "collective": Command(
        PLAN, "check, time, make or find schedules of collectives", options.collective, actions.collective
    ),
    "predict": Command(
        PLAN, "predicted times for a table of shapes", options.predict, actions.predict
    ),
    "calibrate": Command(
        PLAN, "fit the cost formulas to measured times", options.calibrate, actions.calibrate
    ),
    "explain": Command(
        ASK, "what a code or an operation means; the language; texts of the zoo",
        options.explain, actions.explain,
    ),
    "list": Command(
        ASK, "ports, families, blocks, ops, devices, numerics, codes", options.list_, actions.list_
    ),
    "nearest": Command(
        ASK, "the family that claims a model, or the nearest", options.nearest, actions.nearest
    ),
    "env": Command(
        ASK, "versions, processor, caches: for a report of a fault", options.env, actions.env
    ),
    "completion": Command(
        ASK, "a script for bash, zsh or fish to complete all this",
        options.completion, actions.completion,
    ),
    "mcp": Command(
        AGENTS, "serve these tools to a coding agent, in one folder", options.mcp, actions.mcp
    ),
}  # fmt: skip
"""By name, in the order in which help lists them."""
