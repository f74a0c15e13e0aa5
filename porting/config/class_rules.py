# SPDX-License-Identifier: Apache-2.0
"""What transformers' config class of a model type says: defaults, nulls, other names of keys, and the keys it reads.

The facts are data (`classes.json`), made from the pinned transformers by `python -m farm classes`; neither transformers
nor torch is imported. Changes no config: `class_defaults` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

from dsl.regular_file import read_shipped
from porting.config.json_places import dotted

FILE = Path(__file__).with_name("classes.json")
ROTATED = "rope_parameters"
_NONE: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a class makes of rotary keys, by their dotted names below `rope_parameters`.

    `absent` is the rotation where a file has none, and `theta` and `part` are where a `rope_theta` and a
    `partial_rotary_factor` beside it go then. `beside` is what a flat rotation of the file lacks, `layers` what one
    by kind of layer lacks; `former` are the types that a flat `rope_scaling` sets. A class that is `deaf` passes over
    a `rope_scaling`, one that is `untyped` over a `type` in it.
    """

    absent: Mapping[str, object] = field(default_factory=dict)
    theta: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    beside: Mapping[str, object] = field(default_factory=dict)
    layers: Mapping[str, object] = field(default_factory=dict)
    former: tuple[str, ...] = ()
    deaf: bool = False
    untyped: bool = False


@dataclass(frozen=True, slots=True)
class ListRule:
    """How a class makes a list: always the same, or an item for each layer, by a head, a cycle and a last item.

    Where a file gives one of `inputs` another value than the class's, the list is another.
    """

    constant: tuple[object, ...] = ()
    head: tuple[object, ...] = ()
    cycle: tuple[object, ...] = ()
    last: object = None
    inputs: tuple[str, ...] = ()

    def made(self, layers: int) -> list[object]:
        """Return the list for a number of layers."""
        if self.constant:
            return list(self.constant)
        more = range(layers - len(self.head))
        items = [*self.head[:layers], *(self.cycle[i % len(self.cycle)] for i in more)]
        return items if self.last is None else [*items[:-1], self.last]


@dataclass(frozen=True, slots=True)
class ClassRules:
    """What one config class says.

    `keys` are the defaults that are not null, `nullable` those of them that take a null; `names` are other names of
    keys; `parts` are the types of configs inside, with what they are given where the file has none; `causal` is the
    class that runs the type, empty for one that is only inside of others. `lists` are made for as many layers as the
    key `layers` says.
    """

    name: str
    module: str
    keys: Mapping[str, object]
    nullable: frozenset[str]
    names: Mapping[str, str]
    rotation: Rotation | None
    parts: Mapping[str, tuple[str, Mapping[str, object]]]
    causal: str
    layers: str
    lists: Mapping[str, ListRule]


@lru_cache(maxsize=1)
def _data() -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", json.loads(read_shipped(FILE)))


def _table(key: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", _data()[key])


def transformers_version() -> str:
    """Return the version of transformers that the rules are those of."""
    return str(_data()["transformers"])


@cache
def class_rules(model_type: str) -> ClassRules | None:
    """Return the rules of a model type, None for one that transformers has no causal model of."""
    row = _table("types").get(model_type)
    if not isinstance(row, dict):
        return None
    rotation = row.get("rotation")
    return ClassRules(
        name=model_type,
        module=row["module"],
        keys=row["keys"],
        nullable=frozenset(row["nullable"]),
        names=row.get("names", _NONE),
        rotation=None if rotation is None else Rotation(**_frozen(rotation)),
        parts={
            k: (part["type"], part.get("given", _NONE)) for k, part in row.get("parts", {}).items()
        },
        causal=row.get("causal", ""),
        layers=row.get("layers", ""),
        lists={key: ListRule(**_frozen(rule)) for key, rule in row.get("lists", {}).items()},
    )


def _frozen(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the data with tuples for lists: its keys are the fields of what it becomes."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


@lru_cache(maxsize=1)
def causal_classes() -> Mapping[str, str]:
    """Return the model type of each class that runs causal models; of several types the first."""
    types: dict[str, str] = {}
    for name in _table("types"):
        rules = class_rules(name)
        if rules is not None and rules.causal:
            types.setdefault(rules.causal, name)
    return types


@cache
def rules_of_class(causal: str) -> tuple[ClassRules, ...]:
    """Return the rules of every model type that a class runs, those of the type that it is named after first."""
    rules = [r for r in map(class_rules, _table("types")) if r is not None and r.causal == causal]
    return tuple(sorted(rules, key=lambda r: not _named_after(causal, r.name)))


def _named_after(causal: str, model_type: str) -> bool:
    return causal.lower().startswith(model_type.replace("_", "").lower())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key stands: the class of the config that it belongs to, that config's prefix, and the key inside."""

    rules: ClassRules
    prefix: str
    key: str
    given: Mapping[str, object]


def place(rules: ClassRules, key: str, values: Mapping[str, object]) -> Place:
    """Return where a dotted key stands, configs inside of configs followed; a file may name their types."""
    prefix, given = "", _NONE
    while True:
        head, _, rest = key.partition(".")
        if not rest or head not in rules.parts:
            return Place(rules, prefix, key, given)
        own = dotted(prefix.rstrip("."), head) + "."
        name, more = rules.parts[head]
        said = values.get(f"{own}model_type")
        inner = class_rules(said) if isinstance(said, str) else None
        inner = inner or class_rules(name)
        if inner is None:
            return Place(rules, prefix, key, given)
        given = _NONE if any(k.startswith(own) for k in values) else more
        rules, prefix, key = inner, own, rest


def reads(rules: ClassRules, key: str, values: Mapping[str, object]) -> bool:
    """Tell whether transformers' code reads a dotted key of a config anywhere, by any of its names.

    What a config says inside of an object that is no config of its own counts by each name of its path.
    """
    at = place(rules, key, values)
    names = _names_read(at.rules.module)
    return all(any(n in names for n in _spellings(at.rules, part)) for part in at.key.split("."))


@cache
def _names_read(module: str) -> frozenset[str]:
    return frozenset(_table("modules")[module]) | frozenset(_data()["core"])


def _spellings(rules: ClassRules, key: str) -> Iterator[str]:
    yield key
    yield from (other for other, name in rules.names.items() if name == key)
    if key in rules.names:
        yield rules.names[key]
