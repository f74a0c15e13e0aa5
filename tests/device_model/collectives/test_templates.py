# SPDX-License-Identifier: Apache-2.0
"""Every template is proven wherever it applies, and says why where it does not."""

import numpy as np
import pytest

from device_model.collectives.program import OPERATIONS, ORDERS, SUMS
from device_model.collectives.routes import routes
from device_model.collectives.templates import MOST_PIECES, TEMPLATES, template
from device_model.collectives.topology import (
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

WIRE, SLOW = Wire(90e9, 1e-6), Wire(10e9, 5e-6)
TOPOLOGIES = {
    t.name: t
    for t in (
        ring("ring1", 1, WIRE),
        ring("ring2", 2, WIRE),
        ring("ring5", 5, WIRE),
        ring("ring8", 8, WIRE),
        torus("torus234", (2, 3, 4), WIRE),
        torus("torus44", (4, 4), WIRE),
        mesh("mesh42", (4, 2), WIRE),
        full("full5", 5, WIRE),
        switch("switch8", 8, WIRE, "tree"),
        switch("silent5", 5, WIRE, "any"),
        switch("plain6", 6, WIRE),
        hierarchy("nodes24", 2, 4, WIRE, SLOW),
        hierarchy("nodes33", 3, 3, WIRE, SLOW),
        hierarchy("ports", 4, 6, WIRE, SLOW, nics=2),
    )
}
MADE = {
    "ring1": "direct ring halving dimensions",
    "ring2": "ring halving dimensions",
    "ring5": "ring dimensions",
    "ring8": "ring halving dimensions",
    "torus234": "dimensions",
    "torus44": "halving dimensions",
    "mesh42": "halving dimensions",
    "full5": "direct ring",
    "switch8": "direct ring halving in-switch",
    "silent5": "direct ring in-switch",
    "plain6": "direct ring",
    "nodes24": "direct ring halving nodes",
    "nodes33": "direct ring nodes",
    "ports": "direct ring nodes",
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_templates_are_proven_where_they_apply(name):
    topology, made = TOPOLOGIES[name], set()
    for rule in TEMPLATES:
        for operation in OPERATIONS:
            for order in ORDERS[: 2 if operation in SUMS else 1]:
                for pieces in (1, 3):
                    try:
                        program = template(rule, operation, topology, pieces, order)
                    except Refused:
                        continue
                    made.add(rule)
                    assert verify(program).faults == (), (rule, operation, order, pieces)
    assert made == set(MADE[name].split())


@pytest.mark.parametrize(
    ("rule", "operation", "topology", "words"),
    [
        ("ring", "all_reduce", "ring8", "a ring adds in the order of its chips"),
        ("dimensions", "reduce_scatter", "torus44", "a ring adds"),
        ("halving", "all_gather", "ring5", "no powers of two"),
        ("nodes", "all_reduce", "nodes33", "no subtree"),
        ("nodes", "all_gather", "ring8", "no nodes"),
        ("in-switch", "all_reduce", "silent5", "does not tell the order"),
        ("in-switch", "all_reduce", "plain6", "does not reduce"),
        ("direct", "all_gather", "ring8", "not all chips are linked"),
        ("ring", "all_gather", "torus44", "no ring"),
        ("ring", "all_to_all", "ring8", "for each"),
        ("rings", "all_gather", "ring8", "unknown template"),
        ("ring", "all_gathers", "ring8", "unknown operation"),
    ],
)
def test_a_template_says_why_it_does_not_apply(rule, operation, topology, words):
    with pytest.raises(Refused, match="S629") as refused:
        template(rule, operation, TOPOLOGIES[topology])
    assert words in refused.value.diagnostics[0].message


@pytest.mark.parametrize(("chips", "pieces"), [(8, 0), (8, MOST_PIECES + 1), (4096, 1)])
def test_templates_of_too_many_sends_are_refused(chips, pieces):
    with pytest.raises(Refused, match="S629"):
        template("ring", "all_gather", ring("r", chips, WIRE), pieces)


def test_rings_and_doubling_send_the_least():
    ports = TOPOLOGIES["switch8"]
    for rule in ("ring", "halving", "direct"):
        program = template(rule, "all_gather", ports)
        received = np.bincount(program.target, minlength=8) / program.chunks
        assert received.tolist() == [7 / 8] * 8, rule


def test_paths_go_through_switches_alone():
    nodes = TOPOLOGIES["ports"]
    paths, counts = routes(nodes, np.array([0, 0, 0]), np.array([1, 6, 0]))
    assert counts.tolist() == [2, 4, 0]
    inner = nodes.target[paths[1, :3]]
    assert np.all(inner >= nodes.chips)


def test_the_widest_of_short_paths_is_taken():
    slow_first = linked("two", 2, 2, ((0, 2, SLOW), (2, 1, SLOW), (0, 3, WIRE), (3, 1, WIRE)))
    paths, _ = routes(slow_first, np.array([0]), np.array([1]))
    assert slow_first.target[paths[0]].tolist() == [3, 1]


def test_a_maze_of_switches_is_refused():
    far = 5_000
    line = [(2 + i, 3 + i, WIRE) for i in range(far - 1)]
    maze = linked("maze", 2, far, ((0, 2, WIRE), (far + 1, 1, WIRE), *line))
    with pytest.raises(Refused, match="S628"):
        routes(maze, np.array([0]), np.array([1]))


def test_thousands_of_chips_on_a_switch_find_their_ways():
    wide = switch("s", 4096, WIRE)
    at = np.arange(4096)
    paths, counts = routes(wide, at, (at + 1) % 4096)
    assert set(counts.tolist()) == {2}
    assert wide.source[paths[:, 0]].tolist() == at.tolist()
