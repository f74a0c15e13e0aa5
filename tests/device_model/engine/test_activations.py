# SPDX-License-Identifier: Apache-2.0
"""The memory of values per token: what a step takes against the formula that predicts it."""

import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.weights.reading import ArrayReader, RandomReader, shapes_of
from dsl.counting.liveness import peak, peak_candidates
from dsl.graph import Graph
from dsl.inference.inference import infer
from porting.planning.library import family_for
from tests.device_model.graphs import Llama

STEPS = [(1, 1, 0), (1, 40, 0), (3, 7, 0), (2, 1, 33), (2, 5, 12), (1, 200, 3)]

CONFIG: dict[str, object] = {
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "vocab_size": 150,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_parameters.rope_theta": 500000.0,
}


def predicted(graph: Graph, batch: int, new: int, context: int) -> int:
    values = {"B": batch, "S": new, "C": context, **dict.fromkeys(graph.mesh, 1)}
    return int(peak(peak_candidates(graph), values)[0])


def measured(device: Engine, batch: int, new: int, context: int) -> int:
    session = device.session(batch)
    if context:
        session.step([np.zeros(context, np.int64)] * batch)
    session.step([np.zeros(new, np.int64)] * batch)
    return session.activation_bytes


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_small_graph(dtype: str, step: tuple[int, int, int], kernels: str) -> None:
    model = Llama(dtype=dtype)
    device = Engine(model.graph(), ArrayReader(model.weights()), dtype, kernels)
    formula, actual = predicted(model.graph(), *step), measured(device, *step)
    assert actual <= formula <= 1.05 * actual


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_llama_family(dtype: str, step: tuple[int, int, int], kernels: str) -> None:
    program = family_for("LlamaForCausalLM")
    values = {**CONFIG, "dtype": dtype}
    graph = infer(program.family(), program.blocks, values).graph
    device = Engine(graph, RandomReader(shapes_of(graph)), dtype, kernels)
    formula, actual = predicted(graph, *step), measured(device, *step)
    assert actual <= formula <= 1.05 * actual
