# SPDX-License-Identifier: Apache-2.0
"""Tiny random models as .gguf files, written as llama.cpp's converter writes them; the gguf package's names and types.

`write` gives the model's folder the values that the file holds, so that both are the same model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 104,
    "max_position_embeddings": 512,
}


@dataclass(frozen=True)
class Kind:
    """A type of transformers, its settings, its keys in the file beside the usual ones, and its architecture there."""

    model_type: str
    settings: dict[str, object] = field(default_factory=dict)
    keys: dict[str, object] = field(default_factory=dict)
    architecture: str = ""
    without: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.architecture or self.model_type


HEAD_256 = {"attention.key_length": 256, "attention.value_length": 256}
KINDS = {
    "llama": Kind(
        "llama",
        {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}},
        {"rope.freq_base": 20000.0, "rope.dimension_count": 16},
    ),
    "qwen2": Kind("qwen2", keys={"rope.freq_base": 10000.0}),
    "qwen3": Kind(
        "qwen3",
        {"head_dim": 128},
        {
            "rope.freq_base": 10000.0,
            "attention.key_length": 128,
            "attention.value_length": 128,
        },
    ),
    "gemma2": Kind(
        "gemma2",
        {"head_dim": 256, "sliding_window": 8, "tie_word_embeddings": True},
        {
            "attention.sliding_window": 8,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            **HEAD_256,
        },
    ),
    "gemma3": Kind(
        "gemma3_text",
        {
            "head_dim": 256,
            "sliding_window": 8,
            "num_hidden_layers": 6,
            "tie_word_embeddings": True,
        },
        {"attention.sliding_window": 8, "rope.freq_base": 1000000.0, **HEAD_256},
        "gemma3",
    ),
    # Phi-3's padding token and the sizes of the next two's vocabularies are not among the keys that are read.
    "phi3": Kind(
        "phi3", {"vocab_size": 32064}, {"rope.freq_base": 10000.0, "rope.dimension_count": 16}
    ),
    "starcoder2": Kind(
        "starcoder2",
        {"vocab_size": 49152, "tie_word_embeddings": True},
        {"attention.layer_norm_epsilon": 1e-5},
        without=frozenset({"attention.layer_norm_rms_epsilon"}),
    ),
    "nemotron": Kind("nemotron", keys={"rope.freq_base": 10000.0, "rope.dimension_count": 8}),
    "gpt2": Kind(
        "gpt2",
        {
            "n_embd": 64,
            "n_head": 4,
            "n_layer": 2,
            "vocab_size": 50257,
            "n_positions": 1024,
            "tie_word_embeddings": True,
        },
        {
            "context_length": 1024,
            "feed_forward_length": 256,
            "attention.layer_norm_epsilon": 1e-5,
        },
        without=frozenset({"attention.layer_norm_rms_epsilon", "attention.head_count_kv"}),
    ),
}
ROPE = {"rope.freq_base": 10000.0}
LAYER_NORM = {"attention.layer_norm_epsilon": 1e-5}
NO_RMS = frozenset({"attention.layer_norm_rms_epsilon"})
HEAD_32 = {"attention.key_length": 32, "attention.value_length": 32}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
COUNTS = {"expert_count": 4, "expert_used_count": 2}
KINDS |= {
    "arcee": Kind("arcee", keys={**ROPE, "rope.dimension_count": 16}),
    "cohere2": Kind(
        "cohere2",
        {"sliding_window": 8, "num_hidden_layers": 4, "tie_word_embeddings": True, "logit_scale": 0.25},
        {**ROPE, **LAYER_NORM, "logit_scale": 0.25, "attention.sliding_window": 8, "rope.dimension_count": 16},
        without=NO_RMS,
    ),
    "command-r": Kind(
        "cohere",
        {"tie_word_embeddings": True, "logit_scale": 0.5},
        {"rope.freq_base": 500000.0, **LAYER_NORM, "logit_scale": 0.5},
        "command-r",
        NO_RMS,
    ),
    "ernie4_5": Kind(
        "ernie4_5", {"head_dim": 32}, {"rope.freq_base": 500000.0, **HEAD_32}
    ),
    "exaone4": Kind(
        "exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 2}, ROPE
    ),
    "exaone4 with windows": Kind(
        "exaone4",
        {
            "sliding_window": 8,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        {
            **ROPE,
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": [True, False, True],
        },
        "exaone4",
    ),
    "gemma": Kind("gemma", {"head_dim": 32, "tie_word_embeddings": True}, {**ROPE, **HEAD_32}),
    "glm4": Kind("glm4", {"head_dim": 32}, {**ROPE, **HEAD_32, "rope.dimension_count": 16}),
    "granite": Kind(
        "granite",
        {
            "attention_multiplier": 0.25,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.5,
            "logits_scaling": 4.0,
        },
        {
            **ROPE,
            "rope.dimension_count": 16,
            "attention.scale": 0.25,
            "embedding_scale": 12.0,
            "residual_scale": 0.5,
            "logit_scale": 4.0,
        },
    ),
    "olmo2": Kind("olmo2", keys=ROPE),
    "seed_oss": Kind("seed_oss", {"head_dim": 32}, {**ROPE, **HEAD_32}),
    "smollm3": Kind(
        "smollm3", {"num_hidden_layers": 5}, {"rope.freq_base": 2000000.0, "rope.dimension_count": 16}
    ),
    "stablelm": Kind(
        "stablelm", {"use_qkv_bias": True}, {**ROPE, **LAYER_NORM, "rope.dimension_count": 4}, without=NO_RMS
    ),
    "mixtral": Kind(
        "mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2},
        {**ROPE, "rope.freq_base": 1000000.0, "rope.dimension_count": 16, **COUNTS},
        "llama",
    ),
    "olmoe": Kind("olmoe", EXPERTS, {**ROPE, **COUNTS}),
    "qwen2moe": Kind(
        "qwen2_moe",
        {**EXPERTS, "shared_expert_intermediate_size": 64},
        {
            **ROPE,
            **COUNTS,
            "expert_feed_forward_length": 32,
            "expert_shared_feed_forward_length": 64,
        },
        "qwen2moe",
    ),
    "qwen3moe": Kind(
        "qwen3_moe",
        {**EXPERTS, "head_dim": 32, "norm_topk_prob": True},
        {**ROPE, **COUNTS, **HEAD_32, "expert_feed_forward_length": 32},
        "qwen3moe",
    ),
}  # fmt: skip
EPSILONS = ("rms_norm_eps", "norm_eps", "norm_epsilon", "layer_norm_epsilon", "layer_norm_eps")


PERMUTED = frozenset({"arcee", "granite", "llama", "smollm3"})


def write(
    kind: Kind,
    folder: Path,
    path: Path,
    storage: str = "F32",
    extra: Mapping[str, np.ndarray] | None = None,
    title: str = "",
) -> None:
    """Write a random model as a folder and as a .gguf file whose matrices are stored as one type.

    The file alone gets the extra tensors, and a name.
    """
    import torch
    import transformers

    torch.manual_seed(7)
    sizes = {} if kind.model_type == "gpt2" else SMALL
    settings = {**sizes, "tie_word_embeddings": False, "pad_token_id": None, **kind.settings}
    config = transformers.AutoConfig.for_model(kind.model_type, **settings)
    for name in EPSILONS:
        if hasattr(config, name):
            setattr(config, name, 1e-5)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        parameters = dict(model.named_parameters())
        stored = _write_file(kind, config, parameters, path, storage, extra or {}, title)
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(stored[name].copy()))
    model.save_pretrained(folder)


def _write_file(
    kind: Kind,
    config: Any,
    parameters: dict[str, Any],
    path: Path,
    storage: str,
    extra: Mapping[str, np.ndarray],
    title: str,
) -> dict[str, np.ndarray]:
    """Write the file and return the values that it holds, by their names in transformers."""
    from gguf import (
        MODEL_ARCH_NAMES,
        GGMLQuantizationType,
        GGUFWriter,
        dequantize,
        get_tensor_name_map,
        quantize,
    )

    arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == kind.name)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    writer = GGUFWriter(path, kind.name)
    if title:
        writer.add_name(title)
    for key, value in _keys(kind, config).items():
        adders = {
            float: writer.add_float32,
            int: writer.add_uint32,
            list: writer.add_array,
            str: writer.add_string,
        }
        adders[type(value)](f"{kind.name}.{key}", value)
    held: dict[str, np.ndarray] = {}

    def stored(there: str, value: np.ndarray) -> np.ndarray:
        """Write a value and return what the file holds of it."""
        value = _there(kind, config, there, value)
        is_matrix = value.ndim > 1 and "position" not in there and "shexp" not in there
        number = GGMLQuantizationType[storage if is_matrix else "F32"]
        raw = quantize(np.ascontiguousarray(value), number)
        writer.add_tensor(there, raw, raw_dtype=number)
        return _back(kind, config, there, dequantize(raw, number).reshape(value.shape))

    for name, parameter in parameters.items():
        value = parameter.detach().numpy()
        stem, part = name.rsplit(".", 1)
        if stem.endswith(".experts"):
            halves = {"gate_up_proj": ("gate", "up"), "down_proj": ("down",)}[part]
            parts = np.split(value, len(halves), axis=1)
            layer = stem.split(".")[2]
            there = [f"blk.{layer}.ffn_{half}_exps.weight" for half in halves]
            made = [stored(name, x) for name, x in zip(there, parts, strict=True)]
            held[name] = np.concatenate(made, axis=1)
            continue
        held[name] = stored(f"{names.get_name(stem)}.{part}", value)
    for name, value in extra.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def _keys(kind: Kind, config: Any) -> dict[str, object]:
    usual = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config, "intermediate_size", 0),
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", 0),
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": config.vocab_size,
    }
    return {k: v for k, v in usual.items() if k not in kind.without} | kind.keys


def _heads(kind: Kind, config: Any, there: str) -> int:
    """Return the heads whose rows llama.cpp reorders in a tensor, 0 for none."""
    if kind.name not in PERMUTED or "norm" in there:
        return 0
    counts = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    return int(next((n for stem, n in counts.items() if f".{stem}." in there), 0))


def _rows(heads: int, count: int) -> np.ndarray:
    """Return which row of ours llama.cpp has at each place: a head's halves, one row of each in turn."""
    size = count // heads
    inner = [half * (size // 2) + pair for pair in range(size // 2) for half in (0, 1)]
    return np.array([head * size + row for head in range(heads) for row in inner])


def _is_raised(kind: Kind, there: str) -> bool:
    return kind.name in {"gemma", "gemma2", "gemma3", "nemotron"} and there.endswith("norm.weight")


def _is_turned(kind: Kind, there: str) -> bool:
    return kind.name == "gpt2" and there.startswith("blk") and there.endswith("weight")


def _there(kind: Kind, config: Any, there: str, value: np.ndarray) -> np.ndarray:
    if heads := _heads(kind, config, there):
        return value[_rows(heads, len(value))]
    if _is_raised(kind, there):
        return value + np.float32(1)
    if "ffn_gate_inp_shexp" in there:
        return value[0]
    return value.T if _is_turned(kind, there) else value


def _back(kind: Kind, config: Any, there: str, value: np.ndarray) -> np.ndarray:
    if heads := _heads(kind, config, there):
        out = np.empty_like(value)
        out[_rows(heads, len(value))] = value
        return out
    if _is_raised(kind, there):
        return value - np.float32(1)
    if "ffn_gate_inp_shexp" in there:
        return value[None]
    return value.T if _is_turned(kind, there) else value
