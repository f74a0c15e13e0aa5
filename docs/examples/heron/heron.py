"""A tiny Heron: its weights, drawn once and saved, and the model in numpy, in float64, which is the truth."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

FILE = Path(__file__).parent / "heron" / "model.safetensors"
D, H, E, F, L, V = 24, 4, 6, 40, 3, 61
CONFIG = {
    "architectures": ["HeronForCausalLM"],
    "model_type": "heron",
    "width": D,
    "heads": H,
    "head_width": E,
    "ffn_width": F,
    "depth": L,
    "vocab_size": V,
}


def main():
    rng = np.random.default_rng(7)
    shapes = {"embed.weight": (V, D), "norm.weight": (D,)}
    for i in range(L):
        shapes |= {f"blocks.{i}.{name}.weight": (H * E, D) for name in "qkv"}
        shapes |= {f"blocks.{i}.{name}": (D,) for name in ("norm.weight", "near", "far")}
        shapes |= {
            f"blocks.{i}.o.weight": (D, H * E),
            f"blocks.{i}.up.weight": (F, D),
            f"blocks.{i}.down.weight": (D, F),
        }
    weights = {
        name: (rng.standard_normal(shape) * shape[-1] ** -0.5 + (len(shape) == 1)).astype("f")
        for name, shape in shapes.items()
    }
    FILE.parent.mkdir(exist_ok=True)
    save_file(weights, FILE)
    (FILE.parent / "config.json").write_text(json.dumps(CONFIG, indent=2))
    tokens = rng.integers(0, V, (2, 40))
    np.save("tokens.npy", tokens)
    np.save("logits.npy", logits(tokens))


def logits(tokens):
    """Return the logits, float64 [B, S, V], of token ids [B, S]."""
    w = {name: tensor.astype(np.float64) for name, tensor in load_file(FILE).items()}
    x = w["embed.weight"][tokens]
    batch, length = tokens.shape
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, E, 2) / E)
    hidden = np.triu(np.full((length, length), -np.inf), 1)
    for i in range(L):
        at = f"blocks.{i}"
        h = norm(x, w[f"{at}.norm.weight"])
        q, k, v = (
            (h @ w[f"{at}.{name}.weight"].T).reshape(batch, length, H, E).swapaxes(1, 2)
            for name in "qkv"
        )
        scores = turned(q, angles) @ turned(k, angles).swapaxes(-1, -2) * E**-0.5 + hidden
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        seen = (share @ v).swapaxes(1, 2).reshape(batch, length, H * E) @ w[f"{at}.o.weight"].T
        thought = np.maximum(h @ w[f"{at}.up.weight"].T, 0) ** 2 @ w[f"{at}.down.weight"].T
        x = x + seen * w[f"{at}.far"] + thought * w[f"{at}.near"]
    return norm(x, w["norm.weight"]) @ w["embed.weight"].T


def norm(x, weight):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight


def turned(x, angles):
    """Return queries or keys turned by their positions' angles, halves paired."""
    one, other = np.split(x, 2, -1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([one * cos - other * sin, other * cos + one * sin], -1)


if __name__ == "__main__":
    main()
