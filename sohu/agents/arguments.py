# SPDX-License-Identifier: Apache-2.0
"""What an argument of a tool may be: its type, its size, and for a path that it stays in the folder.

The JSON Schema that agents are shown is made of the same table. What a value means is the command's affair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from dsl.diagnostics import Diagnostic, Refused, did_you_mean
from dsl.harmless import harmless
from dsl.regular_file import is_inside, is_there
from porting.files.bounds import outside
from porting.origin.resolve import DEMO

Value: TypeAlias = str | int | bool | tuple[str, ...]
MAX_PATH, MAX_WORD, MAX_LIST = 1024, 200, 16
SHOWN = 80
WORD = re.compile(r"[\w][\w./=,:+ -]*", re.ASCII)
HUB_ID = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}(@[\w][\w./-]{0,255})?", re.ASCII)


class ArgumentKind(Enum):
    """What an argument is."""

    PATH = "path"
    PROGRAM = "path or name of the zoo"
    MODEL = "path, demo or hub id"
    DEVICE = "name or path of a .toml file"
    WORD = "word"
    TEXT = "text"
    TEXTS = "list of texts"
    NUMBER = "whole number"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument; `option` is the command's, none for a positional; `most` is the largest number, or longest text."""

    name: str
    kind: ArgumentKind
    about: str
    required: bool = False
    option: str = ""
    least: int = 0
    most: int = MAX_PATH

    def schema(self) -> dict[str, object]:
        """Return the argument's JSON Schema."""
        text: dict[str, object] = {"type": "string", "minLength": 1, "maxLength": self.longest}
        match self.kind:
            case ArgumentKind.NUMBER:
                of = {"type": "integer", "minimum": self.least, "maximum": self.most}
            case ArgumentKind.FLAG:
                of = {"type": "boolean"}
            case ArgumentKind.TEXTS:
                of = {"type": "array", "items": text, "maxItems": MAX_LIST}
            case _:
                of = text
        return {**of, "description": self.about}

    @property
    def longest(self) -> int:
        """Return how many characters a text may have."""
        return MAX_WORD if self.kind is ArgumentKind.WORD else self.most


@dataclass(frozen=True, slots=True)
class Place:
    """The folder that tools are limited to, as a real path, and whether a hub id may be named."""

    root: Path
    hub: bool = False


def schema(arguments: Sequence[Argument]) -> dict[str, object]:
    """Return the JSON Schema of a tool's arguments; there are no others."""
    return {
        "type": "object",
        "properties": {argument.name: argument.schema() for argument in arguments},
        "required": [argument.name for argument in arguments if argument.required],
        "additionalProperties": False,
    }


def admitted(
    arguments: Sequence[Argument], given: Mapping[str, object], place: Place
) -> dict[str, Value]:
    """Return the values of a call; raises `Refused` for what is unknown, absent or wrong (S111), or outside (S118)."""
    known = [argument.name for argument in arguments]
    faults = [
        _fault(name, "there is no such argument", did_you_mean(name, known))
        for name in given
        if name not in known
    ]
    faults += [
        _fault(argument.name, "it is needed")
        for argument in arguments
        if argument.required and given.get(argument.name) is None
    ]
    values: dict[str, Value] = {}
    for argument in arguments:
        if given.get(argument.name) is None:
            continue
        value, wrong = _typed(argument, given[argument.name])
        if value is None:
            faults.append(_fault(argument.name, wrong))
            continue
        faults += _displaced(argument, value, place)
        values[argument.name] = value
    if faults:
        raise Refused(faults)
    return values


def _typed(argument: Argument, value: object) -> tuple[Value | None, str]:
    """Return a value of the argument's type, or none and what is wrong."""
    match argument.kind:
        case ArgumentKind.FLAG:
            return (value, "") if isinstance(value, bool) else (None, "it is true or false")
        case ArgumentKind.NUMBER:
            fits = type(value) is int and argument.least <= value <= argument.most
            between = f"it is a whole number from {argument.least:,} to {argument.most:,}"
            return (value, "") if isinstance(value, int) and fits else (None, between)
        case ArgumentKind.TEXTS:
            if not isinstance(value, list) or len(value) > MAX_LIST:
                return None, f"it is a list of at most {MAX_LIST} texts"
            wrong = next((w for w in (_wrong_text(argument, v) for v in value) if w), "")
            return (None, wrong) if wrong else (tuple(map(str, value)), "")
        case _:
            wrong = _wrong_text(argument, value)
            return (None, wrong) if wrong or not isinstance(value, str) else (value, "")


def _wrong_text(argument: Argument, value: object) -> str:
    if not isinstance(value, str):
        return "it is a text"
    if not 1 <= len(value) <= argument.longest:
        return f"it has {len(value):,} characters; it may have 1 to {argument.longest:,}"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8 text"
    if "\0" in value:
        return "it has a zero byte"
    if argument.kind is ArgumentKind.WORD and not WORD.fullmatch(value):
        return f"`{harmless(value[:SHOWN])}` is no word"
    return ""


def _displaced(argument: Argument, value: Value, place: Place) -> Iterator[Diagnostic]:
    """Yield the refusal of a path that is not in the folder."""
    path_in = _PATHS.get(argument.kind)
    path = path_in(str(value)) if path_in is not None else None
    if path is None or (argument.kind is ArgumentKind.MODEL and _is_hub(path, place)):
        return
    # A `~` at the beginning would become a home; a hyphen is no option, since values stand behind `=` or `--`.
    if path.startswith("~") or not is_inside(place.root / path, place.root):
        yield from outside(harmless(path)).diagnostics


def _is_hub(name: str, place: Place) -> bool:
    return place.hub and HUB_ID.fullmatch(name) is not None and not is_there(place.root / name)


_PATHS: Mapping[ArgumentKind, Callable[[str], str | None]] = {
    ArgumentKind.PATH: lambda value: value,
    ArgumentKind.PROGRAM: lambda value: value,
    ArgumentKind.MODEL: lambda value: None if value == DEMO else value,
    ArgumentKind.DEVICE: lambda value: value,
}
"""The path that a value of a kind is, None where it is none."""


def _fault(name: str, wrong: str, help: str = "") -> Diagnostic:
    shown = harmless(name[:SHOWN])
    return Diagnostic("S111", f"argument `{shown}`: {wrong}", place=shown, help=help)
