# SPDX-License-Identifier: Apache-2.0
"""Attention for a chip's own sequences and experts of all chips: what a line of a port makes of its memory and time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device_model.chips.chip import device
from device_model.cost.calibration import calibration
from device_model.cost.collective import CollectiveParameters, collective
from device_model.memory.use import MemoryFormulas, Question
from device_model.timeline.kinds import CollectiveSizes
from device_model.timeline.pricing import Prices
from device_model.timeline.schedule import Entry, Timeline, timeline
from dsl.graph import Graph, Node
from porting.planning.bound import bound_graph
from tests.conftest import TESTS

PORTS = TESTS.parent / "model_zoo" / "ports"
CASES = (
    ("mixtral-8x7b", 8, 2, 4096),
    ("qwen3-30b-a3b", 16, 8, 2048),
    ("deepseek-v3-671b", 32, 8, 7168),
)
WHOLE, SPLIT = "B @dp: batch", "B @dp @ep: batch"


@pytest.fixture
def spread(tmp_path: Path) -> Callable[[str], Graph]:
    """A function that returns a port whose batch is split over the chips of its experts."""

    def made(name: str) -> Graph:
        text = (PORTS / f"{name}.sohu").read_text(encoding="utf-8")
        assert text.count(WHOLE) == 1
        path = tmp_path / f"{name}.sohu"
        path.write_text(text.replace(WHOLE, SPLIT), encoding="utf-8")
        return bound_graph(path)

    return made


def step(graph: Graph, batch: int, ep: int) -> Timeline:
    sizes = {graph.batch: batch, graph.seq: 1, graph.context: 999}
    chip = device("h100")
    point = {**dict.fromkeys(graph.mesh, 1), "ep": ep, **sizes}
    return timeline(graph, point, Prices(chip, "bf16", calibration(chip)))


def sent(line: Timeline, op: str) -> list[Entry]:
    found = [entry for entry in line.entries if op in entry.task.ops]
    assert found
    return found


@pytest.mark.parametrize(("name", "ep", "top", "width"), CASES)
def test_tokens_go_to_the_chips_of_their_experts_and_back(name, ep, top, width, spread):
    graph = spread(name)
    nodes = [n.op for body, _ in graph.bodies() for n in body.steps if isinstance(n, Node)]
    assert nodes.count("dispatch") == nodes.count("collect") > 0
    line = step(graph, 16 * ep, ep)
    for entry in (*sent(line, "dispatch"), *sent(line, "collect")):
        sizes = entry.task.sizes
        assert isinstance(sizes, CollectiveSizes)
        row = width * 2 + (8 * top if "dispatch" in entry.task.ops else 0)
        chance = 1 - (1 - 1 / ep) ** top
        assert sizes.bytes == pytest.approx(16 * ep * row * chance)
        assert entry.choice.startswith("direct")
    assert not any("all_reduce" in e.task.ops and e.seconds > 0 for e in line.entries)


@pytest.mark.parametrize(("name", "ep", "top", "width"), CASES)
def test_every_chip_has_the_cache_of_its_own_sequences(name, ep, top, width, spread):
    whole, split = bound_graph(PORTS / f"{name}.sohu"), spread(name)
    asked = Question({"ep": ep}, 16 * ep, 1, 999)
    alike, own = (MemoryFormulas(g).use(asked) for g in (whole, split))
    assert own.weights == alike.weights
    assert own.state * ep == alike.state


def test_the_price_is_that_of_an_exchange_of_all_with_all(spread):
    graph, chip = spread("mixtral-8x7b"), device("h100")
    prices = Prices(chip, "bf16", calibration(chip))
    for entry in sent(step(graph, 4096, 8), "collect"):
        parameters = prices.calibration.get("collective", CollectiveParameters)
        seconds, _ = collective("all_to_all", entry.task.sizes.bytes, 8, prices.chip, parameters)
        assert entry.alone == pytest.approx(float(seconds))


@pytest.mark.parametrize(("chips", "top"), [(4, 2), (8, 2), (32, 8)])
def test_the_chance_that_a_chip_needs_a_token_is_that_of_drawn_experts(chips, top):
    each, random = 64 // chips, np.random.default_rng(chips)
    drawn = np.argsort(random.random((20_000, 64)), axis=1)[:, :top] // each
    needed = np.mean((drawn == 0).any(axis=1))
    # Experts are drawn without repetition, so a token spreads a little further than the formula says.
    assert needed == pytest.approx(1 - (1 - 1 / chips) ** top, rel=0.06)


def test_on_one_chip_nothing_is_sent(spread):
    graph = spread("mixtral-8x7b")
    line = step(graph, 4, 1)
    assert all(entry.seconds == 0 for entry in (*sent(line, "dispatch"), *sent(line, "collect")))
