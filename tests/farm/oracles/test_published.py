# SPDX-License-Identifier: Apache-2.0
"""Published configs made tiny: sizes alone change, wherever they stand, and the folder holds what was published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from farm.matrix.matrix import QUICK, cells, run
from farm.matrix.registry import family_types, published_of
from farm.matrix.store import Store
from farm.oracles.published_models import oracles, published, raw_config, tiny_published, type_of
from farm.oracles.shrink import table
from farm.oracles.shrink_published import LEFT_OUT, shrunk_published
from porting.checkpoint.tensors import Checkpoint

LAYERED = {"num_hidden_layers": 12, "hidden_size": 4096, "num_attention_heads": 32}


def leaves(value: object, at: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{at}.{key}")
    else:
        yield at, value


def shrunk(**keys: Any) -> dict[str, Any]:
    return shrunk_published(LAYERED | keys, "llama")


def is_smaller(was: object, now: object) -> bool:
    """Tell whether a value is a size, some of a list, or a token that the small vocabulary has."""
    if isinstance(was, list):
        return isinstance(now, list) and (len(now) < len(was) or all(map(is_smaller, was, now)))
    if isinstance(was, str):
        return isinstance(now, str) and len(now) < len(was)
    if isinstance(was, bool) or not (isinstance(was, int) and isinstance(now, int)):
        return False
    return now < was or was <= 4


@pytest.mark.parametrize("name", published())
def test_nothing_but_sizes_changes(name: str) -> None:
    raw = raw_config(name)
    tiny = dict(leaves(shrunk_published(raw, type_of(name))))
    kept = {at: value for at, value in leaves(raw) if not LEFT_OUT & set(at.split("."))}
    assert list(tiny) == list(kept)
    changed = {at: (value, tiny[at]) for at, value in kept.items() if tiny[at] != value}
    assert {at: both for at, both in changed.items() if not is_smaller(*both)} == {}
    assert (
        any(at.endswith(("hidden_size", "d_model", "n_embd")) for at in changed) or "phi-2" in name
    )


def test_every_published_config_is_an_oracle_or_has_a_reason() -> None:
    named = {name for names in published_of(family_types()).values() for name in names}
    assert named == set(oracles())
    assert set(table()["not_published"]) <= set(published())


def test_the_first_layers_are_kept_where_every_kind_is_among_them() -> None:
    kinds = ["a", "a", "b"] * 4
    tiny = shrunk(layer_types=kinds, sliding_window_pattern=3)
    assert tiny["num_hidden_layers"] == 4
    assert tiny["layer_types"] == kinds[:4]


def test_a_layer_of_each_kind_is_kept_with_all_that_is_said_of_it() -> None:
    tiny = shrunk(
        layer_types=["a"] * 10 + ["b"] * 2, hybrid_override_pattern="M" * 11 + "*", mlp_only_layers=[10, 11],
        first_k_dense_replace=3, num_nextn_predict_layers=1, rates=[*[1] * 10, *[2] * 2, 99],
    )  # fmt: skip
    # Layers 0, 3, 10 and 11 are the first of their kinds: dense, sparse, and those of both letters among the last.
    assert tiny["num_hidden_layers"] == 4
    assert tiny["layer_types"] == ["a", "a", "b", "b"]
    assert tiny["hybrid_override_pattern"] == "MMM*"
    assert tiny["mlp_only_layers"] == [2, 3]
    assert tiny["first_k_dense_replace"] == 1
    assert tiny["rates"] == [1, 1, 2, 2, 99]


def test_no_more_than_a_few_layers_are_kept_where_all_differ() -> None:
    assert shrunk(layer_types=list(range(12)))["num_hidden_layers"] == 8


def test_as_many_layers_are_kept_as_a_period_has() -> None:
    assert shrunk(attn_layer_period=7)["num_hidden_layers"] == 7
    assert shrunk(attn_layer_period=100)["num_hidden_layers"] == 8


@pytest.mark.parametrize(("raw", "expected"), [(32, 6), (1, 1), (8, 2)])
def test_heads_keep_their_kind(raw: int, expected: int) -> None:
    assert shrunk(num_key_value_heads=raw)["num_key_value_heads"] == expected


def test_lengths_keep_their_ratio_and_every_pair_its_factor() -> None:
    factors = [float(n) for n in range(64)]
    scaling = {"type": "longrope", "short_factor": factors, "long_factor": factors}
    tiny = shrunk(
        rope_scaling=scaling, max_position_embeddings=131072, original_max_position_embeddings=4096,
        sliding_window=2048, partial_rotary_factor=0.5, rope_theta=10000, rms_norm_eps=1e-5,
    )  # fmt: skip
    assert tiny["max_position_embeddings"] == 32 * tiny["original_max_position_embeddings"]
    width = tiny["hidden_size"] // tiny["num_attention_heads"]
    assert len(tiny["rope_scaling"]["short_factor"]) == 64 * width // 128
    assert tiny["rope_scaling"]["long_factor"][-1] == 63.0
    assert (tiny["rope_theta"], tiny["rms_norm_eps"], tiny["sliding_window"]) == (10000, 1e-5, 11)


def test_sections_of_pairs_fill_a_head() -> None:
    tiny = shrunk(head_dim=128, rope_scaling={"type": "mrope", "mrope_section": [16, 24, 24]})
    assert sum(tiny["rope_scaling"]["mrope_section"]) == tiny["head_dim"] // 2


def test_tokens_are_in_the_vocabulary_and_apart() -> None:
    tiny = shrunk(vocab_size=1000, bos_token_id=500, eos_token_id=[501, 3], pad_token_id=-1)
    assert tiny["vocab_size"] == 97
    assert tiny["pad_token_id"] == -1
    assert tiny["eos_token_id"][1] == 3
    assert len({tiny["bos_token_id"], *tiny["eos_token_id"]}) == 3


def test_the_folder_holds_the_config_as_it_lay_and_nothing_else(tmp_path: Path) -> None:
    name = "mistral--mistral-2"
    folder = tiny_published(tmp_path / "model", name)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    raw = json.loads((folder / "config.json").read_text())
    assert raw == shrunk_published(raw_config(name), "mistral")
    assert "torch_dtype" in raw
    stored = Checkpoint.open(folder).tensors["model.norm.weight"].dtype.name
    assert stored == {"bfloat16": "bf16", "float16": "f16"}[raw["torch_dtype"]]


def test_a_published_oracle_is_judged_beside_the_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.jsonl")
    wanted = cells(["mistral"], ["f32"], QUICK)
    assert [cell.published for cell in wanted] == ["", *published_of(["mistral"])["mistral"]]
    one = cells(["mistral"], ["f32"], QUICK, oracles=["published"])[:1]
    (result,) = run(one, store, 1, lambda *_: None)
    assert (result.verdict, result.problem) == ("pass", "")
    assert result.name == f"mistral {one[0].published}"
    assert store.load()[result.key].published == one[0].published
