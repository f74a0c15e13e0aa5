# SPDX-License-Identifier: Apache-2.0
"""Bring the rotary keys of both layouts of config.json into one: `rope_parameters`.

transformers 4 wrote `rope_theta` and `rope_scaling` at the top level, transformers 5 one `rope_parameters`, which may
be keyed by layer type. The result is what transformers 5 would save. No frequency is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PASSED_OVER = "the rotation says otherwise, and transformers takes what stands there"
TYPES_WITH_ORIGINAL_LENGTH = frozenset({"llama3", "longrope", "yarn"})

ORIGINAL_LENGTH = "original_max_position_embeddings"
REALS = frozenset(
    {
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "factor",
        "high_freq_factor",
        "low_freq_factor",
        "mscale",
        "mscale_all_dim",
        "partial_rotary_factor",
        "rope_theta",
    }
)


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """A value and the key that holds it, as the file spells it.

    Values that are objects may hold plain JSON or, once normalised, entries.
    """

    value: object
    origin: str


class Conflict(Exception):
    """Two keys of a file say different things about one fact."""

    def __init__(self, what: str, old: ConfigEntry, new: ConfigEntry) -> None:
        super().__init__(what)
        self.what, self.old, self.new = what, old, new


def normalise_rope(
    entries: Mapping[str, ConfigEntry], passed: dict[str, str]
) -> dict[str, ConfigEntry]:
    """Return the entries of one config object with all that concerns rotation in `rope_parameters`.

    Keys beside it that say otherwise are added to `passed`, as the file spells them, with the reason.
    """
    rest = dict(entries)
    old = _present(rest, "rope_scaling")
    new = _present(rest, "rope_parameters")
    shared: dict[str, ConfigEntry] = {
        key: rest.pop(key)
        for key in ("rope_theta", "partial_rotary_factor")
        if key in rest and rest[key].value is not None
    }
    if not (old or new or shared):
        return rest
    if old is not None and not isinstance(old.value, dict):
        return rest | shared | {"rope_scaling": old}
    if new is not None and not isinstance(new.value, dict):
        return rest | shared | {"rope_parameters": new}
    if new is not None and _is_nested(new.value):
        if old is not None:
            raise Conflict("rotation", old, new)
        layers = _nested(new, shared, rest, passed)
        _pass_over(shared, [*_filled_layers(layers)], passed)
        return rest | {"rope_parameters": layers}
    merged = _one_layout(old, new, shared, rest, passed)
    _pass_over(shared, [merged], passed)
    top = rest.get(ORIGINAL_LENGTH)
    if top is not None and merged.get(ORIGINAL_LENGTH) is top:
        rest.pop(ORIGINAL_LENGTH)
    origin = (new or old or next(iter(shared.values()))).origin
    return rest | {"rope_parameters": ConfigEntry(merged, origin)}


def _present(rest: dict[str, ConfigEntry], key: str) -> ConfigEntry | None:
    if key not in rest or rest[key].value in (None, {}):
        return None
    return rest.pop(key)


def _object(entry: ConfigEntry) -> dict[str, object]:
    return entry.value if isinstance(entry.value, dict) else {}


def _is_nested(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    items = list(value.values())
    return any(isinstance(x, dict) for x in items) and all(
        isinstance(x, dict | None) for x in items
    )


def _nested(
    new: ConfigEntry,
    shared: Mapping[str, ConfigEntry],
    rest: Mapping[str, ConfigEntry],
    passed: dict[str, str],
) -> ConfigEntry:
    layers: dict[str, ConfigEntry] = {}
    for name, value in _object(new).items():
        origin = f"{new.origin}.{name}"
        parameters = ConfigEntry(value, origin)
        if isinstance(value, dict):
            parameters = ConfigEntry(_filled(parameters, shared, rest, passed), origin)
        layers[name] = parameters
    return ConfigEntry(layers, new.origin)


def _filled_layers(layers: ConfigEntry) -> Iterator[dict[str, ConfigEntry]]:
    for layer in _object(layers).values():
        if isinstance(layer, ConfigEntry) and isinstance(layer.value, dict):
            yield layer.value


def _pass_over(
    shared: Mapping[str, ConfigEntry],
    rotations: list[dict[str, ConfigEntry]],
    passed: dict[str, str],
) -> None:
    """Note the keys beside a rotation whose values it has nowhere."""
    for key, value in shared.items():
        if all(one[key].value != _real(key, value.value) for one in rotations):
            passed[value.origin] = PASSED_OVER


def _one_layout(
    old: ConfigEntry | None,
    new: ConfigEntry | None,
    shared: Mapping[str, ConfigEntry],
    rest: Mapping[str, ConfigEntry],
    passed: dict[str, str],
) -> dict[str, ConfigEntry]:
    if old is None or new is None:
        return _filled(old or new, shared, rest, passed)
    first, second = (_filled(one, shared, rest, passed) for one in (old, new))
    for key in first.keys() | second.keys():
        a = first.get(key, ConfigEntry(None, old.origin))
        b = second.get(key, ConfigEntry(None, new.origin))
        if a.value != b.value:
            raise Conflict(f"`{key}`", a, b)
    return second


def _filled(
    entry: ConfigEntry | None,
    shared: Mapping[str, ConfigEntry],
    rest: Mapping[str, ConfigEntry],
    passed: dict[str, str],
) -> dict[str, ConfigEntry]:
    """Return one set of rotary parameters with the type and the keys that may stand beside it."""
    parameters = _own(entry, passed) if entry is not None else {}
    for key, value in shared.items():
        parameters.setdefault(key, ConfigEntry(_real(key, value.value), value.origin))
    origin = entry.origin if entry is not None else next(iter(shared.values())).origin
    rope_type = parameters.setdefault("rope_type", ConfigEntry("default", origin)).value
    if isinstance(rope_type, str) and rope_type in TYPES_WITH_ORIGINAL_LENGTH:
        _original_length(parameters, rest)
    nulls = _nulls(entry) if entry is not None else {}
    return dict(sorted((nulls | parameters).items()))


def _nulls(entry: ConfigEntry) -> dict[str, ConfigEntry]:
    return {
        key: ConfigEntry(None, f"{entry.origin}.{key}")
        for key, value in _object(entry).items()
        if value is None
    }


def _own(entry: ConfigEntry, passed: dict[str, str]) -> dict[str, ConfigEntry]:
    parameters = {
        key: ConfigEntry(_real(key, value), f"{entry.origin}.{key}")
        for key, value in _object(entry).items()
        if value is not None
    }
    former = parameters.pop("type", None)
    if former is not None:
        now = parameters.setdefault("rope_type", former)
        if now.value != former.value:
            passed[former.origin] = PASSED_OVER
    return parameters


def _original_length(parameters: dict[str, ConfigEntry], rest: Mapping[str, ConfigEntry]) -> None:
    top = rest.get(ORIGINAL_LENGTH)
    if top is not None and top.value is not None:
        own = parameters.setdefault(ORIGINAL_LENGTH, top)
        if own.value != top.value:
            raise Conflict(f"`{ORIGINAL_LENGTH}`", top, own)
    longest = rest.get("max_position_embeddings")
    if longest is not None and longest.value is not None:
        parameters.setdefault(ORIGINAL_LENGTH, longest)


def _real(key: str, value: object) -> object:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_integer and key in REALS else value  # type: ignore[arg-type]
