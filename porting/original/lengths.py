# SPDX-License-Identifier: Apache-2.0
"""The lengths and tokens that an original's own config speaks of: where its rows must reach, and what they leave out.

Read from transformers' config object, defaults of the class included, and shared with nothing on the port's side: a
window that the port forgot is still looked beyond. Whether anything happens at a length is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

KEYS = re.compile(
    r"window|chunk|original_max|floor_scale|index_topk|local_attention|keep_window|block_size"
)
NOT_LENGTHS = re.compile(r"max_window_layers|use_sliding_window|feed_forward|window_pattern")
LENGTH_TYPES = frozenset({"dynamic", "longrope", "su"})
"""Rotations that depend on how long the sequence is, against the longest one that the config names."""
LONGEST = "max_position_embeddings"
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_blocks", "decoder_layers")
"""How configs call the number of their layers."""
TOKEN_SUFFIXES = ("_token_id", "_token_index")
TOKENS = frozenset({"pad_index", "eos_index", "bos_index", "unk_index", "mask_index"})


def config_lengths(config: Mapping[str, object]) -> dict[int, str]:
    """Return each length that a config names, with the first key that does."""
    lengths: dict[int, str] = {}
    for key, value in _named(config, ""):
        lengths.setdefault(value, key)
    if length_counts(config):
        longest = config.get(LONGEST)
        if isinstance(longest, int) and not isinstance(longest, bool):
            lengths.setdefault(longest, LONGEST)
    return lengths


def length_counts(config: Mapping[str, object]) -> bool:
    """Tell whether the config asks for a rotation that depends on how long the sequence is."""
    return any(kind in LENGTH_TYPES for kind in _rope_types(config))


def _named(section: Mapping[str, object], above: str) -> Iterator[tuple[str, int]]:
    for name, value in section.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _named(value, f"{key}.")
        elif KEYS.search(str(name)) and not NOT_LENGTHS.search(str(name)):
            several = (
                value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            )
            yield from (
                (key, int(x))
                for x in several
                if isinstance(x, int | float) and not isinstance(x, bool) and x > 1
            )


def _rope_types(section: object) -> Iterator[object]:
    """Yield every `rope_type` or `type` beneath a key that begins with `rope`, and in what it holds."""
    if not isinstance(section, Mapping):
        return
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _rope_types(value)
        elif name in {"rope_type", "type"}:
            yield value


def config_tokens(config: Mapping[str, object]) -> frozenset[int]:
    """Return the ids of special tokens that a config names."""
    tokens: set[int] = set()
    for name, value in config.items():
        if isinstance(value, Mapping):
            tokens |= config_tokens({str(k): v for k, v in value.items()})
        elif str(name).endswith(TOKEN_SUFFIXES) or name in TOKENS:
            several = value if isinstance(value, list | tuple) else [value]
            tokens |= {x for x in several if isinstance(x, int) and not isinstance(x, bool)}
    return frozenset(tokens)
