# SPDX-License-Identifier: Apache-2.0
"""Refuse a .gguf file whose keys the config that transformers makes of it does not say, or says otherwise.

llama.cpp has defaults for keys that a file lacks, transformers others: where they differ, nothing is guessed. Keys
without a part in what a model computes, such as names and vocabularies, are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsl.diagnostics import refuse
from porting.checkpoint.gguf_header import GgufArray, GgufHeader
from porting.files.strict_json import shown
from porting.original.gguf_config import PATTERN, has_experts, scaling_keys, windows

HELP = "port the original safetensors model"
BASE = 10000.0
"""The base of the rotation where a file says none."""
SCALE = "attention.scale"


def check_keys(
    name: str, header: GgufHeader, config: Any, tables: Mapping[str, Mapping[str, object]]
) -> None:
    """Refuse keys that transformers' reader drops, by its tables, and silence that it takes otherwise."""
    table = tables.get(header.architecture) or tables.get(config.model_type) or {}
    prefix = f"{header.architecture}."
    implied = _implied(config)
    implied |= {key: header.metadata[prefix + key] for key in scaling_keys(header)}
    if windows(header) and windows(header) == _windows(config):
        implied[PATTERN] = header.metadata.get(prefix + PATTERN)
    if not has_experts(header):
        implied |= {"expert_count": 0, "expert_used_count": 0}
    stated = {
        key.removeprefix(prefix): value
        for key, value in header.metadata.items()
        if key.startswith(prefix)
    }
    for key, value in stated.items():
        if table.get(key) not in (None, -1) and key not in implied:
            continue
        if implied.get(key) != value:
            said = "a list" if isinstance(value, GgufArray) else shown(value)
            message = f"{name}: transformers' reader drops `{shown(prefix + key)}` = {said}"
            raise refuse("S574", message, place=name, help=HELP)
    for key, taken in _assumed(config).items():
        if key not in stated and implied[key] != taken:
            message = (
                f"{name} has no `{prefix}{key}`: llama.cpp takes {taken}, transformers' reader "
                f"{implied[key]}"
            )
            raise refuse("S574", message, place=name, help=HELP)


def head_dim(config: Any) -> int:
    """Return the width of a head."""
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def _windows(config: Any) -> tuple[bool, ...]:
    return tuple(x == "sliding_attention" for x in getattr(config, "layer_types", None) or ())


def _rotation(config: Any) -> Mapping[str, Any]:
    """Return the rotation of a model's full attention, empty where it has none."""
    rotation = getattr(config, "rope_parameters", None) or {}
    return rotation.get("full_attention", rotation)  # type: ignore[no-any-return]


def _implied(config: Any) -> dict[str, object]:
    """Return what a config says of keys that the reader may drop."""
    width, rotation = head_dim(config), _rotation(config)
    every = getattr(config, "rope_parameters", None) or {}
    implied: dict[str, object] = {
        "attention.key_length": width,
        "attention.value_length": width,
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "vocab_size": config.vocab_size,
    }
    if rotation:
        turned = width * rotation.get("partial_rotary_factor", 1.0)
        implied |= {"rope.freq_base": rotation.get("rope_theta"), "rope.dimension_count": turned}
    if "sliding_attention" in every:
        implied["rope.freq_base_swa"] = every["sliding_attention"].get("rope_theta")
    if hasattr(config, "query_pre_attn_scalar"):
        # Files of Gemma leave it out: but for those of 27B, llama.cpp scales by the root of a head's width.
        implied[SCALE] = config.query_pre_attn_scalar
    return implied


def _assumed(config: Any) -> dict[str, object]:
    """Return what llama.cpp takes where a file does not say it."""
    assumed: dict[str, object] = {}
    if _rotation(config):
        assumed = {"rope.freq_base": BASE, "rope.dimension_count": head_dim(config)}
    if hasattr(config, "query_pre_attn_scalar"):
        assumed[SCALE] = head_dim(config)
    return assumed
