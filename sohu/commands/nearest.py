# SPDX-License-Identifier: Apache-2.0
"""`sohu nearest MODEL`: the family that claims a model, or the one to begin from.

Reads the config alone; it judges keys, not what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from porting.config.reader import ModelConfig, read_config
from porting.config.text_part import text_part
from porting.origin.resolve import resolve
from porting.planning import outside, shelves
from porting.planning.missing_family import Nearest, lacking, nearest
from sohu.terminal import console


@dataclass(frozen=True, slots=True)
class Start:
    """Where a port of a model begins: who claims it, what is missing, and which family reads most of its keys."""

    config: ModelConfig
    claimed: str | None
    lacks: str | None
    outside: str | None
    nearest: Nearest | None

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON data."""
        near = self.nearest
        return {
            "architecture": self.config.architecture,
            "model_type": self.config.model_type,
            "claimed_by": self.claimed,
            "outside": self.outside,
            "lacks": self.lacks,
            "nearest": None
            if near is None
            else {"family": near.family, "read": list(near.read), "unread": list(near.unread)},
        }


def start_of(model: str) -> Start:
    """Return where a port of a model begins; raises `Refused` where its config cannot be read."""
    origin = resolve(model, plan_only=True)
    config = read_config(origin.directory, origin.config_name)
    chosen = shelves.search(config.architecture).chosen
    claimed = None if chosen is None else chosen.program.family().name.id
    kind = None if claimed else outside.kind_of(config.architecture, config.model_type)
    beyond = None if kind is None else f"{kind.holds}; missing: {kind.missing(config.model_type)}"
    lacks = None if claimed else lacking().get(config.model_type)
    # A family that claims a model is the one to begin from, whatever others read.
    near = None if claimed else nearest(text_part(config))
    return Start(config, claimed, lacks, beyond, near)


def show(start: Start) -> None:
    """Print it for people."""
    about = f"{start.config.architecture} ({start.config.model_type})"
    if start.claimed:
        console.say(f"{about}: claimed by {start.claimed}")
        return
    console.say(f"{about}: no family claims it")
    if start.outside:
        console.say(f"outside: it is {start.outside}")
    if start.lacks:
        console.say(f"lacking: {start.lacks}")
    if start.nearest is None:
        console.say("nearest: none reads a key of it")
        return
    read, unread = start.nearest.read, start.nearest.unread
    total = len(read) + len(unread)
    console.say(f"nearest: {start.nearest.family}, reads {len(read)} of {total} keys that matter")
    if unread:
        console.say(f"nothing there reads: {', '.join(unread)}")
