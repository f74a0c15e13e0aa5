"""Where llama.cpp's tensors belong in a Hugging Face checkpoint, and what its converter did to their values.

One table per architecture: names, rows that were reordered for llama.cpp's rotation, norms that were stored with 1
added, matrices that were transposed. A source of its own: transformers' reader, by which the port is judged, has
another. Reads no tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from porting.checkpoint.gguf_header import GgufTensor

Floats = npt.NDArray[np.float32]
Order = Callable[[Floats], Floats]

_LAYER = re.compile(r"blk\.(?P<layer>[0-9]{1,6})\.(?P<stem>.+)\.(?P<part>weight|bias)")
_END = re.compile(r"(?P<stem>.+)\.(?P<part>weight|bias)")


@dataclass(frozen=True, slots=True)
class Names:
    """An architecture's tensors: llama.cpp's stems to ours, and the stems whose values were changed.

    `rotated` maps stems to the config's key for the number of heads whose rows were reordered; `raised` are norms with
    1 added; `turned` are weights that Hugging Face keeps as [in, out].
    """

    ends: Mapping[str, str]
    layer: Mapping[str, str]
    layers: str = "model.layers"
    rotated: Mapping[str, str] = field(default_factory=dict)
    raised: frozenset[str] = frozenset()
    turned: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor of the file as one of the checkpoint: its name and shape there, and how its values change.

    `added` is added to every value before `order` moves them; the pattern is the name without the layer's number.
    """

    name: str
    pattern: str
    shape: tuple[int, ...]
    tensor: GgufTensor
    added: float = 0.0
    order: Order | None = None


_ENDS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_UNGATED = {
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LLAMA = {**_ATTENTION, **_UNGATED, "ffn_gate": "mlp.gate_proj"}
_GEMMA2 = {
    **_LLAMA,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GEMMA3 = {**_GEMMA2, **_HEAD_NORMS}
_PHI3 = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}
_NEMOTRON = {**_ATTENTION, **_UNGATED}
_STARCODER2 = {**_ATTENTION, **_UNGATED, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
_GPT2_ENDS = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_GPT2 = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_TURNED = frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"})
_ROTATED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}


def _norms(layer: Mapping[str, str]) -> frozenset[str]:
    return frozenset({"output_norm", *(stem for stem in layer if stem.endswith("norm"))})


_POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_OLMO2 = {
    **{k: v for k, v in _LLAMA.items() if not k.endswith("norm")},
    **_HEAD_NORMS,
    **_POST_NORMS,
}
_COHERE = {k: v for k, v in _LLAMA.items() if k != "ffn_norm"}
_GLM4 = {
    **_ATTENTION,
    **_UNGATED,
    "post_attention_norm": "post_self_attn_layernorm",
    "post_ffw_norm": "post_mlp_layernorm",
    "ffn_up": "mlp.gate_up_proj",
}
_SEED = {
    **{k: v for k, v in _LLAMA.items() if k != "ffn_norm"},
    "post_attention_norm": "post_attention_layernorm",
}

ARCHITECTURES: Mapping[str, Names] = {
    "arcee": Names(_ENDS, {**_ATTENTION, **_UNGATED}, rotated=_ROTATED),
    "cohere2": Names(_ENDS, _COHERE),
    "command-r": Names(_ENDS, _COHERE),
    "ernie4_5": Names(_ENDS, _LLAMA),
    "exaone4": Names(_ENDS, _OLMO2),
    "gemma": Names(_ENDS, _LLAMA, raised=_norms(_LLAMA)),
    "glm4": Names(_ENDS, _GLM4),
    "granite": Names(_ENDS, _LLAMA, rotated=_ROTATED),
    "olmo2": Names(_ENDS, _OLMO2),
    "seed_oss": Names(_ENDS, _SEED),
    "smollm3": Names(_ENDS, _LLAMA, rotated=_ROTATED),
    "stablelm": Names(_ENDS, _LLAMA),
    "llama": Names(_ENDS, _LLAMA, rotated=_ROTATED),
    "qwen2": Names(_ENDS, _LLAMA),
    "qwen3": Names(_ENDS, {**_LLAMA, **_HEAD_NORMS}),
    "gemma2": Names(_ENDS, _GEMMA2, raised=_norms(_GEMMA2)),
    "gemma3": Names(_ENDS, _GEMMA3, raised=_norms(_GEMMA3)),
    "phi3": Names(_ENDS, _PHI3),
    "starcoder2": Names(_ENDS, _STARCODER2),
    "nemotron": Names(_ENDS, _NEMOTRON, raised=_norms(_NEMOTRON)),
    "gpt2": Names(_GPT2_ENDS, _GPT2, "transformer.h", turned=_TURNED),
}
"""By llama.cpp's names."""


def piece(names: Names, tensor: GgufTensor, heads: Mapping[str, int]) -> Piece | None:
    """Return what a tensor is in the checkpoint, None where the table does not know it; `heads` are the config's."""
    in_layer = _LAYER.fullmatch(tensor.name)
    match = in_layer or _END.fullmatch(tensor.name)
    stem = match["stem"] if match else ""
    own = (names.layer if in_layer else names.ends).get(stem)
    if match is None or own is None:
        return None
    pattern = f"{names.layers}.*.{own}.{match['part']}" if in_layer else f"{own}.{match['part']}"
    name = pattern.replace("*", match["layer"]) if in_layer else pattern
    is_weight = match["part"] == "weight"
    is_raised = stem in names.raised and is_weight
    shape, order = tensor.shape, None
    if stem in names.rotated:
        order = unrotated(heads[names.rotated[stem]])
    if stem in names.turned and is_weight:
        shape, order = shape[::-1], np.transpose
    return Piece(name, pattern, shape, tensor, -1.0 if is_raised else 0.0, order)


def unrotated(heads: int) -> Order:
    """Return what takes back llama.cpp's order of rows: pairs of a rotation side by side, instead of in two halves."""

    def order(rows: Floats) -> Floats:
        pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    return order
