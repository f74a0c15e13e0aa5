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
