# SPDX-License-Identifier: Apache-2.0
"""Write down what transformers' config classes say of every causal type, as the data that a port reads configs with.

The classes are asked, not copied: each is constructed with nothing, with null for one key at a time, and with marked
rotary keys, to see what it makes of them. The result is `porting/config/classes.json`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from farm.classes.lists import lists_of
from farm.classes.reads import core_reads, module_reads
from porting.original.reference import libraries

OUT = Path("porting/config/classes.json")
MARK = 12345.25
MARKED_PART = 0.3125
ROTATED = "rope_parameters"
SCALING = {"rope_type": "linear", "factor": 3.0}
KEPT = ("partial_rotary_factor", "rope_theta")
LAYERS = ("full_attention", "sliding_attention")

Data = dict[str, Any]


def table() -> Data:
    """Return the data: the keys that all models read, those of each module, and what each type's class says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A class that refuses what is tried on it prints itself whole.
        logging.disable()
        try:
            return _table()
        finally:
            logging.disable(logging.NOTSET)


def _table() -> Data:
    _, transformers = libraries()
    source = root()
    core = core_reads(source)
    causal = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    types: dict[str, Data] = {}
    modules: dict[str, list[str]] = {}
    for model_type, architecture in sorted(causal.items()):
        known = transformers.models.auto.configuration_auto.CONFIG_MAPPING[model_type]
        _add(types, model_type, known)
        types[model_type]["causal"] = architecture
    for row in types.values():
        module = row["module"]
        modules[module] = sorted(_plain(module_reads(source, module)) - core)
    version = transformers.__version__
    return {
        "transformers": version,
        "core": sorted(_plain(core)),
        "modules": modules,
        "types": types,
    }


def root() -> Path:
    """Return the folder of transformers' source."""
    _, transformers = libraries()
    return Path(transformers.__file__).parent


def text(data: Mapping[str, Any]) -> str:
    """Return the data as JSON with a line for each type and module, so that a change can be read."""
    lines = ["{", f' "transformers": {json.dumps(data["transformers"])},']
    lines.append(f' "core": {json.dumps(data["core"])},')
    for key in ("modules", "types"):
        rows = [f"  {json.dumps(n)}: {json.dumps(row)}" for n, row in sorted(data[key].items())]
        lines += [f' "{key}": {{', ",\n".join(rows), " }," if key == "modules" else " }"]
    return "\n".join([*lines, "}", ""])


def _plain(names: frozenset[str]) -> frozenset[str]:
    """Leave out names of classes and of Python's own: no key is spelt so."""
    return frozenset(n for n in names if n == n.lower() and not n.startswith("__"))


def _add(types: dict[str, Data], name: str, known: Any) -> None:
    """Add the row of a class, and of those of the configs inside of it."""
    if name in types:
        return
    row: Data = {"module": known.__module__.split(".")[2]}
    types[name] = row
    usual = _base_fields(known)
    fields = {f.name: _default(f) for f in dataclasses.fields(known) if f.name not in usual}
    parts = {key: spec for key, spec in _specs(known).items() if key in fields}
    row["keys"] = {k: v for k, v in sorted(fields.items()) if v is not None and k not in parts}
    row["nullable"] = [k for k in sorted(row["keys"]) if _takes_null(known, k)]
    if known.attribute_map:
        row["names"] = dict(sorted(known.attribute_map.items()))
    if {ROTATED, "rope_theta"} & fields.keys():
        row["rotation"] = _rotation(known)
    row |= lists_of(known, fields, module_reads(root(), row["module"]))
    if parts:
        row["parts"] = {k: _part(types, name, *pair) for k, pair in sorted(parts.items())}


def _base_fields(known: Any) -> set[str]:
    """Return the fields that every config has, which are of no consequence to a forward pass."""
    base = next(c for c in known.__mro__ if c.__name__ == "PreTrainedConfig")
    return {field.name for field in dataclasses.fields(base)}


def _default(field: Any) -> Any:
    value = field.default
    if value is dataclasses.MISSING:
        made = field.default_factory
        value = None if made is dataclasses.MISSING else made()
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return value


def _takes_null(known: Any, key: str) -> bool:
    try:
        known(**{key: None})
    except Exception:  # noqa: BLE001 - whatever a class raises, it does not take the null
        return False
    return True


def _specs(known: Any) -> dict[str, tuple[Any, Mapping[str, Any]]]:
    """Return the class of each config inside of another, and what the outer class gives it."""
    specs = {
        key: (
            spec.get_config_class(spec.model_type) if spec.model_type else spec.config_class,
            spec.init_kwargs,
        )
        for key, spec in known.sub_configs_defaults.items()
    }
    named: dict[str, tuple[Any, Mapping[str, Any]]] = {
        key: (inner, {}) for key, inner in known.sub_configs.items() if key not in specs
    }
    return specs | {key: pair for key, pair in named.items() if hasattr(pair[0], "model_type")}


def _part(types: dict[str, Data], outer: str, inner: Any, given: Mapping[str, Any]) -> Data:
    """Return the type of a config inside of another, and the plain values that the outer class gives it."""
    name = inner.model_type
    if not name or name == outer:
        name = inner.__name__
    _add(types, name, inner)
    plain = {k: v for k, v in given.items() if isinstance(v, (bool, int, float, str))}
    return {"type": name, **({"given": plain} if plain else {})}


def _rotation(known: Any) -> Data:
    """Return what a class makes of rotary keys, by their dotted names.

    `absent` is the rotation where the file has none. `theta` and `part` are where a `rope_theta` and a
    `partial_rotary_factor` beside it then go: nowhere, where the class has a rotation of its own. `beside` is what
    is added to a rotation that the file has, and `layers` to one by kind of layer. `former` are the types that a
    `rope_scaling` sets: a class that is `deaf` passes over all of it, one that is `untyped` over a `type` in it.
    """
    absent = _flat(_made(known))
    result: Data = {"absent": absent}
    marked = _flat(_made(known, rope_theta=MARK))
    result["theta"] = [key for key, value in marked.items() if value == MARK]
    parts = _flat(_made(known, partial_rotary_factor=MARKED_PART))
    result["part"] = [key for key, value in parts.items() if value == MARKED_PART]
    beside = _added(_flat(_made(known, rope_parameters=dict(SCALING))), SCALING)
    result["beside"] = beside or {k: v for k, v in absent.items() if k.rpartition(".")[2] in KEPT}
    former, typed = _types_set(known, "rope_type"), _types_set(known, "type")
    result |= {"former": former or [], "deaf": former == [], "untyped": bool(former) and not typed}
    if any(key.partition(".")[0] in LAYERS for key in absent):
        nested = {kind: dict(SCALING) for kind in LAYERS}
        result["layers"] = _added(_flat(_made(known, rope_parameters=nested)), _flat(nested))
    return {k: v for k, v in result.items() if v}


def _types_set(known: Any, spelling: str) -> list[str] | None:
    """Return the types that a `rope_scaling` sets which spells its own so, None where the class refuses it."""
    scaling = {spelling: SCALING["rope_type"], "factor": SCALING["factor"]}
    made = _flat(_made(known, rope_scaling=scaling))
    if not made:
        return None
    linear = [key for key, value in made.items() if value == SCALING["rope_type"]]
    return [key for key in linear if key.rpartition(".")[2] == "rope_type"]


def _made(known: Any, **keys: Any) -> Any:
    try:
        return getattr(known(**keys), ROTATED, None) or {}
    except Exception:  # noqa: BLE001 - a rotation that the class refuses adds nothing
        return {}


def _added(made: Mapping[str, Any], given: Mapping[str, Any]) -> Data:
    return {k: v for k, v in made.items() if k not in given and k.rpartition(".")[2] != "type"}


def _flat(value: Mapping[str, Any]) -> Data:
    return dict(sorted(_leaves(value, "")))


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        elif item is not None and not (isinstance(item, float) and not math.isfinite(item)):
            yield prefix + key, item
