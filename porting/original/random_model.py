# SPDX-License-Identifier: Apache-2.0
"""Write a random model of a config's class, at smaller sizes, as save_pretrained does.

Works on whatever `torch` and `transformers` it is handed and imports none itself. Sizes shrink; lengths, kinds of
layers and everything else that a config says stay as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from porting.original.lengths import LAYERS, TOKEN_SUFFIXES

TEXT = "text_config"
VOCABULARY = 256
INNER = 96
WIDTH = 64
LEAST_LAYERS, MOST_LAYERS = 2, 12
MAX_PARAMETERS = 60_000_000
HIDDEN = ("hidden_size", "n_embd", "d_model")
HEADS = ("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads")
KEYS = ("num_key_value_heads", "num_kv_heads")
INNERS = (
    "intermediate_size", "ffn_dim", "n_inner", "moe_intermediate_size", "ffn_hidden_size",
    "shared_expert_intermediate_size", "decoder_ffn_dim", "intermediate_size_mlp",
)  # fmt: skip
PACKED = "quantization_config"

Config = dict[str, Any]


def smaller(raw: Mapping[str, Any]) -> Config:
    """Return a config with small sizes in place of its own."""
    if isinstance(raw.get(TEXT), Mapping):
        inner = _smaller(raw[TEXT])
        return {**{k: v for k, v in raw.items() if k != PACKED}, TEXT: inner}
    return _smaller(raw)


def _smaller(raw: Mapping[str, Any]) -> Config:
    made = {key: value for key, value in raw.items() if key != PACKED}
    heads, keys = _number(raw, HEADS), _number(raw, KEYS)
    shared = heads is not None and keys is not None and keys < heads
    few = {**dict.fromkeys(HEADS, 2), **dict.fromkeys(KEYS, 1 if shared else 2)}
    made |= {key: n for key, n in few.items() if isinstance(raw.get(key), int)}
    hidden = _number(raw, HIDDEN)
    width = WIDTH
    if raw.get("head_dim") is None and heads and hidden:
        width = 2 * (hidden // heads)
    made |= {key: width for key in HIDDEN if isinstance(raw.get(key), int)}
    made |= {key: INNER for key in INNERS if isinstance(raw.get(key), int)}
    if isinstance(raw.get("vocab_size"), int):
        made["vocab_size"] = VOCABULARY
    made |= _tokens(raw)
    layers = _number(raw, LAYERS)
    return made if layers is None else {**made, **_fewer_layers(raw, layers)}


def _fewer_layers(raw: Mapping[str, Any], layers: int) -> Config:
    """Return the keys that say how many layers there are and of which kinds: as many as show every kind."""
    listed = {k: v for k, v in raw.items() if isinstance(v, list) and len(v) == layers}
    needed = [_all_kinds(value) for value in listed.values()]
    kept = min(layers, max([LEAST_LAYERS, *needed]) if listed else 8, MOST_LAYERS)
    made: Config = {key: kept for key in LAYERS if isinstance(raw.get(key), int)}
    return made | {key: value[:kept] for key, value in listed.items()}


def _all_kinds(kinds: list[Any]) -> int:
    return max(kinds.index(kind) for kind in kinds) + 1


def _tokens(raw: Mapping[str, Any]) -> Config:
    """Return special tokens that a small vocabulary has."""
    made: Config = {}
    for key, value in raw.items():
        if not key.endswith(TOKEN_SUFFIXES):
            continue
        several = value if isinstance(value, list) else [value]
        numbers = [x % VOCABULARY for x in several if isinstance(x, int)]
        if numbers:
            made[key] = numbers if isinstance(value, list) else numbers[0]
    return made


def _number(raw: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    values = (raw.get(key) for key in keys)
    return next(
        (v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None
    )


def write_random(torch: Any, transformers: Any, raw: Mapping[str, Any], folder: Path) -> None:
    """Save a random model of the config; raises `ValueError` where it is not small."""
    config = transformers.AutoConfig.for_model(**raw)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    size = sum(parameter.numel() for parameter in empty.parameters())
    if size > MAX_PARAMETERS:
        raise ValueError(f"{size:,} parameters are not few")
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            _randomize(torch, name, weight)
    model.save_pretrained(folder)


def _randomize(torch: Any, name: str, weight: Any) -> None:
    """Give a weight values at which attention looks somewhere and nothing explodes."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(weight.shape, generator=generator)
    if weight.dim() > 1:
        is_table = "embed" in name or "wte" in name or "wpe" in name
        weight.copy_(noise * (0.5 if is_table else weight.shape[-1] ** -0.5))
    elif float(weight.std() if weight.numel() > 1 else 0.0) == 0.0:
        weight.copy_(weight + 0.25 * noise)
