# SPDX-License-Identifier: Apache-2.0
"""A Llama in plain float64 numpy, written from the paper's formulas and independent of transformers.

Legend: S tokens, D hidden, H query heads, K KV heads, E head dim.
"""

# ruff: noqa: N803, N806 - shapes stand in names

from __future__ import annotations

import math

import numpy as np


def rotary_frequencies(config: dict[str, object], head_dim: int) -> np.ndarray:
    """Return theta ** (-2i/E), rescaled one by one where llama3 scaling asks for it."""
    theta = config["rope_parameters.rope_theta"]
    found = []
    for i in range(head_dim // 2):
        frequency = 1.0 / theta ** (2 * i / head_dim)
        found.append(
            _llama3(frequency, config)
            if config["rope_parameters.rope_type"] == "llama3"
            else frequency
        )
    return np.array(found)


def _llama3(frequency: float, config: dict[str, object]) -> float:
    low, high, factor, length = (
        config[f"rope_parameters.{key}"]
        for key in (
            "low_freq_factor",
            "high_freq_factor",
            "factor",
            "original_max_position_embeddings",
        )
    )
    turns = length * frequency / (2 * math.pi)
    if turns > high:
        return frequency
    if turns < low:
        return frequency / factor
    share = (turns - low) / (high - low)
    return (1 - share) * frequency / factor + share * frequency


def _rms_norm(x_SD, weight_D, eps):
    return x_SD / np.sqrt((x_SD**2).mean(-1, keepdims=True) + eps) * weight_D


def _rotate(x_SHE, frequencies):
    angle = np.arange(len(x_SHE))[:, None, None] * frequencies
    half = x_SHE.shape[-1] // 2
    a, b = x_SHE[..., :half], x_SHE[..., half:]
    return np.concatenate(
        [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1
    )


def forward(weights: dict[str, np.ndarray], config: dict[str, object], row: list[int]):
    """Return the logits [S, V] and the output of each layer [S, D]."""
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim, eps, size = config["head_dim"], config["rms_norm_eps"], len(row)
    frequencies = rotary_frequencies(config, head_dim)
    x_SD = w["model.embed_tokens.weight"][row]
    layers = []

    def linear(name, value):
        return value @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        h_SD = _rms_norm(x_SD, w[f"{at}.input_layernorm.weight"], eps)
        q_SHE = _rotate(
            linear(f"{at}.self_attn.q_proj", h_SD).reshape(size, heads, head_dim), frequencies
        )
        k_SKE = _rotate(
            linear(f"{at}.self_attn.k_proj", h_SD).reshape(size, kv_heads, head_dim), frequencies
        )
        v_SKE = linear(f"{at}.self_attn.v_proj", h_SD).reshape(size, kv_heads, head_dim)
        mixed_SHE = np.empty_like(q_SHE)
        for head in range(heads):
            group = head // (heads // kv_heads)
            scores = q_SHE[:, head] @ k_SKE[:, group].T / math.sqrt(head_dim)
            scores[np.triu_indices(size, 1)] = -np.inf
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed_SHE[:, head] = scores / scores.sum(-1, keepdims=True) @ v_SKE[:, group]
        x_SD = x_SD + linear(f"{at}.self_attn.o_proj", mixed_SHE.reshape(size, -1))
        h_SD = _rms_norm(x_SD, w[f"{at}.post_attention_layernorm.weight"], eps)
        gate = linear(f"{at}.mlp.gate_proj", h_SD)
        x_SD = x_SD + linear(
            f"{at}.mlp.down_proj", gate / (1 + np.exp(-gate)) * linear(f"{at}.mlp.up_proj", h_SD)
        )
        layers.append(x_SD)
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return _rms_norm(x_SD, w["model.norm.weight"], eps) @ head.T, layers
