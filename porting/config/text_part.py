# SPDX-License-Identifier: Apache-2.0
"""Take the text model's config out of a config that describes a text model beside others.

transformers hands that part to a causal class whose own config is the inner one (`Llama4ForCausalLM` of a Llama 4).
A file that says something of consequence about itself at both levels is left as it is: its inner keys stay unread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from porting.config.ignored_keys import IDENTITY, IGNORED, PRIVATE
from porting.config.reader import ModelConfig

TEXT = "text_config."
APART = "outside of `text_config`, which is all that the causal model reads"
STORED = "quantization_config."
"""How weights are stored is said of the whole file, wherever it stands."""
SHARED = IDENTITY | {"tie_word_embeddings"}
"""What both levels may say: the inner one is the text model's."""


def text_part(config: ModelConfig) -> ModelConfig:
    """Return the config of the text model alone, where the file describes one beside others; else the config."""
    names = [key.removeprefix(TEXT) for key in config.values if key.startswith(TEXT)]
    if "model_type" not in names or _says_both(config, names):
        return config
    return inner_part(config)


def inner_part(config: ModelConfig) -> ModelConfig:
    """Return the inner config, with how the outer one says that weights are stored where it does not itself."""
    inner = {key: key.removeprefix(TEXT) for key in config.values if key.startswith(TEXT)}
    if not any(name.startswith(STORED) for name in inner.values()):
        inner |= {key: key for key in config.values if key.startswith(STORED)}
    apart = {
        config.origins[key]: APART
        for key in config.values
        if key not in inner and key not in IDENTITY
    }
    return replace(
        config,
        values={name: config.values[key] for key, name in inner.items()},
        origins={name: config.origins[key] for key, name in inner.items()},
        dropped={**config.dropped, **apart},
        nulls=frozenset(n.removeprefix(TEXT) for n in config.nulls if n.startswith(TEXT)),
    )


def _says_both(config: ModelConfig, names: Iterable[str]) -> bool:
    return any(
        name in config.values and name not in SHARED | IGNORED.keys() | PRIVATE.keys()
        for name in names
    )
