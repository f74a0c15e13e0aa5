# SPDX-License-Identifier: Apache-2.0
"""The files of the samples that are more than a line: weights, a GGUF, tables."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping

from tests.checkpoints import gguf_bytes, gguf_string
from tests.hostile.generator import CONFIG
from tests.hostile.things import Content, Sparse


def entries(count: int) -> Iterator[bytes]:
    """Yield that many empty tensors of a header."""
    for i in range(count):
        yield b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i


def fused() -> dict[str, Content]:
    """Return a Phi-3 whose fused projection has 2^32 rows, in a file of holes."""
    width = 2**31
    keys = {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "intermediate_size": width,
        "rope_scaling": None,
        "pad_token_id": 0,
        "num_hidden_layers": 1,
    }
    layer = {
        "input_layernorm": [16],
        "post_attention_layernorm": [16],
        "self_attn.qkv_proj": [32, 16],
        "self_attn.o_proj": [16, 16],
        "mlp.gate_up_proj": [2 * width, 16],
        "mlp.down_proj": [16, width],
    }
    shapes = {"model.embed_tokens": [64, 16], "model.norm": [16], "lm_head": [64, 16]}
    shapes |= {f"model.layers.0.{name}": shape for name, shape in layer.items()}
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    head = struct.pack("<Q", len(text)) + text
    text_config = {
        key: value for key, value in (CONFIG | keys).items() if not key.endswith("_bias")
    }
    return {
        "m/config.json": json.dumps(text_config).encode(),
        "m/model.safetensors": Sparse(head, len(head) + end),
    }


def gguf(embedding: list[int]) -> bytes:
    """Return a small Llama as GGUF whose embedding has these axes."""
    numbers = {
        "block_count": 1,
        "embedding_length": 16,
        "feed_forward_length": 32,
        "attention.head_count": 2,
        "attention.head_count_kv": 1,
        "context_length": 128,
        "vocab_size": 64,
    }
    layer = {
        "attn_norm": [16],
        "ffn_norm": [16],
        "attn_q": [16, 16],
        "attn_k": [16, 8],
        "attn_v": [16, 8],
        "attn_output": [16, 16],
        "ffn_gate": [16, 32],
        "ffn_up": [16, 32],
        "ffn_down": [32, 16],
    }
    keys = [("general.architecture", 8, gguf_string("llama"))]
    keys += [(f"llama.{key}", 4, struct.pack("<I", value)) for key, value in numbers.items()]
    keys += [
        (f"llama.{key}", 6, struct.pack("<f", value))
        for key, value in (("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", 1e4))
    ]
    shapes = {"token_embd": embedding, "output_norm": [16], "output": [16, 64]}
    shapes |= {f"blk.0.{name}": axes for name, axes in layer.items()}
    tensors, at = [], 0
    for name, axes in shapes.items():
        tensors.append((f"{name}.weight", axes, 0, at))
        at += 4 * axes[0] * (axes[1] if len(axes) > 1 else 1)
    return gguf_bytes(keys, tensors, bytes(at))


def _parquet(columns: Mapping[str, object]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(columns)), sink, compression="zstd")
    return bytes(sink.getvalue())


def nanoseconds(kind: str) -> bytes:
    """Return a table with a column of times or durations in nanoseconds."""
    import pyarrow as pa

    column = pa.array([1, 2], getattr(pa, kind)("ns"))
    return _parquet({"m": column, "n": pa.array([1, 2]), "k": pa.array([1, 2])})


def bomb(length: int, rows: int) -> bytes:
    """Return a small file of a text so long, repeated in every row."""
    import pyarrow as pa

    ones = pa.array([1] * rows)
    text = pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int32()), pa.array(["a" * length])
    )
    return _parquet({"m": ones, "n": ones, "k": ones, "s": text})


def wide() -> bytes:
    """Return a table of 19 million rows and 30 columns in 2 MB."""
    import numpy as np
    import pyarrow as pa

    ones = pa.array(np.ones(19_000_000, np.int8))
    return _parquet({"m": ones, "n": ones, "k": ones} | {f"c{i}": ones for i in range(27)})
