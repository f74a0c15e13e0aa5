# SPDX-License-Identifier: Apache-2.0
"""Write a tiny random checkpoint of any causal model type, as save_pretrained does.

Whether transformers runs what is written is `examine`'s question.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.oracles.shrink import shrunk, table
from porting.original.reference import libraries

MAX_PARAMETERS = 4_000_000
SOFTMAX_GAIN = 12.0
SIGMOID_GAIN = 3.0
CORRECTION = "e_score_correction_bias"
COUNTS_OF_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def tiny(
    directory: Path, model_type: str, *, dtype: str = "bfloat16", seed: int = 0, **overrides: Any
) -> Path:
    """Save a random model of a type and return its folder."""
    torch, transformers = libraries()
    config = tiny_config(model_type, **overrides)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    check_tiny(empty)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomize(model, model_type, seed)
    store_in(model, dtype)
    model.save_pretrained(directory)
    if type(config) is not type(model.config):
        # The text part of a composite model; on its own its config names no causal model.
        config.architectures = model.config.architectures
        config.dtype = dtype
        config.save_pretrained(directory)
    return directory


def check_tiny(model: Any) -> None:
    """Raise `ValueError` for a model that is not tiny."""
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > MAX_PARAMETERS:
        raise ValueError(f"{type(model).__name__} is not tiny: {size:,} parameters")


def store_in(model: Any, dtype: str) -> None:
    """Give a model's weights the data type that they are stored in; a router's corrections stay float32."""
    torch, _ = libraries()
    model.to(getattr(torch, dtype))
    for name, buffer in model.named_buffers():
        if name.endswith(CORRECTION):
            buffer.data = buffer.data.float()


def tiny_config(model_type: str, **overrides: Any) -> Any:
    """Return transformers' config of the tiny model."""
    _, transformers = libraries()
    return transformers.AutoConfig.for_model(model_type, **(shrunk(model_type) | overrides))


def randomize(model: Any, model_type: str, seed: int) -> None:
    """Give every weight a random value at which the model neither dies nor explodes; nothing stays 0 or 1."""
    torch, _ = libraries()
    special = table().get("types", {}).get(model_type, {})
    gain, gains = special.get("router_gain"), special.get("gain", {})
    experts = _experts(model.config)
    state = dict(model.named_parameters()) | {
        name: buffer for name, buffer in model.named_buffers() if name.endswith(CORRECTION)
    }
    if gain is None:
        gain = SIGMOID_GAIN if any(n.endswith(CORRECTION) for n in state) else SOFTMAX_GAIN
    embeddings = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, torch.nn.Embedding)
    }
    with torch.no_grad():
        for name, weight in state.items():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith(CORRECTION):
                weight.copy_(2.0 * noise)
            elif _is_router(name, weight, experts):
                weight.copy_(noise * gain / weight.shape[-1] ** 0.5)
            elif name in embeddings:
                weight.copy_(noise * 0.4)
            else:
                weight.copy_(_around(weight, noise))
            weight.mul_(next((x for end, x in gains.items() if name.endswith(end)), 1.0))


def _around(weight: Any, noise: Any) -> Any:
    """Return noise where the weight was noise or nothing, and noise around its value where it had a meaning."""
    torch, _ = libraries()
    usable = bool(torch.isfinite(weight).all()) and float(weight.abs().max()) < 1e4
    mean, spread = float(weight.mean()), float(weight.std()) if weight.numel() > 1 else 0.0
    centred = abs(mean) <= 4 * spread / weight.numel() ** 0.5
    if usable and not centred and spread == 0.0:
        return mean * (1 + 0.25 * noise)
    if usable and not centred:
        return weight * (1 + 0.2 * noise)
    if weight.ndim < 2:
        return 0.2 * noise
    inner = weight.shape[1:] if weight.ndim == 3 and weight.shape[1] == 1 else weight.shape[-2:]
    fan = float(inner.numel()) if weight.ndim == 3 and weight.shape[1] == 1 else sum(inner) / 2
    return noise / fan**0.5


def _is_router(name: str, weight: Any, experts: frozenset[int]) -> bool:
    last = name.split(".")[-3:]
    named = any("gate" in part or "router" in part for part in last)
    return named and weight.ndim == 2 and weight.shape[0] in experts


def _experts(config: Any) -> frozenset[int]:
    keys: Mapping[str, Any] = config.get_text_config().to_dict()
    return frozenset(keys[k] for k in COUNTS_OF_EXPERTS if isinstance(keys.get(k), int))
