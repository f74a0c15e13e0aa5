# SPDX-License-Identifier: Apache-2.0
"""Tensors that nothing reads: left where their values show that nothing depends on them, refused where they do not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import ml_dtypes
import numpy as np
import pytest

from dsl.diagnostics import Refused
from dsl.graph import Graph
from dsl.inference.inference import infer
from dsl.types import DTYPES
from porting.checkpoint.accounting import MAX_MISSING, Accounted, account
from porting.checkpoint.safetensors_header import TensorInfo
from porting.checkpoint.tensors import MAX_LOOKED, SINGLE, Checkpoint
from porting.planning.library import family_for
from tests.checkpoints import safetensors_bytes, tensor_entry
from tests.dsl.snippets import family, graph

BODY = """input x: bf16[B, S, D]
weight w: bf16[D, D] from "h.w.weight"
x = matmul(x, w)
output y: bf16[B, S, D] = x"""
TURNING = """input x: bf16[B, H, S, E]
freqs = rope_frequencies(E, theta=10000.0)
q = rope(x, freqs, at=C)
state keys: bf16[B, H, C, E]
k = append(keys, q)
a = attention(q, k, k, mask="causal", scale=1.0, window=3)
output y: bf16[B, H, S, E] = a"""
NAMES = {np.dtype(t): n for n, t in (("f32", np.float32), ("f16", np.float16), ("i64", np.int64))}
NAMES |= {np.dtype(ml_dtypes.bfloat16): "bf16", np.dtype(np.bool_): "bool", np.dtype("u1"): "u8"}


class Held:
    """Tensors in memory, handed out five values at a time."""

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays

    def same_bits(self, one: str, other: str) -> bool:
        return self.arrays[one].tobytes() == self.arrays[other].tobytes()

    def pieces(self, name: str) -> Iterator[np.ndarray]:
        flat = iter(self.arrays[name].reshape(-1))
        while piece := list(islice(flat, 5)):
            yield np.array(piece, self.arrays[name].dtype)


def accounted(made: Graph, **arrays: np.ndarray) -> Accounted:
    names = {name.replace("__", "."): array for name, array in arrays.items()}
    tensors = {
        n: TensorInfo(n, DTYPES[NAMES[a.dtype]], a.shape, "f", 0, a.nbytes)
        for n, a in names.items()
    }
    return account(made, tensors, Held(**names))


def outcome(made: Graph, name: str, values: np.ndarray) -> str:
    """Return the reason for which a tensor is left, its name where it is not."""
    weight = np.arange(16, dtype=ml_dtypes.bfloat16).reshape(4, 4)
    consumed = {"h.w.weight": weight} if made.body.weights else {}
    result = accounted(made, **consumed, **{name: values})
    if result.diagnostics:
        assert [d.code for d in result.diagnostics] == ["S561"]
        assert result.account.unused == (name,)
        return name
    (reason,) = result.account.left
    (note,) = result.notes
    assert note.startswith(f"1 tensors of {values.nbytes:,} bytes left (")
    assert note.endswith(f"): {reason}")
    return reason


@pytest.fixture(scope="module")
def plain() -> Graph:
    return graph(family(BODY, config="D = hidden"), hidden=4)


@pytest.fixture(scope="module")
def turning() -> Graph:
    return graph(family(TURNING, config="H = heads\nE = width"), heads=2, width=8)


@pytest.mark.parametrize(
    ("name", "values", "left"),
    [
        ("h.w.bias", np.zeros(4, np.float32), True),
        ("h.w.bias", -np.zeros(4, ml_dtypes.bfloat16), True),
        ("h.w.bias", np.array([0, 0, 0, 1e-8], np.float32), False),
        ("h.w.bias", np.zeros((4, 4), np.float32), False),
        ("h.other.bias", np.zeros(4, np.float32), False),
        ("h.w.scale", np.zeros(4, np.float32), False),
        ("a.position_ids", np.arange(9)[None], True),
        ("position_ids", np.arange(9), True),
        ("a.position_ids", np.arange(9) + 2, False),
        ("a.masked_bias", np.float32(-1e9), True),
        ("a.masked_bias", np.array([-1e4], np.float32), True),
        ("a.masked_bias", np.float32(-1.0), False),
        ("a.masked_bias", np.array([-1e4, -1e4], np.float32), False),
        ("a.copy.weight", np.arange(16, dtype=ml_dtypes.bfloat16).reshape(4, 4), True),
        ("a.copy.weight", np.arange(16, dtype=ml_dtypes.bfloat16).reshape(16), False),
        ("a.copy.weight", 1 + np.arange(16, dtype=ml_dtypes.bfloat16).reshape(4, 4), False),
    ],
)
def test_values_decide(plain, name, values, left):
    assert (outcome(plain, name, np.asarray(values)) != name) == left


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.float32, np.float16])
@pytest.mark.parametrize("shape", [(7, 7), (1, 1, 7, 7)])
def test_causal_masks_are_left_and_no_others(plain, kind, shape):
    causal = np.tril(np.ones((7, 7), kind))
    assert outcome(plain, "a.attn.bias", causal.reshape(shape)).startswith("causal masks")
    for at in ((6, 0), (0, 6), (3, 4)):
        other = causal.copy()
        other[at] = not other[at]
        assert outcome(plain, "a.attn.bias", other.reshape(shape)) == "a.attn.bias"


def test_a_mask_with_a_window_is_left_where_the_program_has_that_window(plain, turning):
    ones = np.ones((7, 7), np.bool_)
    masks = {w: np.tril(ones) ^ np.tril(ones, -w) for w in (2, 3)}
    assert outcome(turning, "a.bias", masks[3]).startswith("causal masks")
    assert outcome(turning, "a.bias", masks[2]) == "a.bias"
    assert outcome(plain, "a.bias", masks[3]) == "a.bias"


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_rotary_tables_are_left_where_they_are_the_computed_ones(turning, kind):
    inverse = 10000.0 ** (-np.arange(0, 8, 2) / 8)
    angle = np.arange(11)[:, None] * np.tile(inverse, 2)
    right = {
        "m.inv_freq": inverse,
        "m.cos_cached": np.cos(angle),
        "m.sin_cached": np.sin(angle)[None, None],
        "m.sin": np.sin(angle)[:, :4],
    }
    for name, values in right.items():
        assert outcome(turning, name, values.astype(kind)).startswith("rotary tables")
        wrong = values.copy()
        wrong[..., -1] += 0.05
        assert outcome(turning, name, wrong.astype(kind)) == name


def test_frequencies_that_transformers_leaves_by_name_are_left_and_said_to_be_others(turning):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    assert "not seen to be the config's" in outcome(turning, name, np.ones(4, np.float32))
    right = (10000.0 ** (-np.arange(0, 8, 2) / 8)).astype(np.float32)
    assert outcome(turning, name, right).startswith("rotary tables")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("base.layers.0.q_proj.lora_A.weight", "an adapter"),
        ("vision_tower.x.weight", "a tower for pictures"),
        ("lm_head.weight", "a head of its own"),
        ("h.w.qzeros", "a packed form"),
        ("h.w.bias", "a bias that is not zero"),
    ],
)
def test_a_refusal_says_what_the_tensor_looks_like(plain, name, words):
    weight = np.zeros((4, 4), ml_dtypes.bfloat16)
    (one,) = accounted(plain, **{"h.w.weight": weight, name: np.ones((2,), np.float32)}).diagnostics
    assert one.code == "S561"
    assert words in one.message


def test_without_values_only_a_name_that_transformers_goes_by_is_left(plain):
    names = ("h.w.bias", "a.attn.bias", "a.masked_bias", "m.rotary_emb.inv_freq", "a.copy.weight")
    tensors = {n: TensorInfo(n, DTYPES["bf16"], (4, 4), "f", 0, 32) for n in ("h.w.weight", *names)}
    result = account(plain, tensors, None)
    assert list(result.account.left.values()) == [("m.rotary_emb.inv_freq",)]
    assert len(result.account.unused) == len(names) - 1


def test_missing_tensors_are_counted_and_only_a_few_are_described(plain, monkeypatch):
    described = []
    monkeypatch.setattr(
        "porting.checkpoint.accounting.did_you_mean",
        lambda name, near: described.append(name) or "",
    )
    body = """input x: bf16[B, S, D]
repeat i < L carry x {
  weight w: bf16[D, D] from "h.{i}.w"
  x = matmul(x, w)
}
output y: bf16[B, S, D] = x"""
    made = graph(family(body, config="D = hidden\nL = layers"), hidden=4, layers=300)
    result = accounted(made, **{"h.7.w": np.zeros((4, 4), ml_dtypes.bfloat16)})
    assert len(result.account.missing) == 299
    assert len(described) == 6
    (only,) = (d for d in result.diagnostics if d.code == "S560")
    assert only.notes[-1] == "293 more tensors are missing"
    assert len(only.notes) == 6


def test_any_number_of_experts_is_missing_in_no_time():
    program = family_for("Qwen3MoeForCausalLM")
    sizes = {
        "hidden_size": 8,
        "moe_intermediate_size": 4,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    values = sizes | {
        "num_hidden_layers": 1, "num_experts": 2**31, "num_experts_per_tok": 2, "head_dim": 4,
        "intermediate_size": 4, "dtype": "bf16", "rope_parameters.rope_theta": 1e4,
    }  # fmt: skip
    info = TensorInfo("model.norm.weight", DTYPES["bf16"], (8,), "f", 0, 16)
    made = infer(program.family(), program.blocks, values, {info.name}).graph
    result = account(made, {info.name: info}, None)
    assert MAX_MISSING < len(result.account.missing) < 2 * MAX_MISSING
    assert {d.code for d in result.diagnostics} == {"S560"}


def sparse(folder, entries: dict[str, dict[str, object]], size: int, pad: str = "") -> Checkpoint:
    """Open a checkpoint whose data is a hole of any size."""
    import json

    raw = safetensors_bytes(json.dumps(entries) + pad)
    with (folder / SINGLE).open("wb") as file:
        file.write(raw)
        file.truncate(len(raw) + size)
    return Checkpoint.open(folder)


@pytest.mark.parametrize("pad", ["", " ", "   "])
def test_a_copy_larger_than_is_looked_at_is_refused_aligned_or_not(tmp_path, plain, pad):
    size = MAX_LOOKED // 2 + 4
    entries = {
        "one": tensor_entry("BF16", [2, size // 4], 0, size),
        "two": tensor_entry("BF16", [2, size // 4], size, 2 * size),
    }
    checkpoint = sparse(tmp_path, entries, 2 * size, pad)
    with pytest.raises(Refused) as caught:
        checkpoint.same_bits("one", "two")
    assert [d.code for d in caught.value.diagnostics] == ["S535"]


@pytest.mark.parametrize("pad", ["", " ", "   "])
def test_copies_are_compared_piece_by_piece_aligned_or_not(tmp_path, pad):
    size = 20 * 2**20
    entries = {
        name: tensor_entry("F32", [size // 4], i * size, (i + 1) * size)
        for i, name in enumerate(("one", "two", "three"))
    }
    checkpoint = sparse(tmp_path, entries, 3 * size, pad)
    info = checkpoint.tensors["three"]
    with (tmp_path / SINGLE).open("r+b") as file:
        file.seek(info.offset + info.nbytes - 1)
        file.write(b"\1")
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.same_bits("one", "two")
    assert not checkpoint.same_bits("one", "three")
    assert sum(len(piece) for piece in checkpoint.pieces("one")) == size // 4
