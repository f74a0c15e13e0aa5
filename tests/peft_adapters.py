# SPDX-License-Identifier: Apache-2.0
"""Random models and PEFT adapters for them, written as PEFT writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 128,
    "attention_bias": True,
}
GPT2 = {"n_embd": 32, "n_head": 4, "n_layer": 2, "vocab_size": 101, "n_positions": 128}
Q, V, DOWN = (
    f"model.layers.{x}" for x in ("0.self_attn.q_proj", "1.self_attn.v_proj", "0.mlp.down_proj")
)
EMBED, HEAD, NORM = "model.embed_tokens", "lm_head", "model.layers.0.input_layernorm"
FC, PROJ = "transformer.h.0.mlp.c_fc", "transformer.h.1.attn.c_proj"
RANK = 3

Tensors = dict[str, np.ndarray]


def model(folder: Path, kind: str = "llama", **settings: object) -> Path:
    """Save a random model."""
    import torch
    import transformers

    torch.manual_seed(7)
    sizes = GPT2 if kind == "gpt2" else SIZES
    given = {k: v for k, v in {**sizes, **settings}.items() if v is not None}
    config = transformers.AutoConfig.for_model(kind, **given)
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    made.save_pretrained(folder)
    return folder


def adapter(folder: Path, tensors: Tensors, **settings: object) -> Path:
    """Write an adapter as PEFT does."""
    folder.mkdir(exist_ok=True)
    given = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "base_model_name_or_path": None}
    (folder / "adapter_config.json").write_text(json.dumps({**given, **settings}))
    save_file(
        {f"base_model.model.{k}": v for k, v in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def drawn(*shape: int, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.3).astype(np.float32)


def linear(module: str, outs: int, ins: int, rank: int = RANK) -> Tensors:
    return {
        f"{module}.lora_A.weight": drawn(rank, ins),
        f"{module}.lora_B.weight": drawn(outs, rank),
    }


def delta(outs: int, ins: int, rank: int = RANK) -> np.ndarray:
    return drawn(outs, rank).astype(np.float64) @ drawn(rank, ins).astype(np.float64)


def embedding(rows: int, width: int) -> Tensors:
    return {
        f"{EMBED}.lora_embedding_A": drawn(RANK, rows),
        f"{EMBED}.lora_embedding_B": drawn(width, RANK),
    }


def lengthened(weight: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return weight * (lengths / np.sqrt((weight**2).sum(1)))[:, None]


def lengths(count: int) -> np.ndarray:
    return np.abs(drawn(count)) + np.float32(1)
