# SPDX-License-Identifier: Apache-2.0
"""The promise on bits: batch packing, chunk size and thread count change none, on a slice of the demo's sizes."""

import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.weights.reading import RandomReader, shapes_of
from dsl.inference.inference import infer
from porting.planning.library import family_for
from tests.packing import assert_batch_equals, assert_chunks_equal, ragged, tokens

VOCABULARY = 4096
CONFIG: dict[str, object] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 2,
    "vocab_size": VOCABULARY,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "rope_parameters.rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "dtype": "bf16",
}
LENGTH = 130
RAGGED = (5, LENGTH, 1, 64, 17, 100, 33, 2)


def engines(numerics: str) -> dict[int, Engine]:
    """Return engines on the same weights with one and two threads."""
    program = family_for("LlamaForCausalLM")
    graph = infer(program.family(), program.blocks, CONFIG).graph
    reader = RandomReader(shapes_of(graph), 5)
    return {threads: Engine(graph, reader, numerics, threads=threads) for threads in (1, 2)}


@pytest.fixture(scope="module", params=["bf16", "f32"])
def devices(request: pytest.FixtureRequest) -> dict[int, Engine]:
    return engines(request.param)


@pytest.fixture(scope="module")
def whole(devices: dict[int, Engine]) -> np.ndarray:
    return devices[2].session().step([tokens(VOCABULARY, LENGTH)])[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chunk", [1, 7, 64, LENGTH])
def test_chunks(devices: dict[int, Engine], whole: np.ndarray, chunk: int, threads: int) -> None:
    assert_chunks_equal(devices[threads], tokens(VOCABULARY, LENGTH), chunk, whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_ragged_batch_of_eight(
    devices: dict[int, Engine], whole: np.ndarray, threads: int
) -> None:
    assert_batch_equals(devices[threads], devices[2], ragged(VOCABULARY, RAGGED), whole)


def test_a_decode_step_reuses_the_memory_of_the_last_one(devices: dict[int, Engine]) -> None:
    session = devices[2].session()
    session.step([tokens(VOCABULARY, 20)], logits="last")
    session.step([tokens(VOCABULARY, 1)], logits="last")
    held = {segment: array.ctypes.data for segment, array in session._executor._arenas.items()}
    states = session.cache.table.copy()
    for _ in range(5):
        session.step([tokens(VOCABULARY, 1)], logits="last")
    assert held == {r: array.ctypes.data for r, array in session._executor._arenas.items()}
    assert np.array_equal(states[1:], session.cache.table[1:])
