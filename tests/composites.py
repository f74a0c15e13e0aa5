# SPDX-License-Identifier: Apache-2.0
"""Tiny random models that read text beside pictures or sound, as save_pretrained writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXT = {
    "vocab_size": 101, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
TURNED = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
WOVEN = {**TURNED, "mrope_interleaved": True}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
OF_TYPE: dict[str, dict[str, Any]] = {
    "aria_text": {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
    "deepseek_v3": {
        "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 32,
        "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "moe_intermediate_size": 32, "n_shared_experts": 1, "first_k_dense_replace": 1,
    },
    "exaone4": {"sliding_window": 16},
    "llama4_text": {
        "head_dim": 8, "intermediate_size_mlp": 80, "num_local_experts": 4,
        "num_experts_per_tok": 1, "attention_chunk_size": 16,
    },
    "mllama_text_model": {"cross_attention_layers": [1]},
    "qwen2_5_vl_text": {"rope_parameters": TURNED},
    "qwen2_vl_text": {"rope_parameters": TURNED},
    "qwen3": {"head_dim": 8},
    "qwen3_vl_moe_text": {"head_dim": 8, "rope_parameters": WOVEN, **EXPERTS},
    "qwen3_vl_text": {"head_dim": 8, "rope_parameters": WOVEN},
}  # fmt: skip
TOWER: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "image_size": 28, "patch_size": 14, "embed_dim": 32, "depth": 1,
    "num_heads": 2, "out_hidden_size": 48, "encoder_layers": 1, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48, "d_model": 32, "num_global_layers": 1, "vision_output_dim": 32,
    "projection_dim": 32, "head_dim": 16, "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0], "intermediate_layers_indices": [0], "vocab_size": 64,
    "max_num_tiles": 4, "hidden_dim": 32, "num_layers": 1, "fullatt_block_indexes": [0],
    "projector_input_dim": 48, "projector_output_dim": 48, "mm_hidden_size": 32,
    "text_hidden_size": 48, "projection_hidden_size": 32, "output_dim": 32,
    "num_mel_bins": 8, "max_source_positions": 16, "init_pos_emb_height": 4,
    "init_pos_emb_width": 4, "init_pos_emb_time": 1,
}  # fmt: skip


def composite(folder: Path, name: str, kind: str, text: str) -> Path:
    """Save a random model of a class, type and type of text model; returns its folder."""
    import torch
    import transformers

    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind]
    towers = {
        key: {k: TOWER.get(k, v) if type(v) in (int, list) else v for k, v in value.items()}
        for key, value in known().to_dict().items()
        if isinstance(value, dict) and "model_type" in value
    }
    inner = {**TEXT, **OF_TYPE.get(text, {}), "model_type": text}
    torch.manual_seed(0)
    model = getattr(transformers, name)._from_config(known(**towers | {"text_config": inner}))
    model.float()
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn_like(weight)
            many = weight.dim() > 1
            weight.copy_(noise * weight.shape[-1] ** -0.5 if many else weight + 0.2 * noise)
    model.save_pretrained(folder)
    return folder


def config_of(folder: Path) -> dict[str, Any]:
    """Return a folder's config."""
    return dict(json.loads((folder / "config.json").read_text()))
