# SPDX-License-Identifier: Apache-2.0
"""Every value is kept, in one format for all tensors of a name."""

from __future__ import annotations

import numpy as np
import pytest

from porting.checkpoint.gguf_header import GgufTensor
from porting.checkpoint.tensors import Checkpoint
from porting.origin.gguf_names import ARCHITECTURES, Piece, pieces, unrotated
from porting.origin.gguf_values import CHUNK
from porting.origin.gguf_weights import write_weights

BF16_ONLY = np.float32(2.0**100)
F16_ONLY = np.float32(1 + 2.0**-10)
F32_ONLY = np.float32(1 + 2.0**-20)
BOTH = np.float32(1.5)


def written(tmp_path, arrays: dict[str, np.ndarray], **change: object) -> Checkpoint:
    """Write float32 arrays, named pattern:number, as the tensors of a file."""
    raw, pieces = b"", []
    for name, array in arrays.items():
        pattern = name.split(":")[0]
        tensor = GgufTensor(name, 0, array.shape, len(raw), array.nbytes)
        raw += array.tobytes()
        shape = change.get("shape", array.shape)
        pieces.append(Piece(name, pattern, shape, tensor, **change.get("piece", {})))
    (tmp_path / "config.json").write_text("{}")
    data = [np.frombuffer(raw, np.uint8)]
    sizes = write_weights(pieces, data, tmp_path / "model.safetensors", lambda *_: None)
    checkpoint = Checkpoint.open(tmp_path)
    assert sum(sizes.values()) == sum(x.nbytes for x in checkpoint.tensors.values())
    return checkpoint


@pytest.mark.parametrize(
    ("first", "second", "format"),
    [
        (BOTH, BOTH, "bf16"),
        (BOTH, BF16_ONLY, "bf16"),
        (BOTH, F16_ONLY, "f16"),
        (BF16_ONLY, F16_ONLY, "f32"),
        (F32_ONLY, BOTH, "f32"),
        (np.float32(np.inf), np.float32(-0.0), "bf16"),
    ],
)
def test_a_pattern_gets_the_first_format_that_holds_all_its_values(tmp_path, first, second, format):
    arrays = {"a:0": np.full((3, 4), first), "a:1": np.full((3, 4), second)}
    checkpoint = written(tmp_path, arrays | {"b": np.full(5, BOTH)})
    assert {x.name: x.dtype.name for x in checkpoint.tensors.values()} == {
        "a:0": format,
        "a:1": format,
        "b": "bf16",
    }
    for name, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.read(name).astype(np.float32), array)


def test_the_last_value_of_a_long_tensor_counts(tmp_path):
    array = np.full(CHUNK + 3, BOTH)
    array[-1] = F32_ONLY
    checkpoint = written(tmp_path, {"a": array})
    np.testing.assert_array_equal(checkpoint.read("a"), array)


def test_what_a_converter_added_is_taken_back_exactly(tmp_path):
    offsets = np.random.default_rng(1).normal(0, 0.3, 64).astype(np.float32)
    raised = np.float32(1) + offsets
    checkpoint = written(tmp_path, {"norm": raised}, piece={"added": -1.0})
    np.testing.assert_array_equal(checkpoint.read("norm"), raised - np.float32(1))


def test_moved_elements_are_written_in_their_new_shape(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    checkpoint = written(tmp_path, {"a": array}, shape=(4, 3), piece={"order": np.transpose})
    np.testing.assert_array_equal(checkpoint.read("a").astype(np.float32), array.T)


def test_rows_of_a_rotation_are_put_back():
    rows = np.array([0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11])[:, None]
    np.testing.assert_array_equal(unrotated(2)(rows)[:, 0], np.arange(12))


@pytest.mark.parametrize(
    ("architecture", "stem", "name"),
    [
        ("llama", "blk.12.attn_q.weight", "model.layers.12.self_attn.q_proj.weight"),
        (
            "gemma3",
            "blk.0.post_ffw_norm.weight",
            "model.layers.0.post_feedforward_layernorm.weight",
        ),
        ("gpt2", "position_embd.weight", "transformer.wpe.weight"),
        ("llama", "blk.0.attn_sinks.weight", None),
        ("llama", "blk.0.attn_q", None),
        ("qwen2", "output_norm.scale", None),
    ],
)
def test_names(architecture, stem, name):
    tensor = GgufTensor(stem, 0, (4, 4), 0, 64)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    got = pieces(ARCHITECTURES[architecture], tensor, heads)
    assert [x.name for x in got] == ([] if name is None else [name])
