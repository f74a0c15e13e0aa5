# SPDX-License-Identifier: Apache-2.0
"""Timelines: they add up to the footprint and to themselves, alone or on a mesh, and memory over the step with them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest

from device_model.chips.chip import device
from device_model.cost.calibration import calibration
from device_model.memory.held import DENSE, PRODUCTS
from device_model.memory.use import Logits, MemoryFormulas, Question
from device_model.timeline.kinds import KINDS, Kind
from device_model.timeline.memory import activations_of
from device_model.timeline.pricing import Prices
from device_model.timeline.schedule import chips_of, priced, timeline
from device_model.timeline.tasks import BETWEEN, stages
from dsl.counting.footprint import footprint
from dsl.diagnostics import Refused
from dsl.graph import Graph
from dsl.symbolic import evaluate
from porting.planning.bound import bound_graph
from tests.conftest import TESTS

PORTS = TESTS.parent / "model_zoo/ports"
CASES = (
    ("llama-3.1-70b", {"tp": 1}),
    ("llama-3.1-70b", {"tp": 8}),
    ("mixtral-8x22b", {"tp": 4, "ep": 2}),
    ("deepseek-v3-671b", {"tp": 8}),
    ("qwen3-30b-a3b", {"tp": 1}),
    ("gemma-3-27b-text", {"tp": 2}),
)
STEPS = ((3, 1, 1000), (2, 300, 0))


@lru_cache(maxsize=8)
def graph_of(name: str) -> Graph:
    return bound_graph(PORTS / f"{name}.sohu")


def point_of(graph: Graph, mesh: dict[str, int], step: tuple[int, int, int]) -> dict[str, int]:
    sizes = dict(zip((graph.batch, graph.seq, graph.context), step, strict=True))
    return {**dict.fromkeys(graph.mesh, 1), **mesh, **sizes}


def question_of(graph: Graph, mesh: dict[str, int], step: tuple[int, int, int]) -> Question:
    return Question({**dict.fromkeys(graph.mesh, 1), **mesh}, *step)


def prices(name: str = "h100", dtype: str = "bf16") -> Prices:
    chip = device(name)
    return Prices(chip, dtype, calibration(chip))


@pytest.mark.parametrize("step", STEPS, ids=["decode", "prefill"])
@pytest.mark.parametrize(("name", "mesh"), CASES)
def test_flops_and_bytes_are_those_of_the_footprint(name, mesh, step):
    graph = graph_of(name)
    point = point_of(graph, mesh, step)
    line = timeline(graph, point, prices(), last_logits=False)
    whole = footprint(graph)
    assert line.flops == pytest.approx(float(evaluate(whole.flops, point)), rel=1e-9)
    assert line.bytes == pytest.approx(float(evaluate(whole.traffic, point)), rel=1e-9)


@pytest.mark.parametrize("step", STEPS, ids=["decode", "prefill"])
@pytest.mark.parametrize(("name", "mesh"), CASES)
def test_engines_and_waits_add_up_to_the_step(name, mesh, step):
    graph = graph_of(name)
    line = timeline(graph, point_of(graph, mesh, step), prices(), host=1e-3)
    engines = {k: v for k, v in line.engines().items() if k != "memory"}
    assert sum(engines.values()) + line.host == pytest.approx(line.seconds, rel=1e-12)
    assert sum(line.waits().values()) == pytest.approx(line.seconds, rel=1e-12)
    by_stage = sum(sum(line.waits(s).values()) for s in {e.stage for e in line.entries})
    assert by_stage + line.host == pytest.approx(line.seconds, rel=1e-12)
    assert line.engines()["memory"] <= line.seconds
    assert 0 < line.mfu < 1
    assert 0 < line.bandwidth_use <= 1


@pytest.mark.parametrize("step", STEPS, ids=["decode", "prefill"])
def test_the_last_pass_of_a_layer_and_the_first_of_the_next_are_one_kernel(step):
    graph = graph_of("llama-3.1-70b")
    line = timeline(graph, point_of(graph, {"tp": 8}, step), prices())
    layers = [e for e in line.entries if e.layers > 1]
    assert layers[0].task.kind is layers[-1].task.kind is Kind.VECTOR
    assert [e for e in line.entries if e.seconds != e.alone] == layers[-1:]
    saved = layers[-1].alone - layers[-1].seconds
    assert saved == pytest.approx(layers[-1].terms["launch"])
    assert line.seconds == pytest.approx(sum(e.layers * e.seconds for e in line.entries))


@pytest.mark.parametrize("name", ["llama-3.1-70b", "mixtral-8x22b"])
def test_one_chip_waits_for_no_links(name):
    graph = graph_of(name)
    for step in STEPS:
        line = timeline(graph, point_of(graph, {}, step), prices())
        assert line.engines().get("links", 0.0) == 0.0
        assert all(e.seconds == 0 for e in line.entries if e.task.kind is Kind.COLLECTIVE)


def test_a_format_without_a_unit_is_refused():
    with pytest.raises(Refused, match="S609"):
        _ = prices("a100", "f8e4m3").chip


def test_faster_memory_is_never_slower():
    graph = graph_of("llama-3.1-70b")
    point = point_of(graph, {"tp": 8}, (1, 1, 4096))
    found, chip = stages(graph, point, last_logits=True), device("sohu")
    known = calibration(chip)
    lines = [
        priced(found, chips_of(graph, point), Prices(chip, "f8e4m3", known, 0.0, {"hbm_bw": bw}))
        for bw in chip.quantity("hbm_bw").values
    ]
    assert [x.seconds for x in lines] == sorted((x.seconds for x in lines), reverse=True)
    assert lines[0].chips == 8


@pytest.mark.parametrize(("name", "mesh"), CASES)
@pytest.mark.parametrize("logits", Logits)
@pytest.mark.parametrize("step", STEPS, ids=["decode", "prefill"])
def test_the_most_of_all_tasks_is_the_memory_of_the_step(name, mesh, step, logits):
    graph = graph_of(name)
    memory = MemoryFormulas(graph, "bf16", logits)
    question = question_of(graph, mesh, step)
    tasks = stages(graph, memory.point(question), last_logits=logits is Logits.LAST)
    alive = activations_of(memory, question, tasks)
    assert max(size for sizes in alive.values() for size in sizes) == pytest.approx(
        memory.use(question).activations, abs=1
    )
    assert {s.name: len(s.tasks) for s in tasks} == {k: len(v) for k, v in alive.items()}


def test_products_hold_their_weights_in_their_format():
    graph = graph_of("llama-3.1-70b")
    question = question_of(graph, {"tp": 8}, (1, 1, 4096))
    wide, narrow = (MemoryFormulas(graph, dtype).use(question) for dtype in ("bf16", "f8e4m3"))
    assert wide.weights == wide.stored == narrow.stored
    # The embedding and the norms stay as they are stored.
    assert narrow.stored / 2 < narrow.weights < 0.51 * narrow.stored
    assert narrow.total == narrow.lasting + narrow.activations


def test_a_product_is_what_is_priced_as_one():
    priced = {op for op, kind in KINDS.items() if kind in (Kind.GEMM, Kind.EXPERTS)}
    assert priced == PRODUCTS
    assert {op for op in priced if KINDS[op] is Kind.GEMM} == DENSE


def test_only_the_last_token_needs_logits():
    graph = graph_of("llama-3.1-70b")
    question = question_of(graph, {"tp": 8}, (1, 4096, 0))
    last, every = (MemoryFormulas(graph, "bf16", x).use(question).activations for x in Logits)
    assert (last, every) == (201_326_592, 2_168_455_168)


def test_attention_without_a_causal_mask_has_no_price():
    graph = graph_of("llama-3.1-70b")
    found = stages(graph, point_of(graph, {"tp": 8}, STEPS[1]))
    task = next(t for s in found for t in s.tasks if t.kind is Kind.ATTENTION)
    assert prices().of(task).seconds > 0
    with pytest.raises(Refused, match="S609"):
        prices().of(replace(task, sizes=replace(task.sizes, causal=False)))


@pytest.mark.parametrize("step", STEPS, ids=["decode", "prefill"])
def test_stages_of_a_pipeline_send_what_layers_carry(step):
    graph = graph_of("llama-3.1-8b")
    at = {pp: timeline(graph, point_of(graph, {"pp": pp}, step), prices()) for pp in (1, 4, 16)}
    sends = {pp: [e for e in line.entries if e.stage == BETWEEN] for pp, line in at.items()}
    assert sends[1] == []
    for pp in (4, 16):
        (send,) = sends[pp]
        assert send.layers == pp - 1
        batch, new, _ = step
        assert send.task.sizes.bytes == 2 * batch * new * 4096 * 2
        assert at[pp].seconds == pytest.approx(at[1].seconds + send.total, rel=1e-12)
        assert at[pp].interval < at[1].interval
    # Sixteen chips are two domains, and the network between them is slower than the links inside of one.
    assert sends[16][0].seconds >= sends[4][0].seconds


def test_a_full_pipeline_holds_the_state_of_every_batch_in_it():
    graph = graph_of("llama-3.1-8b")
    memory = MemoryFormulas(graph)
    held = {pp: memory.use(question_of(graph, {"pp": pp}, STEPS[0])) for pp in (1, 4)}
    assert held[4].state == held[1].state
    assert held[4].weights < held[1].weights
    whole = footprint(graph)
    point = point_of(graph, {"pp": 4}, STEPS[0])
    line = timeline(graph, point, prices(), last_logits=False)
    assert line.flops == pytest.approx(float(evaluate(whole.flops, point)), rel=1e-9)
    assert line.bytes == pytest.approx(float(evaluate(whole.traffic, point)), rel=1e-9)
