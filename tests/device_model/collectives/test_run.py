# SPDX-License-Identifier: Apache-2.0
"""Programs run to the bits of the declared tree, whatever their algorithm; their times keep to what links can do."""

from itertools import permutations

import numpy as np
import pytest

from device_model.collectives.bound import bound
from device_model.collectives.events import times
from device_model.collectives.program import OPERATIONS, SUMS, Program, chunk_bytes
from device_model.collectives.run import declared, run
from device_model.collectives.templates import TEMPLATES, template
from device_model.collectives.topology import Wire, hierarchy, mesh, ring, switch, torus
from dsl.diagnostics import Refused

WIRE, SLOW = Wire(90e9, 1e-6), Wire(10e9, 5e-6)
TOPOLOGIES = [
    ring("ring8", 8, WIRE),
    torus("torus24", (2, 4), WIRE),
    mesh("mesh42", (4, 2), WIRE),
    switch("switch8", 8, WIRE, "tree"),
    switch("switch5", 5, WIRE),
    hierarchy("nodes24", 2, 4, WIRE, SLOW),
]


def _made(topology, operations, pieces=(1, 3)):
    """Yield what templates make over a topology."""
    for rule in TEMPLATES:
        for operation in operations:
            for count in pieces:
                try:
                    program = template(rule, operation, topology, count)
                except Refused:
                    continue
                yield rule, program


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: t.name)
def test_sums_have_the_bits_of_the_declared_tree(topology):
    chance = np.random.default_rng(1)
    count = 0
    for rule, program in _made(topology, SUMS):
        parts = chance.standard_normal((topology.chips, program.chunks, 3)).astype(np.float32)
        parts *= np.float32(10) ** chance.integers(-3, 4, parts.shape).astype(np.float32)
        expected = declared(parts)
        shared = program.operation == "all_reduce"
        wanted = (
            np.stack([expected] * topology.chips)
            if shared
            else expected.reshape(topology.chips, -1, 3)
        )
        actual = run(program, parts)
        assert np.array_equal(actual.view(np.int32), wanted.view(np.int32)), rule
        count += 1
    assert count


def test_other_orders_have_other_bits():
    parts = np.float32([1e8, 1, -1e8, 1])[:, None]
    orders = {
        float(sum(parts[list(order)][1:], parts[order[0]])[0]) for order in permutations(range(4))
    }
    assert len(orders) > 1


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: t.name)
def test_what_is_not_summed_arrives_as_it_was(topology):
    n = topology.chips
    for rule, program in _made(topology, [op for op in OPERATIONS if op not in SUMS]):
        rows = 1 if program.operation == "broadcast" else n
        data = np.arange(program.chunks * 2).reshape(rows, -1, 2)
        wanted = np.stack([data.reshape(-1, 2)] * n)
        if program.operation == "all_to_all":
            wanted = data.reshape(n, n, -1, 2).swapaxes(0, 1).reshape(n, -1, 2)
        assert np.array_equal(run(program, data), wanted), rule


def test_wrong_programs_and_inputs_are_not_run():
    chips = ring("r", 2, WIRE)
    with pytest.raises(Refused, match="S626"):
        run(Program.of("broadcast", chips, 1, []), np.zeros((1, 1, 1)))
    with pytest.raises(ValueError, match="takes"):
        run(Program.of("broadcast", chips, 1, [[(0, 1, 0)]]), np.zeros((2, 1, 1)))


@pytest.mark.parametrize("chips", [2, 3, 8])
@pytest.mark.parametrize("size", [0.0, 4096.0, 1e9])
def test_times_are_the_closed_forms_where_nothing_contends(chips, size):
    chunk = size / chips
    go = chunk / WIRE.capacity
    line = times(template("ring", "all_gather", ring("r", chips, WIRE)), size).seconds
    halves = go / 2 if chips > 1 else 0.0
    ports = chips == 2  # both halves go over the one link
    expected = WIRE.latency + 2 * halves if ports else (chips - 1) * (WIRE.latency + halves)
    assert line == pytest.approx(expected, rel=1e-12)
    direct = times(template("direct", "all_gather", switch("s", chips, WIRE)), size).seconds
    assert direct == pytest.approx(2 * WIRE.latency + (chips - 1) * go, rel=1e-12)
    both = times(template("direct", "all_reduce", switch("s", chips, WIRE)), size).seconds
    assert both == pytest.approx(2 * direct, rel=1e-12)


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: t.name)
def test_times_are_never_below_what_links_can_do(topology):
    for _, program in _made(topology, OPERATIONS):
        timed = times(program, 1e6)
        chunk = chunk_bytes(program, 1e6)
        assert timed.seconds >= timed.busy.max() > 0
        inbound = np.zeros(topology.nodes)
        np.add.at(inbound, topology.target, topology.capacity)
        received = np.bincount(program.target, minlength=topology.nodes) * chunk
        assert timed.seconds >= (received / inbound)[: topology.chips].max() + WIRE.latency
        assert np.all(timed.arrives > timed.begins)


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: t.name)
def test_a_link_carries_one_chunk_at_a_time_and_none_before_it_is_there(topology):
    for _, program in _made(topology, ("all_gather", "all_reduce"), (2,)):
        timed = times(program, 1e6)
        keeps = timed.chunk / topology.capacity
        for link in range(topology.links):
            starts = np.sort(timed.begins[(timed.paths == link).any(1)])
            assert np.all(np.diff(starts) >= keeps[link] * (1 - 1e-12))
        step = program.step_of()
        for i in range(program.sends):
            before = (
                (program.target == program.source[i])
                & (program.chunk == program.chunk[i])
                & (step < step[i])
            )
            assert timed.begins[i] >= timed.arrives[before].max(initial=0.0)


@pytest.mark.parametrize("operation", ["all_gather", "reduce_scatter"])
def test_the_network_is_what_nodes_wait_for_and_pieces_hide_the_rest(operation):
    nodes = hierarchy("h", 8, 8, WIRE, Wire(10e9, 1e-6))
    whole = times(template("nodes", operation, nodes), 64e6).seconds
    pieces = times(template("nodes", operation, nodes, 4), 64e6).seconds
    least = 7 * 1e6 / 10e9
    assert least < pieces < whole
    assert pieces < 1.1 * least


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: t.name)
def test_times_are_never_below_the_bound(topology):
    for rule, program in _made(topology, OPERATIONS, (2,)):
        least = bound(program.operation, topology, 1e6).seconds
        assert times(program, 1e6).seconds >= least * (1 - 1e-9), rule
