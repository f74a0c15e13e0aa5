# SPDX-License-Identifier: Apache-2.0
"""Tiny ports that speak in words, w0, w1, …, with a chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors.torch import load_file, save_file

import sohu
from farm.oracles.tiny import tiny
from tests.checkpoints import add_words

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}w90 {% endif %}"
    "{{ m.content }} w{{ 80 + loop.index }} {% endfor %}"
)


def talking(
    folder: Path,
    model_type: str = "llama",
    template: str = TEMPLATE,
    scaled: Mapping[str, float] = MappingProxyType({}),
    **keys: Any,
) -> Path:
    """Make a tiny model of a type, some tensors scaled, and return its port, which was not validated."""
    checkpoint = add_words(tiny(folder / "model", model_type, **keys))
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    save_file(
        {name: x * scaled.get(name, 1) for name, x in tensors.items()}, path, {"format": "pt"}
    )
    if template:
        settings = {"chat_template": template}
        (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    return sohu.port(checkpoint, out=folder / "port", validate=False).folder
