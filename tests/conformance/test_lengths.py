# SPDX-License-Identifier: Apache-2.0
"""Rotations that depend on the length of the sequence: each step against transformers' row of all tokens so far."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.numbers.numerics import Array
from dsl.diagnostics import Refused
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.original.reference import Reference
from porting.planning.plan import plan

ORIGINAL, LENGTH, LIMIT = 20, 30, 1e-5
LONG = {
    "rope_type": "longrope",
    "rope_theta": 6000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.3, 1.9],
    "long_factor": [1.1, 2.5, 7.0],
    "attention_factor": 1.2,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 6000.0, "factor": 4.0}
GROWING = {"max_position_embeddings": ORIGINAL, "rope_parameters": DYNAMIC}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": ("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": ORIGINAL}),
    "dynamic": ("llama", GROWING),
    "dynamic, pairs interleaved, part of a head": (
        "glm4", GROWING | {"rope_parameters": DYNAMIC | {"partial_rotary_factor": 0.5}},
    ),
    "dynamic over latents": ("deepseek_v3", GROWING),
    "dynamic beside windows": (
        "olmo3",
        GROWING | {
            "rope_parameters": {
                "full_attention": DYNAMIC,
                "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
            }
        },
    ),
}  # fmt: skip
SIZES = {"token by token": [1] * LENGTH, "chunks": [7, 7, 7, 7, 2], "whole": [LENGTH]}


class Truths:
    """transformers' float64 rows of all tokens so far. A shorter row than the last takes it back to its first table."""

    def __init__(self, folder: Path) -> None:
        self._reference = Reference.load(folder, "float64")

    def of(self, row: Array) -> Array:
        self._reference.logits([[0]])
        return self._reference.logits([row.tolist()])[0].logits


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Engine, Truths]:
    model_type, overrides = KINDS[request.param]
    folder = tiny(tmp_path_factory.mktemp("model") / "m", model_type, **overrides)
    checkpoint = Checkpoint.open(folder)
    planned = plan(resolve(str(folder)), read_config(folder), checkpoint)
    return Engine(planned.graph, checkpoint, "f32"), Truths(folder)


def tokens(seed: int) -> Array:
    return np.random.default_rng(seed).integers(3, 60, LENGTH)


def pieces(row: Array, sizes: list[int]) -> Iterator[tuple[Array, Array]]:
    ends = np.cumsum(sizes)
    for size, end in zip(sizes, ends.tolist(), strict=True):
        yield row[end - size : end], row[:end]


def near(got: Array, truth: Array) -> bool:
    error = np.sqrt(np.mean((got - truth) ** 2) / np.mean(truth**2))
    return bool(error <= LIMIT)


@pytest.mark.f32
@pytest.mark.parametrize("way", SIZES)
def test_steps_are_rows_of_all_tokens_so_far(model: tuple[Engine, Truths], way: str) -> None:
    engine, truths = model
    session = engine.session()
    for piece, so_far in pieces(tokens(1), SIZES[way]):
        (got,) = session.step([piece])
        assert near(got, truths.of(so_far)[-len(piece) :])


@pytest.mark.f32
def test_sequences_of_a_ragged_batch(model: tuple[Engine, Truths]) -> None:
    engine, truths = model
    rows, ends = [tokens(2), tokens(3), tokens(4)], np.zeros(3, int)
    session = engine.session(3)
    for counts in ([17, 9, 20], [6, 0, 1], [1, 10, 1], [3, 2, 0]):
        given = [row[end : end + n] for row, end, n in zip(rows, ends, counts, strict=True)]
        got = session.step(given)
        ends += counts
        for row, end, part in zip(rows, ends, got, strict=True):
            assert not len(part) or near(part, truths.of(row[:end])[-len(part) :])


@pytest.mark.f32
def test_a_type_that_transformers_never_grows_is_refused(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "model", "phimoe")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | GROWING))
    with pytest.raises(Refused, match='scaling != "dynamic"'):
        plan(resolve(str(folder)), read_config(folder), Checkpoint.open(folder))
