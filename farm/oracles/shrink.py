# SPDX-License-Identifier: Apache-2.0
"""Turn the default config of a model type into a tiny one, by field names and a table of what types need beyond them.

Knows no type by name: `oracles.toml` does. Writes nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from porting.original.lengths import LAYERS, TOKEN_SUFFIXES, TOKENS
from porting.original.reference import libraries

TABLE = Path(__file__).with_name("oracles.toml")
THETA_FACTOR = 0.6
KINDS = frozenset({"layer_types", "layers_block_type", "indexer_types", "block_types"})
LEAD_KINDS = frozenset({"mlp_layer_types"})
FEW_LAYERS = 4

NOTES = frozenset({"drop", "gain", "none", "router_gain"})

Config = dict[str, Any]


@lru_cache(maxsize=1)
def table() -> Mapping[str, Any]:
    """Return the table of tiny values and of the types that need more."""
    return cast("Mapping[str, Any]", tomllib.loads(TABLE.read_text(encoding="utf-8")))


def causal_types() -> dict[str, str]:
    """Return transformers' causal model types with the classes that run them."""
    _, transformers = libraries()
    auto = transformers.models.auto.modeling_auto
    return dict(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def outside() -> Mapping[str, str]:
    """Return the types of which no oracle can be made, with reasons."""
    return cast("Mapping[str, str]", table()["outside"])


def runs_in(model_type: str, numerics: str) -> bool:
    """Tell whether transformers' own code runs in these numerics."""
    return model_type not in table()["lacks"].get(numerics, ())


def shrunk(model_type: str) -> Config:
    """Return the keys that make the type's default config tiny."""
    _, transformers = libraries()
    special = table().get("types", {}).get(model_type, {})
    default = transformers.AutoConfig.for_model(model_type).to_dict()
    vocabulary = special.get("vocab_size", table()["fields"]["vocab_size"])
    keys = _merged(_section(default, _absent_tokens(vocabulary)), special)
    dropped = {*NOTES, *special.get("drop", ())}
    return {k: v for k, v in keys.items() if k not in dropped} | dict.fromkeys(
        special.get("none", ())
    )


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Config:
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            result[key] = _merged(below, value)
        else:
            result[key] = value
    return result


def _section(default: Mapping[str, Any], tokens: Iterator[int]) -> Config:
    """Return tiny values for the fields of one config or one config inside of another."""
    fields = table()["fields"]
    tiny: Config = {}
    layers = next((fields[name] for name in LAYERS if name in default), FEW_LAYERS)
    for key, value in default.items():
        if isinstance(value, dict):
            inner = _rope(value) if key.startswith("rope") else _inner(value, tokens)
            if inner:
                tiny[key] = inner
        elif key.endswith(TOKEN_SUFFIXES) or key in TOKENS:
            if isinstance(value, int):
                tiny[key] = next(tokens)
        elif value is None:
            continue
        elif key in KINDS:
            tiny[key] = _cycle(value, layers)
        elif key in LEAD_KINDS:
            tiny[key] = _lead(value, layers)
        elif key in ("rope_theta", "rope_local_base_freq"):
            tiny[key] = value * THETA_FACTOR
        elif key in fields and isinstance(value, int | float | list | tuple):
            tiny[key] = fields[key]
    for key, rule in table()["with"].items():
        if default.get(key) is not None:
            tiny |= {name: x for name, x in rule.items() if name in default}
            tiny = {name: x for name, x in tiny.items() if name not in rule.get("drop", ())}
    return tiny


def _inner(value: Mapping[str, Any], tokens: Iterator[int]) -> Config:
    if "model_type" not in value:
        return {}
    return {"model_type": value["model_type"], **_section(value, tokens)}


def _rope(value: Mapping[str, Any]) -> Config:
    fields = table()["fields"]
    tiny = dict(value)
    for key, item in value.items():
        if isinstance(item, dict):
            tiny[key] = _rope(item)
        elif key == "rope_theta":
            tiny[key] = item * THETA_FACTOR
        elif key in fields and item is not None:
            tiny[key] = fields[key]
    return tiny


def _cycle(kinds: list[str], layers: int) -> list[str]:
    """Repeat the kinds in the order in which they first occur."""
    distinct = list(dict.fromkeys(kinds))
    return [distinct[i % len(distinct)] for i in range(layers)] if distinct else []


def _lead(kinds: list[str], layers: int) -> list[str]:
    """Return one layer of each kind, then more of the last."""
    distinct = list(dict.fromkeys(kinds))[:layers]
    return distinct + distinct[-1:] * (layers - len(distinct))


def _absent_tokens(vocabulary: int) -> Iterator[int]:
    """Yield small token ids, which every table has; rows of validation leave out what a config names."""
    yield from range(1, vocabulary)
