# SPDX-License-Identifier: Apache-2.0
"""Say what an architecture that no family claims would need: the operation, the nearest family, the keys beyond it.

Nearest means the family that reads most of the config's keys, less those that it needs and the config lacks; of equals
the one that leaves and asks for least. It judges keys alone: where to start from, not a port.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

from dsl.diagnostics import Diagnostic, Refused
from dsl.linking.parts import collect, expanded
from dsl.regular_file import read_shipped
from dsl.text import syntax as sx
from porting.config import ignored_keys
from porting.config.reader import ModelConfig
from porting.config.text_part import text_part
from porting.planning import outside
from porting.planning.library import FAMILIES, SUFFIX, ZOO, parsed_blocks, parsed_families

MAX_KEYS = 8
MAX_COMPARED = 2000
GUIDE = "docs/port-a-new-architecture.md"
"""Only a checkout has it."""
PLAIN = re.compile(r"\w[\w-]{0,63}", re.ASCII)
"""A model type that may name a file."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """A family by how many of a config's keys it reads: those it reads, and those that nothing accounts for."""

    family: str
    read: tuple[str, ...]
    unread: tuple[str, ...]


@lru_cache(maxsize=1)
def lacking() -> dict[str, str]:
    """Return what each model type that no family covers lacks."""
    data = tomllib.loads(read_shipped(ZOO / "missing.toml"))
    return {name: reason for reason, names in data["lacks"].items() for name in names}


def refusal(config: ModelConfig) -> Refused:
    """Return the refusal of an architecture that no family claims: S549 where its kind is outside, else S404."""
    is_outside = outside.refusal(config)
    if is_outside is not None:
        return is_outside
    text = text_part(config)
    closest = nearest(text)
    reason = lacking().get(config.model_type)
    notes = [f"what is missing: {reason}"] if reason else []
    if closest is not None:
        total = len(closest.read) + len(closest.unread)
        unread = f"; nothing there reads {_listed(closest.unread)}" if closest.unread else ""
        notes.append(
            f"the nearest family is {closest.family}: it reads {len(closest.read)} of the {total} keys that matter"
            f"{unread}"
        )
    message = f"no family claims {config.architecture}"
    place = "config.json: architectures"
    help_ = _remedy(config.model_type, None if closest is None else closest.family)
    span = config.span_of("architectures")
    return Refused(
        (Diagnostic("S404", message, span, place=place, notes=tuple(notes), help=help_),)
    )


def _remedy(model_type: str, closest: str | None) -> str:
    """Return where to write a family: a file of the user's, in a checkout one of the zoo."""
    name = model_type if PLAIN.fullmatch(model_type) else "mine"
    file = f"{name}{SUFFIX}"
    known = (ZOO / FAMILIES / file).is_file()
    start = name if known else closest
    if (ZOO.parent / GUIDE).is_file():
        after = "" if known or closest is None else f" after model_zoo/families/{closest}.sohu"
        verb = "extend" if known else "write"
        return f"{verb} model_zoo/families/{file}{after}, or a file of yours for --family; {GUIDE} shows how"
    copy = "" if start is None else f", from `sohu explain {start}`"
    return f"write {file}{copy}, and give it: --family {file}; `sohu explain own-architecture` shows how"


def nearest(config: ModelConfig) -> Nearest | None:
    """Return the family that reads most of a config's keys, None where none reads any."""
    config = _of_the_model(config)
    parts = collect(parsed_blocks())
    best: tuple[tuple[int, int, int], Nearest] | None = None
    for file in parsed_families():
        for family in file.families:
            binds = tuple(_binds(expanded(family, parts).items))
            keys = {path for key, _ in binds for path in key.paths}
            unread = ignored_keys.account(config, keys).unread
            read = tuple(key for key in config.values if key in keys)
            lost = [key for key, needed in binds if needed and not _has(key, config)]
            score = (len(read) - len(lost), -len(unread), -len(keys))
            if best is None or score > best[0]:
                best = score, Nearest(family.name.id, read, unread)
    return best[1] if best is not None and best[1].read else None


def _of_the_model(config: ModelConfig) -> ModelConfig:
    """Leave out how weights are stored, which may be most of a file, and what is beyond any model's number of keys."""
    values = (
        (key, value)
        for key, value in config.values.items()
        if key.partition(".")[0] not in ignored_keys.STORED
    )
    return replace(config, values=dict(islice(values, MAX_COMPARED)))


def _has(key: sx.Key, config: ModelConfig) -> bool:
    """Tell whether a config has a key in any of its spellings."""
    return any(path in config.values for path in key.paths)


def _binds(
    items: Sequence[sx.Item | sx.ConfigItem], always: bool = True
) -> Iterator[tuple[sx.Key, bool]]:
    """Yield the keys that a family reads, and whether it needs them whatever the config says."""
    for item in items:
        match item:
            case sx.Config(items=inner):
                yield from _binds(inner)
            case sx.ConfigIf(then=then, orelse=orelse):
                yield from _binds((*then, *orelse), always=False)
            case sx.Bind(value=sx.Key() as key, default=default):
                yield key, always and default is None
            case _:
                continue


def _listed(keys: Sequence[str]) -> str:
    shown = ", ".join(f"`{key}`" for key in keys[:MAX_KEYS])
    left = len(keys) - MAX_KEYS
    return f"{shown} and {left} more" if left > 0 else shown
