# SPDX-License-Identifier: Apache-2.0
"""Small model folders for tests: a random Llama with all dimensions distinct, and files made by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

# Head dimension times heads is not the hidden size, and no two dimensions are equal.
TINY_LLAMA = {
    "vocab_size": 97,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "attention_bias": True,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}


# One tiny config an architecture, no two of its dimensions equal; windows are shorter than the rows of validation.
COMMON = {
    "vocab_size": 97,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
TINY: dict[str, dict[str, Any]] = {
    "mistral": COMMON | {"num_hidden_layers": 3, "sliding_window": 11},
    "mixtral": COMMON | {"num_hidden_layers": 3, "num_local_experts": 5, "num_experts_per_tok": 2},
    "qwen2": {k: v for k, v in COMMON.items() if k != "head_dim"} | {"num_hidden_layers": 3},
    "qwen3": COMMON | {"num_hidden_layers": 3},
    "qwen3_moe": COMMON
    | {
        "num_hidden_layers": 3,
        "moe_intermediate_size": 24,
        "num_experts": 7,
        "num_experts_per_tok": 3,
        "norm_topk_prob": True,
        "mlp_only_layers": [1],
    },
    "gemma3_text": COMMON
    | {
        "num_hidden_layers": 5,
        "sliding_window": 11,
        "query_pre_attn_scalar": 9,
        "layer_types": [
            "sliding_attention",
            "sliding_attention",
            "full_attention",
            "sliding_attention",
            "full_attention",
        ],
    },
    "deepseek_v3": {k: v for k, v in COMMON.items() if k != "head_dim"}
    | {
        "num_hidden_layers": 3,
        "max_position_embeddings": 8 * 4096,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "moe_intermediate_size": 24,
        "n_routed_experts": 12,
        "n_shared_experts": 2,
        "num_experts_per_tok": 3,
        "n_group": 4,
        "topk_group": 2,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 18,
        "qk_rope_head_dim": 14,
        "qk_nope_head_dim": 10,
        "v_head_dim": 8,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 0.707,
            "mscale_all_dim": 1.0,
        },
    },
}

ROUTER_GAIN = {"deepseek_v3": 3.0}
"""How much the routers of a tiny model are scaled, 12 where nothing is said, so that a token's experts are not a matter
of rounding. Sigmoids saturate, so theirs is less, and the bias of their experts is spread more widely instead."""


def tiny(directory: Path, model_type: str, *, dtype: str = "bfloat16", **overrides: Any) -> Path:
    """Save a random model of a type as save_pretrained does and return its folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **(TINY[model_type] | overrides))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in (*model.named_parameters(), *model.named_buffers()):
            noise = torch.randn_like(parameter)
            if name.endswith("gate.weight"):
                gain = ROUTER_GAIN.get(model_type, 12.0)
                parameter.copy_(noise * gain / parameter.shape[-1] ** 0.5)
            elif name.endswith("e_score_correction_bias"):
                parameter.copy_(noise * 2.0)
            elif isinstance(parameter, torch.nn.Parameter):
                # Norm weights and biases of a fresh model are constant, which would hide mistakes.
                parameter.add_(noise * 0.1)
    model.to(getattr(torch, dtype))
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.data = buffer.data.float()
    model.save_pretrained(directory)
    return directory


def tiny_llama(
    directory: Path, *, dtype: str = "bfloat16", max_shard_size: str = "1GB", **overrides: Any
) -> Path:
    """Save a random Llama as save_pretrained does and return its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**(TINY_LLAMA | overrides))
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Norm weights and biases of a fresh model are constant, which would hide mistakes.
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size=max_shard_size)
    return directory


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    """Return a safetensors file with any header at all, given as data or as text."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


def tensor_entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> Path:
    """Write tensors, given as (dtype, shape, bytes), one after the other."""
    header: dict[str, object] = {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = tensor_entry(dtype, shape, len(data), len(data) + len(raw))
        data += raw
    path.write_bytes(safetensors_bytes(header, data))
    return path


def add_words(folder: Path) -> Path:
    """Give a model folder a tokenizer with a word for every id: w0, w1, …; returns the folder."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    words = WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0")  # noqa: S106 - of text
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def gguf_string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_bytes(
    keys: list[tuple[str, int, bytes]],
    tensors: list[tuple[str, list[int], int, int]] = (),
    data: bytes = b"",
    *,
    version: int = 3,
) -> bytes:
    """Return a GGUF file: keys as (name, type, raw value), tensors as (name, axes, type, offset)."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for name, value_type, raw in keys:
        head += gguf_string(name) + struct.pack("<I", value_type) + raw
    for name, axes, tensor_type, offset in tensors:
        head += gguf_string(name) + struct.pack(f"<I{len(axes)}Q", len(axes), *axes)
        head += struct.pack("<IQ", tensor_type, offset)
    return head + b"\0" * (-len(head) % 32) + data
