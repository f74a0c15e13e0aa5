# SPDX-License-Identifier: Apache-2.0
"""Tiny oracles: the same bytes each time, no weight left at its start value, every type made or accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsl.diagnostics import Refused
from farm.oracles.describe import describe
from farm.oracles.examine import examine
from farm.oracles.shrink import causal_types, outside, shrunk, table
from farm.oracles.tiny import tiny, tiny_config
from porting.checkpoint.tensors import Checkpoint
from porting.original.lengths import config_tokens
from porting.verdict.feeding import RAGGED_LENGTHS
from porting.verdict.rows import Draw

# One of each kind of trouble: experts, latent attention, recurrence, learned positions, a config inside of a config.
SAMPLE = ("mixtral", "minicpm3", "mamba2", "gpt2", "got_ocr2")


@pytest.mark.parametrize("model_type", SAMPLE)
def test_an_oracle_runs_and_is_causal(model_type: str) -> None:
    outcome = examine(model_type)
    assert outcome.problem == ""
    assert [name for name, _ in outcome.errors] == ["float32", "bfloat16"]
    assert outcome.spread > 0.01


def test_an_oracle_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = (tiny(tmp_path / name, "mixtral") for name in ("first", "second"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    other = tiny(tmp_path / "other", "mixtral", seed=1)
    assert (other / "model.safetensors").read_bytes() != (first / "model.safetensors").read_bytes()


@pytest.mark.parametrize("model_type", SAMPLE)
def test_no_weight_is_constant(model_type: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(tiny(tmp_path / "model", model_type, dtype="float32"))
    constant = [name for name in checkpoint.tensors if np.unique(checkpoint.read(name)).size == 1]
    assert constant == []


def test_the_table_names_only_types_that_exist() -> None:
    known = set(causal_types())
    assert set(table()["types"]) - known == set()
    assert set(outside()) - known == set()


def test_special_tokens_occur_in_no_row() -> None:
    special = config_tokens(tiny_config("gemma3").to_dict())
    assert len(special) > 3
    draw = Draw(97, special)
    rows = {int(token) for n in range(50) for token in draw.row(str(n), 128).tokens}
    assert len(rows) == 97 - len(special & set(range(97)))
    assert rows & special == set()


def test_windows_and_chunks_are_shorter_than_the_rows() -> None:
    lengths = [v for k, v in table()["fields"].items() if "window" in k or "chunk" in k]
    assert lengths
    assert 2 * max(lengths) < RAGGED_LENGTHS[0]


def test_every_kind_of_layer_is_present() -> None:
    assert set(shrunk("gemma3_text")["layer_types"]) == {"sliding_attention", "full_attention"}
    assert set(shrunk("deepseek_v32")["mlp_layer_types"]) == {"dense", "sparse"}


def test_a_described_type_shows_keys_tensors_and_code() -> None:
    text = describe("llama")
    assert "transformers/models/llama/modeling_llama.py" in text
    assert "num_key_value_heads = 2" in text
    assert "model.layers.3.self_attn.q_proj.weight" in text


def test_an_unknown_type_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises((KeyError, ValueError, Refused)):
        tiny(tmp_path, "no_such_type")
