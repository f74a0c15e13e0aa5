"""Tiny ports that speak in words, w0, w1, …, with a chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sohu
from farm.oracles.tiny import tiny
from tests.checkpoints import add_words

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}w90 {% endif %}"
    "{{ m.content }} w{{ 80 + loop.index }} {% endfor %}"
)


def talking(folder: Path, model_type: str = "llama", template: str = TEMPLATE, **keys: Any) -> Path:
    """Make a tiny model of a type and return its port, which was not validated."""
    checkpoint = add_words(tiny(folder / "model", model_type, **keys))
    if template:
        settings = {"chat_template": template}
        (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    return sohu.port(checkpoint, out=folder / "port", validate=False).folder
