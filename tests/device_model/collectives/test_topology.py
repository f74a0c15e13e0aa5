# SPDX-License-Identifier: Apache-2.0
"""Topologies have the links that their shape says, and thousands of chips are cheap."""

import numpy as np
import pytest

from device_model.collectives.topology import (
    Shape,
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

WIRE, SLOW = Wire(90e9, 1e-6), Wire(10e9, 5e-6)


def _pairs(topology: Topology) -> set[tuple[int, int]]:
    return set(zip(topology.source.tolist(), topology.target.tolist(), strict=True))


@pytest.mark.parametrize(
    ("topology", "nodes", "links"),
    [
        (ring("r", 1, WIRE), 1, 0),
        (ring("r", 2, WIRE), 2, 2),
        (ring("r", 8, WIRE), 8, 16),
        (torus("t", (4, 4), WIRE), 16, 64),
        (torus("t", (2, 2, 2), WIRE), 8, 24),
        (mesh("m", (4, 4), WIRE), 16, 48),
        (full("f", 5, WIRE), 5, 20),
        (switch("s", 8, WIRE), 9, 16),
        (hierarchy("h", 2, 4, WIRE, SLOW), 11, 32),
        (hierarchy("h", 2, 4, WIRE, SLOW, nics=1), 13, 36),
        (torus("t", (16, 16, 16), WIRE), 4096, 24576),
    ],
)
def test_links_of_shapes(topology, nodes, links):
    assert (topology.nodes, topology.links) == (nodes, links)
    assert {(b, a) for a, b in _pairs(topology)} == _pairs(topology)


def test_neighbours_differ_by_one_in_one_dimension():
    topology = mesh("m", (3, 4), WIRE)
    at = topology.coordinates()
    apart = np.abs(at[topology.source] - at[topology.target])
    assert np.all(apart.sum(1) == 1)


def test_a_link_is_looked_up_by_its_ends():
    topology = ring("r", 4, WIRE)
    at = topology.link(np.array([0, 0, 3]), np.array([1, 2, 0]))
    assert at[1] == -1
    assert topology.source[at[[0, 2]]].tolist() == [0, 3]


def test_network_links_have_their_own_wire():
    topology = hierarchy("h", 2, 2, WIRE, SLOW)
    spine = topology.nodes - 1
    to_network = topology.target == spine
    assert set(topology.capacity[to_network]) == {10e9}
    assert set(topology.capacity[topology.target == 4]) == {90e9}


def test_links_one_by_one():
    topology = linked("l", 2, 1, ((2, 1, WIRE), (0, 2, SLOW)))
    assert _pairs(topology) == {(0, 2), (2, 1)}
    assert topology.capacity.tolist() == [10e9, 90e9]
    assert topology != linked("l", 2, 1, ((2, 1, WIRE), (0, 2, WIRE)))


@pytest.mark.parametrize(
    ("make", "arguments", "reason"),
    [
        (torus, ("t", (2**20, 2**20), WIRE), "links"),
        (torus, ("t", (2,) * 7, WIRE), "sizes"),
        (full, ("f", 60_000, WIRE), "links"),
        (switch, ("s", 0, WIRE), "chips"),
        (hierarchy, ("h", 2, 3, WIRE, SLOW, 2), "ports"),
        (linked, ("l", 2, 0, ((0, 2, WIRE),)), "joins"),
        (linked, ("l", 2, 0, ((0, 1, WIRE), (0, 1, WIRE))), "once"),
        (Wire, (0.0, 0.0), "wire"),
        (Wire, (1.0, float("nan")), "wire"),
        (Shape, ("star", (3,), ()), "unknown"),
        (Shape, ("switch", (3,), (WIRE,), 0, "some"), "order"),
        (Topology.coordinates, (switch("s", 3, WIRE),), "no torus"),
    ],
)
def test_what_is_no_topology_is_refused(make, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        make(*arguments)
