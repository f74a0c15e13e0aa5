# SPDX-License-Identifier: Apache-2.0
"""Schedules that are searched for: proven as all others, and near the bound, counted in steps or held to a clock."""

import numpy as np
import pytest

from device_model.collectives.bound import bound, crossing, cuts
from device_model.collectives.events import times
from device_model.collectives.find import find
from device_model.collectives.greedy import spread
from device_model.collectives.program import OPERATIONS, Program, chunk_bytes
from device_model.collectives.routes import routes
from device_model.collectives.topology import (
    Topology,
    Wire,
    full,
    hierarchy,
    linked,
    mesh,
    ring,
    switch,
    torus,
)
from device_model.collectives.verify import verify
from dsl.diagnostics import Refused

WIRE, NETWORK = Wire(9e10, 1e-6), Wire(1e10, 5e-6)
ODD = ((0, 1), (1, 2), (2, 3), (3, 0), (0, 2))
TOPOLOGIES = {
    t.name: t
    for t in (
        ring("ring", 8, WIRE),
        torus("torus", (4, 4), WIRE),
        torus("uneven", (3, 5), WIRE),
        torus("pair", (2, 3), WIRE),
        torus("alone", (1,), WIRE),
        mesh("mesh", (4, 4), WIRE),
        full("full", 5, WIRE),
        switch("switch", 8, WIRE),
        hierarchy("nodes", 4, 4, WIRE, NETWORK),
        hierarchy("shared", 4, 4, WIRE, NETWORK, nics=2),
        hierarchy("one each", 3, 1, WIRE, NETWORK),
        linked("links", 4, 0, tuple((a, b, WIRE) for a, b in ODD)),
    )
}
SIZE = 1e9


def pace(program: Program, size: float) -> float:
    """Return the seconds of a program: a send waits for its chunk and for its links, in the order of writing."""
    top = program.topology
    take = chunk_bytes(program, size) / top.capacity
    paths, counts = routes(top, program.source, program.target)
    sends = zip(
        program.source.tolist(), program.target.tolist(), program.chunk.tolist(),
        paths.tolist(), counts.tolist(), strict=True,
    )  # fmt: skip
    keep, late, end = take.tolist(), top.latency.tolist(), 0.0
    free, ready = [0.0] * top.links, dict[tuple[int, int], float]()
    for source, target, chunk, path, count in sends:
        links = path[:count]
        start = max(ready.get((source, chunk), 0.0), *(free[link] for link in links))
        for link in links:
            free[link] = start + keep[link]
        there = start + max(keep[link] for link in links) + sum(late[link] for link in links)
        ready[target, chunk] = max(there, ready.get((target, chunk), 0.0))
        end = max(end, there)
    return end


def by_steps(program: Program, size: float) -> float:
    """Return the steps' seconds on links that are all alike."""
    take = chunk_bytes(program, size) / WIRE.capacity
    return program.steps * take


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_what_is_searched_for_is_right(name, operation):
    answer = find(operation, TOPOLOGIES[name], 1e6, by_steps)
    proof = verify(answer.program)
    assert proof.faults == ()
    assert answer.program.operation == operation


NEAR = {
    "ring": 0.02, "torus": 0.02, "uneven": 0.02, "mesh": 0.02, "switch": 0.05,
    "nodes": 0.1, "shared": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("operation", ["all_gather", "reduce_scatter", "all_to_all"])
@pytest.mark.parametrize("name", NEAR)
def test_gathers_and_exchanges_come_near_the_bound(name, operation):
    answer = find(operation, TOPOLOGIES[name], SIZE, pace)
    assert answer.seconds == pytest.approx(times(answer.program, SIZE).seconds)
    assert -1e-9 <= answer.excess <= NEAR[name]


@pytest.mark.parametrize("name", ["ring", "torus", "switch", "nodes"])
def test_sums_for_all_come_near_the_bound_where_all_chips_are_alike(name):
    answer = find("all_reduce", TOPOLOGIES[name], SIZE, pace)
    assert -1e-9 <= answer.excess <= NEAR[name]
    assert answer.program.order == "any"


@pytest.mark.parametrize(
    ("topology", "most"),
    [
        (torus("t", (16, 16), WIRE), 64),
        (mesh("m", (16, 16), WIRE), 128),
        (ring("r", 256, WIRE), 128),
    ],
)
def test_256_chips_take_the_fewest_steps(topology, most):
    degree = np.bincount(topology.target).min()
    assert most == -(-255 // degree)
    answer = find("all_gather", topology, SIZE, by_steps)
    assert answer.program.steps / (answer.program.chunks / 256) <= most


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("size", [1.0, 1e5])
def test_no_schedule_is_below_the_bound(size, operation):
    for name in ("uneven", "pair", "full", "shared", "one each", "links"):
        answer = find(operation, TOPOLOGIES[name], size, pace)
        assert answer.seconds >= answer.bound.seconds * (1 - 1e-9), name


def test_the_bound_names_the_cut_that_binds():
    def cut(operation: str, topology: Topology) -> str:
        return bound(operation, topology, SIZE).cut

    assert cut("all_gather", TOPOLOGIES["mesh"]) == "into chip 0"
    assert cut("all_gather", TOPOLOGIES["nodes"]) == "into node 0"
    assert cut("all_to_all", torus("t", (8, 2), WIRE)) == "into 4 of 8 along dimension 0"
    assert cut("all_reduce", TOPOLOGIES["torus"]) == "out of all chips together"
    assert bound("all_gather", TOPOLOGIES["torus"], 1.0).cut == "the longest way from chip 0"
    assert bound("all_reduce", TOPOLOGIES["alone"], SIZE).seconds == 0.0


def test_bounds_are_the_known_ones():
    # Patarasu and Yuan 2009: 2 (n - 1) / n of the buffer through the port of each chip, and the way across.
    known = 2 * 7 / 8 * SIZE / 9e10 + 2e-6
    assert bound("all_reduce", TOPOLOGIES["switch"], SIZE).seconds == pytest.approx(known)
    adding = switch("adding", 8, WIRE, reduces="tree")
    assert bound("all_reduce", adding, SIZE).seconds == pytest.approx(SIZE / 9e10 + 2e-6)
    half = 8 * 8 * SIZE / 16 / (8 * 9e10) + 1e-6
    assert bound("all_to_all", torus("t", (4, 4), WIRE), SIZE).seconds == pytest.approx(half)
    assert crossing("broadcast", 1, 4, 8.0, root=True) == (0.0, 8.0)
    assert all(0 < c.chips.sum() < 16 for c in cuts(TOPOLOGIES["torus"]))


def test_sums_in_the_declared_order_are_the_templates():
    for name in ("torus", "switch", "nodes"):
        answer = find("all_reduce", TOPOLOGIES[name], SIZE, order="tree")
        assert answer.program.order == "tree"
        assert answer.method.startswith("template")
        assert verify(answer.program).faults == ()


def _refused(operation: str, topology: Topology, size: float = SIZE) -> str:
    with pytest.raises(Refused) as refused:
        find(operation, topology, size, by_steps)
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "S630"
    return diagnostic.message


def test_what_cannot_be_searched_for_says_why():
    apart = linked("apart", 3, 0, ((0, 1, WIRE), (1, 0, WIRE)))
    assert "nothing leads" in _refused("all_gather", apart)
    assert "nothing leads" in _refused("broadcast", apart)
    assert "up to 1,024" in _refused("all_gather", torus("large", (64, 64), WIRE))
    through = linked("through", 2, 1, ((0, 2, WIRE), (2, 1, WIRE), (1, 2, WIRE), (2, 0, WIRE)))
    assert "no template fits" in _refused("all_gather", through)
    assert "no collective" in _refused("gather", TOPOLOGIES["ring"])
    for size in (0.0, -1.0, np.inf, np.nan):
        assert "no buffer" in _refused("all_gather", TOPOLOGIES["ring"], size)


def test_a_search_by_chance_is_the_same_each_time():
    begins = np.arange(16, dtype=np.int32)
    first, again = (spread(TOPOLOGIES["mesh"], begins, seed=5) for _ in range(2))
    assert [step.tolist() for step in first] == [step.tolist() for step in again]
