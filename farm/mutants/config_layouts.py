# SPDX-License-Identifier: Apache-2.0
"""Write configs in other layouts, and as transformers saves them: what a port makes of both must be the same program.

transformers is the judge of what a text means: it reads the text and saves all that it understood, defaults and old
spellings settled, and the plan of that is what the plan of the text must be. No weights are made, so that a layout
takes a fraction of a second; that the plan of a saved config is right is what the oracles of class defaults show.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsl.diagnostics import Refused
from dsl.graph import Graph, Node
from dsl.stored_tensors import tensors
from farm.oracles.published_models import oracles, raw_config, type_of
from farm.oracles.tiny import tiny_config
from porting.config.reader import NAME
from porting.origin.resolve import resolve
from porting.original.loading import open_config
from porting.original.reference import libraries, refusing
from porting.planning.opening import open_to_plan
from porting.planning.plan import plan

Config = dict[str, Any]

SAME, REFUSED, UNREAD, DIFFERS = "same", "refused", "unread", "differs"
KEPT = ("architectures", "model_type", "dtype", "torch_dtype", "quantization_config")
"""What is the text's in both: names, and how weights are stored."""
THETA = 6000.0
PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Layout:
    """What became of a config in one layout.

    `same`: the text and what transformers saves of it give one program; `refused`: the port refuses the text; `unread`:
    transformers does; `differs`: they give two programs, or the port refuses what transformers saves of a text that it
    accepts, which is a fault.
    """

    model_type: str
    layout: str
    verdict: str
    problem: str = ""


def layouts(model_type: str) -> Iterator[Layout]:
    """Yield what becomes of a type's tiny config in every layout, and of the published configs of the type."""
    saved, default = _saved(model_type)
    rotates = bool(saved.get("rope_parameters"))
    for name, write in LAYOUTS.items():
        text = write(saved, default)
        if text != saved and (rotates or write is _absent):
            yield Layout(model_type, name, *compared(text))
    for name in oracles():
        if type_of(name) == model_type:
            yield Layout(model_type, f"{PUBLISHED} {name}", *compared(raw_config(name)))


def compared(text: Mapping[str, Any]) -> tuple[str, str]:
    """Return the verdict on one config, with what is wrong."""
    _, transformers = libraries()
    with tempfile.TemporaryDirectory(prefix="farm-") as name:
        folder = Path(name)
        try:
            mine = _program(folder, text)
        except Refused as refused:
            return REFUSED, str(refused)
        try:
            with refusing("S551", "read this config"):
                read = open_config(transformers, folder, text)
        except Refused as refused:
            return UNREAD, str(refused)
        whole = json.loads(read.to_json_string())
        try:
            theirs = _program(folder, {**whole, **{k: text[k] for k in KEPT if k in text}})
        except Refused as refused:
            return DIFFERS, f"what transformers saves is refused: {refused}"
    if mine == theirs:
        return SAME, ""
    first = next((both for both in zip(mine, theirs, strict=False) if both[0] != both[1]), ("", ""))
    return DIFFERS, f"{first[0]} is {first[1]} for transformers"


def _saved(model_type: str) -> tuple[Config, Config]:
    """Return a type's tiny config as transformers saves it, and the defaults of its class."""
    torch, transformers = libraries()
    config = tiny_config(model_type)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    written = config if type(config) is not type(model.config) else model.config
    saved = json.loads(written.to_json_string(use_diff=False))
    saved |= {"architectures": [type(model).__name__], "dtype": "bfloat16"}
    return saved, json.loads(type(written)().to_json_string(use_diff=False))


def _program(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Return all that a planned program does, line by line, without names and places."""
    (folder / NAME).write_text(json.dumps(config), encoding="utf-8")
    origin = resolve(str(folder / NAME))
    return list(_lines(plan(origin, *open_to_plan(origin)).graph))


def _lines(graph: Graph) -> Iterator[str]:
    for body, layers in graph.bodies():
        yield f"layers {layers}"
        for step in body.steps:
            if isinstance(step, Node):
                attrs = sorted((key, str(value)) for key, value in step.attrs.items())
                yield f"{step.op} {attrs}"
        for weight in body.weights:
            yield f"{weight.type} from {[name for name, _ in tensors(weight.source, layers[0])]}"


# Layouts


def _old(saved: Config, default: Config) -> Config:
    """Write rotation as transformers 4 did: at the top, scaling by `type`, none where it is usual."""
    text = copy.deepcopy(saved)
    text["torch_dtype"] = text.pop("dtype")
    rotation = text.pop("rope_parameters", None)
    if not isinstance(rotation, dict):
        return text
    nested = any(isinstance(value, dict) for value in rotation.values())
    local = (rotation.get("sliding_attention") or {}) if nested else {}
    flat = dict((rotation.get("full_attention") or {}) if nested else rotation)
    if "rope_theta" in local:
        text["rope_local_base_freq"] = local["rope_theta"]
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in flat:
            text[key] = flat.pop(key)
    kind = flat.pop("rope_type", "default")
    return text | {"rope_scaling": None if kind == "default" else {"type": kind, **flat}}


ROTATION = ("rope_scaling", "rope_theta", "rope_local_base_freq", "partial_rotary_factor")


def _bare(saved: Config, default: Config) -> Config:
    """Leave out all that is said of rotation."""
    return {k: v for k, v in _old(saved, default).items() if k not in ROTATION}


def _flat(saved: Config, default: Config) -> Config:
    """Say a base at the top and no scaling, whatever the class's default is."""
    return _bare(saved, default) | {"rope_theta": THETA, "rope_scaling": None}


def _linear(saved: Config, default: Config) -> Config:
    """Say a base at the top and linear scaling in the old way."""
    return _flat(saved, default) | {"rope_scaling": {"type": "linear", "factor": 3.0}}


def _null(saved: Config, default: Config) -> Config:
    """Say null of rotation."""
    return saved | {"rope_parameters": None}


def _absent(saved: Config, default: Config) -> Config:
    """Leave out what the class has by default."""
    return {k: v for k, v in saved.items() if k in KEPT or k not in default or default[k] != v}


LAYOUTS: Mapping[str, Callable[[Config, Config], Config]] = {
    "old rotation": _old,
    "no rotation": _bare,
    "flat rotation": _flat,
    "linear rotation": _linear,
    "null rotation": _null,
    "absent keys": _absent,
}
