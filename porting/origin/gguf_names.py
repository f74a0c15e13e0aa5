# SPDX-License-Identifier: Apache-2.0
"""Where llama.cpp's tensors belong in a Hugging Face checkpoint, and what its converter did to their values.

One table per architecture: names, rows that were reordered for llama.cpp's rotation, norms that were stored with 1
added, matrices that were transposed. A source of its own: transformers' reader, by which the port is judged, has
another. Reads no tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from porting.checkpoint.gguf_header import GgufHeader, GgufTensor
from porting.original.gguf_config import has_experts

Floats = npt.NDArray[np.float32]
Order = Callable[[Floats], Floats]

_LAYER = re.compile(r"blk\.(?P<layer>[0-9]{1,6})\.(?P<stem>.+)\.(?P<part>weight|bias)")
ROW = "ffn_gate_inp_shexp"
"""A matrix of one row, of which llama.cpp's converter leaves a list."""
_END = re.compile(r"(?P<stem>.+)\.(?P<part>weight|bias)")


@dataclass(frozen=True, slots=True)
class Experts:
    """Where a layer's experts are in a checkpoint, one tensor each, and where transformers holds them as one.

    `renamed` is what the checkpoint calls the block that transformers calls `mlp`.
    """

    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    renamed: str = "mlp"

    @property
    def stems(self) -> Mapping[str, str]:
        """Names of the matrices of all experts in the file, and of an expert's in the checkpoint."""
        return {"ffn_gate_exps": self.gate, "ffn_up_exps": self.up, "ffn_down_exps": self.down}

    def unfused(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of transformers' parameters as those of the tensors of a checkpoint."""
        made: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            block = name.replace(".mlp.", f".{self.renamed}.")
            stem, _, part = block.rpartition(".")
            if not stem.endswith(".experts"):
                made[block] = shape
                continue
            count, rows, columns = shape
            halves = (self.gate, self.up) if part == "gate_up_proj" else (self.down,)
            for number in range(count):
                for half in halves:
                    made[f"{stem}.{number}.{half}.weight"] = rows // len(halves), columns
        return made


@dataclass(frozen=True, slots=True)
class Names:
    """An architecture's tensors: llama.cpp's stems to ours, and the stems whose values were changed.

    `rotated` maps stems to the config's key for the number of heads whose rows were reordered; `raised` are norms with
    1 added; `turned` are weights that Hugging Face keeps as [in, out]; `experts` says where a layer's experts are.
    """

    ends: Mapping[str, str]
    layer: Mapping[str, str]
    layers: str = "model.layers"
    rotated: Mapping[str, str] = field(default_factory=dict)
    raised: frozenset[str] = frozenset()
    turned: frozenset[str] = frozenset()
    experts: Experts | None = None


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

_MOE = {
    **_ATTENTION,
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate",
}
_SHARED = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_MIXTRAL = {**_MOE, "ffn_gate_inp": "block_sparse_moe.gate"}
_W_EXPERTS = Experts("w1", "w3", "w2", "block_sparse_moe")

ARCHITECTURES: Mapping[str, Names] = {
    "arcee": Names(_ENDS, {**_ATTENTION, **_UNGATED}, rotated=_ROTATED),
    "cohere2": Names(_ENDS, _COHERE),
    "command-r": Names(_ENDS, _COHERE),
    "ernie4_5": Names(_ENDS, _LLAMA),
    "exaone4": Names(_ENDS, _OLMO2),
    "gemma": Names(_ENDS, _LLAMA, raised=_norms(_LLAMA)),
    "glm4": Names(_ENDS, _GLM4),
    "granite": Names(_ENDS, _LLAMA, rotated=_ROTATED),
    "llama with experts": Names(_ENDS, _MIXTRAL, rotated=_ROTATED, experts=_W_EXPERTS),
    "olmo2": Names(_ENDS, _OLMO2),
    "olmoe": Names(_ENDS, {**_MOE, **_HEAD_NORMS}, experts=Experts()),
    "qwen2moe": Names(_ENDS, {**_MOE, **_SHARED}, experts=Experts()),
    "qwen3moe": Names(_ENDS, {**_LLAMA, **_MOE, **_HEAD_NORMS}, experts=Experts()),
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


def names_of(header: GgufHeader) -> Names | None:
    """Return the table of a file's architecture; llama.cpp has one for a Llama with and without experts."""
    suffix = " with experts" if has_experts(header) else ""
    return ARCHITECTURES.get(f"{header.architecture}{suffix}") or ARCHITECTURES.get(
        header.architecture
    )


def pieces(names: Names, tensor: GgufTensor, heads: Mapping[str, int]) -> list[Piece]:
    """Return what a tensor is in the checkpoint, nothing where the table does not know it; `heads` are the config's."""
    in_layer = _LAYER.fullmatch(tensor.name)
    match = in_layer or _END.fullmatch(tensor.name)
    stem = match["stem"] if match else ""
    if match is None:
        return []
    if in_layer and names.experts and stem in names.experts.stems and match["part"] == "weight":
        return list(_experts(names, names.experts, tensor, in_layer["layer"], stem))
    own = (names.layer if in_layer else names.ends).get(stem)
    if own is None:
        return []
    pattern = f"{names.layers}.*.{own}.{match['part']}" if in_layer else f"{own}.{match['part']}"
    name = pattern.replace("*", match["layer"]) if in_layer else pattern
    is_weight = match["part"] == "weight"
    is_raised = stem in names.raised and is_weight
    shape, order = tensor.shape, None
    if stem in names.rotated:
        order = unrotated(heads[names.rotated[stem]])
    if stem in names.turned and is_weight:
        shape, order = shape[::-1], np.transpose
    if stem == ROW and len(shape) == 1:
        shape = (1, *shape)
    return [Piece(name, pattern, shape, tensor, -1.0 if is_raised else 0.0, order)]


def _experts(
    names: Names, experts: Experts, tensor: GgufTensor, layer: str, stem: str
) -> Iterator[Piece]:
    """Yield the matrices of a layer's experts, which lie one behind the other in one tensor."""
    if len(tensor.shape) != 3:
        return
    count = tensor.shape[0]
    size = tensor.nbytes // count
    own = experts.stems[stem]
    pattern = f"{names.layers}.*.{experts.renamed}.experts.*.{own}.weight"
    for number in range(count):
        name = f"{names.layers}.{layer}.{experts.renamed}.experts.{number}.{own}.weight"
        offset = tensor.offset + number * size
        part = replace(tensor, shape=tensor.shape[1:], offset=offset, nbytes=size)
        yield Piece(name, pattern, part.shape, part)


def unrotated(heads: int) -> Order:
    """Return what takes back llama.cpp's order of rows: pairs of a rotation side by side, instead of in two halves."""

    def order(rows: Floats) -> Floats:
        pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    return order
