# SPDX-License-Identifier: Apache-2.0
"""A drill over sockets between two nodes: right tokens whatever becomes of frames, and who is gone is named."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence

import pytest

from device_model.mesh.drill import chosen
from device_model.mesh.endpoint import MeshSession
from device_model.mesh.fabric import Exchange
from device_model.mesh.faults import NONE, Faults, planned
from device_model.mesh.link import Patience
from device_model.mesh.refusals import failed
from device_model.mesh.threads import ThreadFabric, run_ranks
from device_model.mesh.trial import truth
from dsl.diagnostics import Refused
from sohu.nodes.links import NodeFabric, linked
from sohu.nodes.runners import DrillRunner

PLACES = (0, 0, 1, 1)
QUICK = Patience(beat_s=1.0, resend_s=0.05, resends=12, exchange_s=20.0)
Pair = Callable[..., list[NodeFabric]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    made: list[NodeFabric] = []

    def make(faults: Faults = NONE, patience: Patience = QUICK) -> list[NodeFabric]:
        session = MeshSession(3, PLACES, patience)
        ends = socket.socketpair()
        made.extend(NodeFabric(n, session, {1 - n: ends[n]}, faults) for n in (0, 1))
        return made

    yield make
    for fabric in made:
        fabric.close()


def tokens(fabrics: Sequence[NodeFabric], steps: int = 3) -> dict[int, tuple[int, ...]]:
    def does(rank: int) -> tuple[int, ...]:
        runner, row = DrillRunner(1, rank, len(PLACES)), [3]
        for step in range(steps):
            fabric = fabrics[PLACES[rank]]
            (logits,) = runner.step(step, [row[step:]], "last", fabric)
            row.append(chosen(logits[0]))
        return tuple(row[1:])

    return run_ranks(ThreadFabric(range(len(PLACES))), range(len(PLACES)), does)


def test_tokens_are_those_of_one_rank(pair: Pair):
    assert tokens(pair()) == dict.fromkeys(range(4), truth())


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_frames_that_are_lost_late_twice_or_damaged_change_nothing(pair: Pair, seed: int):
    rates = planned(seed, 2, 4).rates
    assert tokens(pair(Faults(seed, rates, late_s=0.05))) == dict.fromkeys(range(4), truth())


def test_a_rank_of_another_program_is_named_on_both_sides(pair: Pair):
    with pytest.raises(Refused, match=r"S640.*all_gather_of_another_program"):
        tokens(pair(Faults(mismatch=(3, 2))))


def test_a_node_that_is_gone_is_named(pair: Pair):
    first, second = pair()
    second.close()
    with pytest.raises(Refused, match=r"S643: node 1 \(ranks 2, 3\) is gone"):
        first.receive(0, 0, Exchange(0, "send", (2, 0)))


def test_the_failure_of_a_node_is_told_to_the_others(pair: Pair):
    first, second = pair()
    second.fail(failed(2, "no memory"))
    with pytest.raises(Refused, match="S646: rank 2 failed: no memory"):
        first.receive(0, 0, Exchange(0, "send", (2, 0)))


def test_a_node_that_cannot_be_reached_is_named():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()[:2]
    session = MeshSession(3, PLACES, QUICK)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(Refused, match=r"S643: node 0 \(ranks 0, 1\) cannot be reached"),
    ):
        linked(1, session, listener, {0: address}, "secret")
