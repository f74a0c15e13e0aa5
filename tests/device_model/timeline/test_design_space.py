# SPDX-License-Identifier: Apache-2.0
"""A space of designs: equal to the timeline at every point, monotonous in the chip, never faster than light."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_model.chips.chip import device
from device_model.cost.calibration import calibration
from device_model.memory.use import MemoryFormulas, Question
from device_model.timeline.design import Design, cut
from device_model.timeline.design_space import BLOCK, DesignSpace, evaluate_design
from device_model.timeline.kinds import Kind
from device_model.timeline.pareto import pareto_front, thinned
from device_model.timeline.pricing import Prices
from device_model.timeline.schedule import timeline
from dsl.diagnostics import Refused
from dsl.graph import Graph
from dsl.inference.inference import infer
from porting.planning.library import load_program
from tests.conftest import TESTS

PORTS = TESTS.parent / "model_zoo" / "ports"
ALONE = {"tp": 1, "pp": 1, "dp": 1}


@lru_cache
def port(name: str) -> Graph:
    program = load_program(PORTS / f"{name}.sohu")
    graph = infer(program.family(), program.blocks, None).graph
    assert graph is not None
    return graph


def space(
    name: str, chip: str, numerics: tuple[str, ...] = ("bf16",), **numbers: object
) -> DesignSpace:
    values = {k: tuple(map(float, np.atleast_1d(v))) for k, v in numbers.items()}
    found = device(chip)
    return evaluate_design(port(name), found, calibration(found), Design(values, numerics))


@pytest.mark.parametrize("chip", ["h100", "sohu"])
@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("llama-3.1-8b", ("tp", "pp")), ("mixtral-8x7b", ("tp", "ep")), ("qwen3-30b-a3b", ("ep", "dp")),
        ("deepseek-v3-671b", ("pp", "dp")),
    ],
)  # fmt: skip
def test_each_point_is_the_timeline(name, axes, chip):
    graph, found = port(name), device(chip)
    axes = dict.fromkeys(axes, (1, 2))
    result = space(
        name, chip, ("bf16", "f8e4m3"), batch=(2, 34), seq=(1, 700), context=(0, 4100), skew=(0, 1.01),
        hbm_bw=(3e12, 7e12), host=0.002, **axes,
    )  # fmt: skip
    for i in range(0, result.points, 7):  # odd, so that every value meets every other
        at = {key: column[i] for key, column in result.columns.items()}
        prices = Prices(
            found, str(at["numerics"]), calibration(found), float(at["skew"]),
            {"hbm_bw": float(at["hbm_bw"])},
        )  # fmt: skip
        point = {axis: int(at[axis]) for axis in graph.mesh}
        point |= {graph.batch: int(at["batch"]), graph.seq: 1, graph.context: int(at["context"])}
        decode = timeline(graph, point, prices, host=0.002)
        prompt = {**point, graph.seq: int(at["seq"]), graph.context: 0}
        prefill = timeline(graph, prompt, prices, host=0.002)
        assert at["step_s"] == pytest.approx(decode.seconds, rel=1e-12)
        assert at["prefill_s"] == pytest.approx(prefill.seconds, rel=1e-12)
        assert at["chips"] == decode.chips
        waits = decode.waits()
        assert waits[str(at["bound"])] == pytest.approx(max(waits.values()), rel=1e-9)
        assert at["bound_share"] == pytest.approx(max(waits.values()) / decode.seconds, rel=1e-9)


def test_memory_is_the_capacity_where_products_keep_their_format():
    graph = port("mixtral-8x7b")
    memory = MemoryFormulas(graph)
    found = space("mixtral-8x7b", "h100", batch=(1, 8), context=(1, 3000), tp=(1, 4), ep=(1, 2))
    for i in range(found.points):
        at = {key: column[i] for key, column in found.columns.items()}
        mesh = {axis: int(at[axis]) for axis in graph.mesh}
        use = memory.use(Question(mesh, int(at["batch"]), 1, int(at["context"])))
        assert (at["weights_bytes"], at["state_bytes"], at["activation_bytes"]) == (
            use.weights, use.state, use.activations,
        )  # fmt: skip
        assert at["fits"] == (use.total <= device("h100").memory_bytes)


def test_a_low_precision_halves_the_weights_of_products_alone():
    found = space("llama-3.1-8b", "h100", ("bf16", "f8e4m3"))
    wide, narrow = found.columns["weights_bytes"]
    kept = 2 * (128256 * 4096 + 65 * 4096)  # the table of embeddings, the norms
    assert narrow - kept == (wide - kept) / 2


def test_a_mesh_that_does_not_divide_is_reported_and_has_no_time():
    found = space("llama-3.1-8b", "sohu", tp=(1, 3, 4))
    assert found.columns["divides"].tolist() == [True, False, True]
    assert np.isnan(found.columns["step_s"]).tolist() == [False, True, False]
    assert found.undivided["8 is not a multiple of tp"] == 1
    assert found.usable.tolist() == [True, False, True]


def test_energy_adds_up():
    graph, chip = port("llama-3.1-8b"), device("h100")
    found = space("llama-3.1-8b", "h100", batch=16, context=3000, tp=2)
    prices = Prices(chip, "bf16", calibration(chip))
    point = {**ALONE, "tp": 2, graph.batch: 16, graph.seq: 1, graph.context: 3000}
    step = timeline(graph, point, prices)
    moved = 0.0
    for entry in step.entries:
        s = entry.task.sizes
        moved += entry.layers * {
            Kind.GEMM: lambda s=s: 2 * (s.m * s.k + s.k * s.n) + s.m * s.n * s.y_bits / 8,
            Kind.VECTOR: lambda s=s: s.moved,
            Kind.ATTENTION: lambda entry=entry: entry.task.bytes,
            Kind.COLLECTIVE: lambda: 0.0,
        }[entry.task.kind]()  # fmt: skip
    idle, flop, byte = (
        chip.quantity(key).value for key in ("idle_w", "flop_joule", "hbm_joule_per_byte")
    )
    joules = 2 * (idle * step.seconds + flop * step.flops + byte * moved) / 16
    assert found.columns["joules_per_token"][0] == pytest.approx(joules, rel=1e-12)


def test_no_energy_is_claimed_where_the_description_has_none():
    assert "joules_per_token" not in space("llama-3.1-8b", "sohu").columns
    known = {"idle_w": 100, "flop_joule": 4e-13, "hbm_joule_per_byte": 4e-11}
    assert space("llama-3.1-8b", "sohu", **known).columns["joules_per_token"][0] > 0


def test_blocks_change_nothing(monkeypatch):
    numbers = {"batch": (1, 5, 9, 64), "tp": (1, 2, 4), "hbm_bw": (4e12, 5e12, 6e12)}
    whole = space("llama-3.1-8b", "sohu", ("bf16", "f8e4m3"), **numbers)
    monkeypatch.setattr("device_model.timeline.design_space.BLOCK", 5)
    pieces = space("llama-3.1-8b", "sohu", ("bf16", "f8e4m3"), **numbers)
    for name, column in whole.columns.items():
        assert column.tolist() == pieces.columns[name].tolist()


@given(st.lists(st.integers(1, 6), max_size=4), st.integers(1, 50))
def test_blocks_cover_every_point_once(sizes, most):
    design = Design({f"n{i}": tuple(map(float, range(n))) for i, n in enumerate(sizes)}, ("bf16",))
    seen = np.zeros(design.shape, int)
    for block in design.blocks(most):
        seen[block] += 1
        assert np.prod(seen[block].shape) <= most
        assert np.shape(cut(seen, block)) == seen[block].shape
    assert (seen == 1).all()
    assert BLOCK > 1


def test_prompts_are_prefilled_in_rounds():
    one = space("llama-3.1-8b", "sohu", batch=1, seq=512).columns["prefill_s"]
    many = space("llama-3.1-8b", "sohu", batch=8, seq=512, prompts=1).columns["prefill_s"]
    assert many == pytest.approx(8 * one, rel=1e-12)


def test_whole_requests_count_tokens_in_and_out():
    found = space("llama-3.1-8b", "sohu", batch=8, seq=512, context=520, answer=16).columns
    whole = found["prefill_s"] + 16 * found["step_s"]
    assert found["out_tokens_per_s"] == pytest.approx(8 * 16 / whole)
    assert found["in_out_tokens_per_s"] == pytest.approx(8 * (512 + 16) / whole)


def test_a_chip_without_the_links_that_a_mesh_needs_is_refused():
    with pytest.raises(Refused) as caught:
        space("mixtral-8x7b", "sohu", tp=8, ep=2)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "S603"
    assert "scaleout_bw" in diagnostic.help


def test_links_hide_no_longer_than_other_work_lasts():
    overlap = (0.0, 0.5, 1.0)
    slow = space("llama-3.1-8b", "sohu", batch=64, tp=8, link_bw=1e10, link_overlap=overlap)
    assert slow.columns["overlaps"].tolist() == [True, False, False]
    assert slow.usable.tolist() == [True, False, False]
    fast = space(
        "llama-3.1-8b", "sohu", batch=512, context=8000, tp=8, link_bw=9e12, link_overlap=overlap
    )
    assert fast.usable.all()


# More of anything never hurts


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["hbm_bw", "link_bw", "bf16_flops", "fp8_flops", "vector_flops", "link_overlap"]),
    st.sampled_from(["llama-3.1-8b", "mixtral-8x7b"]),
    st.integers(1, 300), st.integers(2, 3000), st.integers(0, 20000), st.sampled_from([1, 2, 8]),
    st.floats(1.01, 10),
)  # fmt: skip
def test_a_better_chip_is_never_slower(quantity, name, batch, seq, context, tp, factor):
    known = device("sohu").quantities.get(quantity)
    pair = (known.value, known.value * factor) if known else (0.0, 1 - 1 / factor)
    found = space(
        name, "sohu", ("bf16", "f8e4m3"), batch=batch, seq=seq, context=context, tp=tp, **{quantity: pair}
    ).columns  # fmt: skip
    for answer in ("step_s", "prefill_s"):
        times = found[answer].reshape(2, 2)
        assert (times[:, 1] <= times[:, 0] * (1 + 1e-12)).all()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["h100", "sohu"]), st.integers(1, 300), st.integers(2, 3000), st.integers(0, 20000),
    st.sampled_from([1, 2, 8]),
)  # fmt: skip
def test_nothing_is_faster_than_light(chip, batch, seq, context, tp):
    name = "llama-3.1-8b"
    found = space(name, chip, batch=batch, seq=seq, context=context, tp=tp).columns
    graph, known = port(name), device(chip)
    prices = Prices(known, "bf16", calibration(known))
    peak, bandwidth = float(prices.chip.peak), float(prices.chip.bandwidth)
    point = {**ALONE, "tp": tp, graph.batch: batch, graph.seq: 1, graph.context: context}
    for answer, at in (
        ("step_s", point), ("prefill_s", {**point, graph.seq: seq, graph.context: 0})
    ):  # fmt: skip
        step = timeline(graph, at, prices)
        products = [e for e in step.entries if e.task.kind is Kind.GEMM]
        weights = sum(e.layers * 2 * e.task.sizes.n * e.task.sizes.k for e in products)
        flops = sum(e.layers * e.task.flops for e in products)
        assert found[answer][0] >= max(flops / peak, weights / bandwidth) * (1 - 1e-12)


# The front


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=30))
def test_the_front_is_what_nothing_beats(points):
    x, y = (np.asarray([p[i] for p in points], float) for i in (0, 1))
    among = np.asarray([p[2] for p in points], bool)
    found = pareto_front(x, y, among)
    inside = [(a, b) for a, b, used in points if used]
    beaten = {p for p in inside for q in inside if q[0] >= p[0] and q[1] >= p[1] and q != p}
    assert {(x[i], y[i]) for i in found} == set(inside) - beaten
    assert len({(x[i], y[i]) for i in found}) == len(found)
    assert [x[i] for i in found] == sorted(x[i] for i in found)


def test_a_front_of_groups_is_the_front_of_each():
    random = np.random.default_rng(7)
    x, y = random.integers(1, 9, (2, 60)).astype(float)
    among, groups = random.random(60) < 0.7, random.integers(0, 4, 60)
    each = [pareto_front(x, y, among & (groups == group)) for group in range(4)]
    assert pareto_front(x, y, among, groups) == [row for rows in each for row in rows]


def test_a_thinned_front_keeps_its_ends():
    assert thinned(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert thinned([1, 2], 5) == [1, 2]
