# SPDX-License-Identifier: Apache-2.0
"""Make a published config tiny: its sizes smaller, every other key, and the way it is written, kept.

Works on the file's JSON, knows no type by name and asks no class for defaults. What stands in several places is made
smaller in all of them: layers that are listed, counted or chosen by a period, lengths and what they are multiples of,
heads, factors a pair of coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farm.oracles.shrink import FEW_LAYERS, table
from porting.original.lengths import LAYERS, TOKEN_SUFFIXES, TOKENS

Config = dict[str, Any]

LEFT_OUT = frozenset({"quantization_config", "compression_config"})
"""Random weights are whole: what says how packed ones are stored would be untrue. Stored forms have their own tests."""
MOST_LAYERS = 8
MOST_TOKENS = 512
HIDDEN = ("hidden_size", "d_model", "n_embd", "n_embed")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
HEAD_DIM = ("head_dim", "kv_channels")
AS_HIDDEN = ("word_embed_proj_dim",)
LONGEST = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "model_max_length")
ORIGINAL = ("original_max_position_embeddings", "initial_context_length")
PARTS = ("partial_rotary_factor", "rotary_pct", "rotary_percentage")
FACTORS = ("short_factor", "long_factor")
SECTIONS = "mrope_section"
ROTARY_DIM = "rotary_dim"
PATTERNS = ("hybrid_override_pattern",)
"""Texts with a letter for each layer."""
CHOSEN = (
    "mlp_only_layers", "full_attn_idxs", "attn_layer_indices", "cross_attention_layers", "moe_layers",
    "global_attn_idx", "full_attention_layers",
)  # fmt: skip
"""Lists of the numbers of layers."""
STARTS = (
    "first_k_dense_replace", "max_window_layers", "num_dense_layers", "moe_layer_start_index",
    "num_kv_shared_layers", "n_dense_layers",
)  # fmt: skip
"""Counts of layers that are of one kind."""
PERIODS = (
    "sliding_window_pattern", "full_attention_interval", "interleave_moe_layer_step", "decoder_sparse_step",
    "moe_layer_freq", "attn_layer_period", "expert_layer_period", "global_attn_every_n_layers",
    "no_rope_layer_interval", "moe_layer_interval",
)  # fmt: skip
"""Every how many layers one is of another kind."""
DRAFTING = ("num_nextn_predict_layers", "num_mtp_layers")
KEPT = frozenset({*DRAFTING, "is_decoder", "norm_topk_prob"})
WIDE = 2
"""By how much a model is wider where only a part of each head rotates, so that it is more than one pair."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The layers that are kept, by their numbers, of as many as there were."""

    numbers: tuple[int, ...]
    of: int

    def below(self, count: int) -> int:
        """Return how many are kept of the first layers."""
        return sum(number < count for number in self.numbers)

    def kept(self, items: Sequence[Any]) -> list[Any]:
        """Return what a list says of the kept layers, and what it says beyond the last layer."""
        return [*(items[n] for n in self.numbers), *items[self.of :]]


def shrunk_published(raw: Mapping[str, Any], model_type: str) -> Config:
    """Return a published config with tiny sizes; `model_type` is transformers' name of its type."""
    special = table().get("types", {}).get(model_type, {})
    vocabulary = special.get("vocab_size", table()["fields"]["vocab_size"])
    tokens = iter(range(1, vocabulary))
    return _section(raw, special, tokens, vocabulary)


def _section(
    raw: Mapping[str, Any], special: Mapping[str, Any], tokens: Iterator[int], vocabulary: int
) -> Config:
    sizes = _sizes(special)
    layers = _layers(raw)
    tiny: Config = {}
    for key, value in raw.items():
        if key in LEFT_OUT:
            continue
        if isinstance(value, dict) and key.endswith("_config"):
            inner = special.get(key, {})
            tiny[key] = _section(
                value, inner if isinstance(inner, dict) else {}, tokens, vocabulary
            )
        elif key.endswith(TOKEN_SUFFIXES) or key in TOKENS:
            tiny[key] = _tokens(value, tokens, vocabulary)
        elif key in KEPT:
            tiny[key] = value
        elif _is_size(value) and key in sizes:
            tiny[key] = min(value, sizes[key])
        else:
            tiny[key] = value
    _shrink_layers(tiny, layers)
    _shrink_heads(tiny, raw, sizes)
    _shrink_rotation(tiny, raw)
    return tiny


def _sizes(special: Mapping[str, Any]) -> dict[str, int]:
    """Return the tiny values that are sizes: whole numbers, of the type where it has its own."""
    fields = table()["fields"]
    more = {"n_embed": fields["n_embd"], ORIGINAL[1]: fields[ORIGINAL[0]]}
    every = {**fields, **dict.fromkeys(AS_HIDDEN, fields["hidden_size"]), **more}
    return {key: value for key, value in {**every, **special}.items() if _is_size(value)}


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _tokens(value: Any, tokens: Iterator[int], vocabulary: int) -> Any:
    """Return ids that the small vocabulary has; what is no id stays."""
    if isinstance(value, list):
        return [_tokens(item, tokens, vocabulary) for item in value]
    return next(tokens) if _is_size(value) and value >= vocabulary else value


# Layers


def _layers(raw: Mapping[str, Any]) -> Chosen | None:
    """Return the layers to keep: the first few where every kind is among them, else some of each kind."""
    of = next((raw[key] for key in LAYERS if _is_size(raw.get(key))), 0)
    if not of:
        return None
    longest = max((raw[key] for key in PERIODS if _is_size(raw.get(key))), default=1)
    kinds = _kinds(raw, of)
    distinct = dict.fromkeys(kinds)
    for first in range(min(max(FEW_LAYERS, longest), MOST_LAYERS), MOST_LAYERS + 1):
        if of < FEW_LAYERS or set(kinds[:first]) == set(distinct):
            return Chosen(tuple(range(first)), of)
    numbers: list[int] = []
    for turn in range(FEW_LAYERS):
        for kind in distinct:
            places = [n for n, own in enumerate(kinds) if own == kind]
            numbers += places[turn : turn + 1]
        if len(numbers) >= FEW_LAYERS:
            break
    most = min(max(FEW_LAYERS, len(distinct)), MOST_LAYERS)
    return Chosen(tuple(sorted(numbers[:most])), of)


def _kinds(raw: Mapping[str, Any], of: int) -> list[tuple[Any, ...]]:
    """Return what a config says of each layer, one by one."""
    lists = [value for key, value in raw.items() if _is_listed(key, value, raw, of)]
    chosen = [set(raw[key]) for key in CHOSEN if _are_numbers(raw.get(key))]
    starts = [raw[key] for key in STARTS if _is_size(raw.get(key))]
    return [
        (
            *(str(items[n]) for items in lists),
            *(n in numbers for numbers in chosen),
            *(n < start for start in starts),
        )
        for n in range(of)
    ]


def _is_listed(key: str, value: Any, raw: Mapping[str, Any], of: int) -> bool:
    """Tell whether a value says something of each layer, perhaps of those for drafting too."""
    if not (isinstance(value, list) or (isinstance(value, str) and key in PATTERNS)):
        return False
    drafting = sum(raw[name] for name in DRAFTING if _is_size(raw.get(name)))
    return of > 1 and key not in CHOSEN and of <= len(value) <= of + drafting


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, int) for x in value)


def _shrink_layers(tiny: Config, chosen: Chosen | None) -> None:
    if chosen is None:
        return
    of = chosen.of
    for key, value in list(tiny.items()):
        if key in LAYERS and value:
            tiny[key] = len(chosen.numbers)
        elif key in STARTS and _is_size(value):
            tiny[key] = chosen.below(value)
        elif key in CHOSEN and _are_numbers(value):
            tiny[key] = [at for at, n in enumerate(chosen.numbers) if n in value]
        elif isinstance(value, str) and key in PATTERNS and len(value) >= of:
            tiny[key] = "".join(chosen.kept(value))
        elif isinstance(value, list) and _is_listed(key, value, tiny, of):
            tiny[key] = chosen.kept(value)


# Heads


def _shrink_heads(tiny: Config, raw: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Keep one key-value head as one, as many as heads as many, and heads that fill the width as filling it."""
    heads = next((key for key in HEADS if _is_size(raw.get(key))), "")
    if not heads:
        return
    for key in KV_HEADS:
        if _is_size(raw.get(key)) and raw[key] >= raw[heads]:
            tiny[key] = tiny[heads]
    hidden = next((key for key in HIDDEN if _is_size(raw.get(key))), "")
    if not hidden or any(_is_size(raw.get(key)) for key in (*HEAD_DIM, "qk_rope_head_dim")):
        return
    if any(_has(raw, key) for key in PARTS):
        for key in (*HIDDEN, *AS_HIDDEN):
            if raw.get(key) == raw[hidden]:
                tiny[key] = WIDE * sizes.get(key, tiny[key])


def _has(raw: Mapping[str, Any], key: str) -> bool:
    """Tell whether a key with a value stands at the top or among the keys of rotation."""
    places = [raw, *(value for name, value in raw.items() if name.startswith("rope"))]
    return any(isinstance(place, dict) and place.get(key) not in (None, 1) for place in places)


# Rotation and lengths


def _shrink_rotation(tiny: Config, raw: Mapping[str, Any]) -> None:
    """Keep the longest length as many times the original one, and a factor for every pair."""
    width = _head_width(tiny)
    if _is_size(raw.get(ROTARY_DIM)) and width:
        share = raw[ROTARY_DIM] / (_head_width(raw) or raw[ROTARY_DIM])
        tiny[ROTARY_DIM] = max(4, 2 * round(share * width / 2))
    original = _original(tiny, raw)
    for key in ORIGINAL:
        if _is_size(raw.get(key)):
            tiny[key] = original
    for name, value in raw.items():
        if name.startswith("rope") and isinstance(value, dict):
            tiny[name] = _rope(value, raw, tiny, original)
    for key in LONGEST:
        if _is_size(raw.get(key)) and (ratio := _ratio(raw)):
            tiny[key] = round(ratio * original)


def _original(tiny: Mapping[str, Any], raw: Mapping[str, Any]) -> int:
    """Return the original length, so short that the longest one is not long: rows may have to reach it."""
    usual: int = tiny.get(ORIGINAL[0], table()["fields"][ORIGINAL[0]])
    return max(8, min(usual, round(MOST_TOKENS / max(1.0, _ratio(raw)))))


def _ratio(raw: Mapping[str, Any]) -> float:
    """Return how many times the original length the longest one is; 0 where either is not said."""
    places = [raw, *(v for k, v in raw.items() if k.startswith("rope") and isinstance(v, dict))]
    original = next((p[ORIGINAL[0]] for p in places if _is_size(p.get(ORIGINAL[0]))), 0)
    longest = next((raw[key] for key in LONGEST if _is_size(raw.get(key))), 0)
    return longest / original if original else 0.0


def _rope(
    value: Mapping[str, Any], raw: Mapping[str, Any], tiny: Mapping[str, Any], original: int
) -> Config:
    result: Config = {}
    for key, item in value.items():
        if isinstance(item, dict):
            result[key] = _rope(item, raw, tiny, original)
        elif key in ORIGINAL and _is_size(item):
            result[key] = original
        elif key in FACTORS and isinstance(item, list):
            result[key] = _spread(item, raw, tiny)
        elif key == SECTIONS and isinstance(item, list):
            result[key] = _divided(item, _head_width(tiny) // 2)
        else:
            result[key] = item
    return result


def _spread(items: list[Any], raw: Mapping[str, Any], tiny: Mapping[str, Any]) -> list[Any]:
    """Return some of the factors of pairs, evenly spread, as many as there are pairs now."""
    width, was = _head_width(tiny), _head_width(raw)
    pairs = max(1, len(items) * width // was) if was else len(items)
    return [items[round(i * (len(items) - 1) / max(1, pairs - 1))] for i in range(pairs)]


def _divided(parts: list[int], pairs: int) -> list[int]:
    """Return pairs divided as they were, the rest to the first part."""
    whole = sum(parts)
    made = [part * pairs // whole for part in parts]
    made[0] += pairs - sum(made)
    return made


def _head_width(config: Mapping[str, Any]) -> int:
    for key in HEAD_DIM:
        if _is_size(config.get(key)):
            return int(config[key])
    hidden = next((config[key] for key in HIDDEN if _is_size(config.get(key))), 0)
    heads = next((config[key] for key in HEADS if _is_size(config.get(key))), 0)
    return hidden // heads if heads else 0
