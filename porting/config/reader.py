# SPDX-License-Identifier: Apache-2.0
"""Read config.json into flat keys, one spelling each, with the place of every key in the text.

Interprets nothing: which keys matter is for the family to say, and for `ignored_keys` to account for. Supplies
no defaults either, apart from what transformers itself writes into `rope_parameters` when it saves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dsl.diagnostics import Diagnostic, Label, Refused, refuse
from dsl.source import Source, Span
from porting.config.class_rules import class_rules
from porting.config.forbidden_keys import check_keys
from porting.config.json_places import dotted, key_places
from porting.config.rope_keys import ConfigEntry, Conflict, normalise_rope
from porting.files.files import find_file
from porting.files.strict_json import decode, parse_object, shown

NAME = "config.json"
MAX_BYTES = 8 * 2**20

FLOAT = "__float__"
UNBOUNDED = ("NaN", "Infinity", "-Infinity")
NULL = "null, which is the same as absent"
EMPTY = "an empty object, which is the same as absent"
REMOTE_CODE = "names code to run, which is never run"
DEAF = "the class passes over a `rope_scaling`"
WRITER = "says which version wrote the file"


@dataclass(frozen=True, slots=True, eq=False)
class ModelConfig:
    """A model's configuration: flat keys in one spelling, and where they came from.

    `architecture` is empty where the file names none and transformers goes by the model type.
    `origins` maps each key of `values` to the key as the file spells it. `dropped` holds the file's keys that are in
    no value, with the reason; `nulls` are those, in our spelling, that the file sets to null. `assumed` are keys
    of `values` that the file lacks and transformers' class has a default for, true where the family needs them.
    """

    source: Source
    values: Mapping[str, object]
    architecture: str
    model_type: str
    origins: Mapping[str, str]
    dropped: Mapping[str, str]
    nulls: frozenset[str]
    places: Mapping[str, tuple[int, int]]
    assumed: Mapping[str, bool] = field(default_factory=dict)

    def span_of(self, key: str) -> Span | None:
        """Return where the file writes a key, given in our spelling or in the file's."""
        place = self.places.get(self.origins.get(key, key))
        return Span(self.source, *place) if place else None


def read_config(directory: Path, name: str = NAME) -> ModelConfig:
    """Read the config.json of a model folder, or the file there of another name."""
    file = find_file(directory, name)
    if file is None:
        message = f"there is no {name} in the model folder"
        raise refuse("S511", message, help="MODEL is a folder as written by save_pretrained")
    return parse_config(file.read(MAX_BYTES))


def parse_config(data: bytes) -> ModelConfig:
    """Return the configuration that the bytes of a config.json hold."""
    raw = parse_object(data, name=NAME, code="S421", constants=True)
    source = Source(NAME, decode(data, name=NAME, code="S421"))
    places = key_places(source.text)
    check_keys(raw, name=NAME)
    account = _Account(source, places)
    entries = _flat(_normalised(_spelt(raw), "", account), "", account)
    origins = {key: entry.origin for key, entry in entries.items()}
    return ModelConfig(
        source=source,
        values={key: entry.value for key, entry in entries.items()},
        architecture=_architecture(raw, account),
        model_type=_model_type(raw, account),
        origins=origins,
        dropped=account.dropped,
        nulls=frozenset(account.nulls),
        places=places,
    )


def _spelt(value: dict[str, object]) -> dict[str, object]:
    """Return an object with NaN and infinities as text: whatever reads such a key is told that it is no number."""
    return {key: _finite(item) for key, item in value.items()}


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if not isinstance(value, dict):
        return value
    # How transformers 5 itself writes one.
    tagged = value.get(FLOAT) if len(value) == 1 else None
    return str(float(tagged)) if tagged in UNBOUNDED else _spelt(value)


class _Account:
    """What reading a config turns up besides its values."""

    def __init__(self, source: Source, places: Mapping[str, tuple[int, int]]) -> None:
        self.source = source
        self.places = places
        self.dropped: dict[str, str] = {}
        self.nulls: set[str] = set()

    def span(self, raw_key: str) -> Span | None:
        place = self.places.get(raw_key)
        return Span(self.source, *place) if place else None

    def refusal(self, code: str, message: str, raw_key: str, help: str = "") -> Refused:
        return Refused((Diagnostic(code, message, self.span(raw_key), place=NAME, help=help),))


def _architecture(raw: Mapping[str, object], account: _Account) -> str:
    names = raw.get("architectures")
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str) and names[0]:
        return names[0]
    said = raw.get("model_type")
    rules = class_rules(said) if names in (None, []) and isinstance(said, str) else None
    if rules is not None and rules.causal:
        return ""
    was = "is missing" if "architectures" not in raw else f"is {shown(names)}"
    message = f"`architectures` {was}; it must be a list of one class name"
    hint = 'for example "architectures": ["LlamaForCausalLM"]'
    raise account.refusal("S422", message, "architectures", hint)


def _model_type(raw: Mapping[str, object], account: _Account) -> str:
    name = raw.get("model_type")
    if isinstance(name, str) and name:
        return name
    was = "is missing" if "model_type" not in raw else f"is {shown(name)}"
    message = f"`model_type` {was}; it must name transformers' model type"
    raise account.refusal("S422", message, "model_type", 'for example "model_type": "llama"')


def _normalised(
    raw: Mapping[str, object], prefix: str, account: _Account
) -> dict[str, ConfigEntry]:
    entries: dict[str, ConfigEntry] = {}
    for key, value in raw.items():
        origin = dotted(prefix, key)
        if reason := _reason_to_drop(key, raw):
            account.dropped[origin] = reason
        else:
            entries[key] = ConfigEntry(value, origin)
    try:
        entries = _renamed(normalise_rope(entries, account.dropped), "torch_dtype", "dtype")
    except Conflict as conflict:
        raise _conflict(conflict, account) from conflict
    nested = entries.get("text_config")
    if nested is not None and isinstance(nested.value, dict):
        entries["text_config"] = ConfigEntry(
            _normalised(nested.value, nested.origin, account), nested.origin
        )
    return entries


def _reason_to_drop(key: str, raw: Mapping[str, object]) -> str:
    if key == "transformers_version":
        return WRITER
    if key == "rope_scaling" and _is_deaf(raw.get("model_type")):
        return DEAF
    return REMOTE_CODE if key == "auto_map" else ""


def _is_deaf(model_type: object) -> bool:
    rules = class_rules(model_type) if isinstance(model_type, str) else None
    return rules is not None and rules.rotation is not None and rules.rotation.deaf


def _renamed(entries: dict[str, ConfigEntry], old: str, new: str) -> dict[str, ConfigEntry]:
    if old not in entries:
        return entries
    was = entries.pop(old)
    if isinstance(was.value, str):
        was = ConfigEntry(was.value.removeprefix("torch."), was.origin)
    now = entries.get(new, was)
    if now.value is None:
        now = was
    if was.value is not None and now.value != was.value:
        raise Conflict(new, was, now)
    return entries | {new: now}


def _conflict(conflict: Conflict, account: _Account) -> Refused:
    old, new = conflict.old, conflict.new
    message = (
        f"`{old.origin}` and `{new.origin}` disagree about {conflict.what}: "
        f"{shown(old.value, 40)} and {shown(new.value, 40)}"
    )
    span, other = account.span(old.origin), account.span(new.origin)
    labels = (Label(other, "says otherwise"),) if other and other != span else ()
    hint = "keep the one that the model was trained with"
    return Refused((Diagnostic("S423", message, span, labels=labels, place=NAME, help=hint),))


def _flat(
    entries: Mapping[str, ConfigEntry], prefix: str, account: _Account
) -> dict[str, ConfigEntry]:
    flat: dict[str, ConfigEntry] = {}
    for key, entry in entries.items():
        name = dotted(prefix, key)
        for leaf, value in _leaves(name, entry, account).items():
            if leaf in flat:
                message = f"two keys amount to `{shown(leaf)}`"
                raise account.refusal("S421", message, value.origin)
            flat[leaf] = value
    return flat


def _leaves(name: str, entry: ConfigEntry, account: _Account) -> dict[str, ConfigEntry]:
    if entry.value is None:
        account.dropped[entry.origin] = NULL
        account.nulls.add(name)
        return {}
    if not isinstance(entry.value, dict):
        return {name: entry}
    if not entry.value:
        account.dropped[entry.origin] = EMPTY
        return {}
    inner = {
        key: item if isinstance(item, ConfigEntry) else ConfigEntry(item, dotted(entry.origin, key))
        for key, item in entry.value.items()
    }
    return _flat(inner, name, account)
