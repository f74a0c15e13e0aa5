# SPDX-License-Identifier: Apache-2.0
"""Write a tiny random checkpoint of a published config: the config as it lies, the weights of transformers' class.

Nothing is written by transformers but the weights: a config that it saves is one that it has understood.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from farm.oracles.shrink import causal_types, shrunk, table
from farm.oracles.shrink_published import shrunk_published
from farm.oracles.tiny import check_tiny, randomize, store_in
from porting.original.loading import open_config
from porting.original.reference import libraries

FOLDER = Path(__file__).with_name("published")
CONFIG = "config.json"
TEXT = "text_config"
APART = ("vision_config", "audio_config")
USUAL = "float32"
"""The data type of weights of which the config names none: torch's own."""


@lru_cache(maxsize=1)
def published() -> Mapping[str, Path]:
    """Return the published configs by their names."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.json"))}


def oracles() -> tuple[str, ...]:
    """Return the names of those that an oracle is made of; why not of the others stands in the table."""
    return tuple(name for name in published() if name not in table()["not_published"])


def raw_config(name: str) -> dict[str, Any]:
    """Return a published config as it lies."""
    return cast("dict[str, Any]", json.loads(published()[name].read_text(encoding="utf-8")))


def type_of(name: str) -> str:
    """Return the causal type of transformers that a published config is of: its class's, where that is unknown."""
    raw = raw_config(name)
    known = causal_types()
    if raw.get("model_type") in known:
        return str(raw["model_type"])
    named = (raw.get("architectures") or [""])[0]
    return next((kind for kind, architecture in known.items() if architecture == named), "")


def tiny_published(directory: Path, name: str, *, seed: int = 0) -> Path:
    """Save a random model of a published config, shrunk, and return its folder."""
    torch, transformers = libraries()
    model_type = type_of(name)
    raw = shrunk_published(raw_config(name), model_type)
    _complete(raw, model_type)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps(raw, indent=2), encoding="utf-8")
    config = open_config(transformers, directory, raw)
    torch.manual_seed(seed)
    model = _built(torch, transformers, raw, config)
    randomize(model, model_type, seed)
    store_in(model, _dtype(raw))
    with tempfile.TemporaryDirectory(prefix="farm-") as work:
        model.save_pretrained(work)
        for path in Path(work).glob("*.safetensors*"):
            path.replace(directory / path.name)
    return directory


def _complete(raw: dict[str, Any], model_type: str) -> None:
    """Give the parts of a composite model the sizes that the file leaves to defaults, which are not tiny.

    Of the text part that is the vocabulary alone; of parts that text does not pass, everything.
    """
    if not isinstance(raw.get(TEXT), dict):
        return
    defaults = shrunk(model_type)
    raw[TEXT].setdefault("vocab_size", defaults[TEXT]["vocab_size"])
    for key in APART:
        if isinstance(defaults.get(key), dict):
            raw[key] = {**raw.get(key, {}), **defaults[key]}


def _built(torch: Any, transformers: Any, raw: Mapping[str, Any], config: Any) -> Any:
    """Return a fresh float32 model of the class that the file names, or else of the causal class of its type."""
    named = (raw.get("architectures") or [""])[0]
    build = getattr(transformers, named, None)
    if build is None or not isinstance(config, build.config_class):
        build = transformers.AutoModelForCausalLM.from_config
    with torch.device("meta"):
        check_tiny(build(config))
    return build(config).float()


def _dtype(raw: Mapping[str, Any]) -> str:
    sections = (raw, raw.get("text_config") or {})
    said = (part.get(key) for part in sections for key in ("dtype", "torch_dtype"))
    return next((str(value).removeprefix("torch.") for value in said if value), USUAL)
