# SPDX-License-Identifier: Apache-2.0
"""Two endpoints with frames carried by hand: the lost comes, the missing is named, the wrong is told to both."""

from __future__ import annotations

import numpy as np
import pytest

from device_model.mesh.endpoint import START, Endpoint, MeshSession
from device_model.mesh.fabric import Array, Exchange
from device_model.mesh.link import AHEAD, Patience, expecting
from device_model.mesh.refusals import Head
from dsl.diagnostics import Refused

PATIENCE = Patience(beat_s=1.0, resend_s=0.5, resends=3, exchange_s=30.0)
WHAT = Exchange(0, "all_reduce", (0, 1), "tiny.sohu:4")
PART = np.arange(4, dtype=np.float32)


class Pair:
    """Nodes 0 and 1 with a rank each, whose frames go over when `carry` is called."""

    def __init__(self) -> None:
        session = MeshSession(5, (0, 1), PATIENCE)
        self.ends = [Endpoint(node, session, 0.0) for node in (0, 1)]

    def hand(self, node: int, what: Exchange = WHAT, part: Array = PART) -> None:
        self.ends[node].hand(Head.of(0, what, node, part), part, what.group, 0.0)

    def carry(self, source: int, now: float, keeps: slice = slice(None)) -> None:
        outbox = self.ends[source].links[1 - source].outbox
        frames = list(outbox)[keeps]
        outbox.clear()
        for frame in frames:
            self.ends[1 - source].arrived(source, frame, now)

    def taken(self, node: int, now: float = 0.0, what: Exchange = WHAT) -> Array | None:
        return self.ends[node].taken(1 - node, Head.of(0, what, node, PART), now)


def test_a_part_arrives():
    pair = Pair()
    assert pair.taken(1) is None
    pair.hand(0)
    pair.carry(0, 0.1)
    assert np.array_equal(pair.taken(1), PART)
    pair.carry(1, 0.2)
    assert pair.ends[0].links[1].due() == 0.0  # the pulse; no resend is due


def test_what_is_lost_is_sent_again_and_taken_once():
    pair = Pair()
    pair.hand(0)
    pair.carry(0, 0.0, slice(0))
    pair.ends[0].tick(0.6)
    pair.carry(0, 0.6)
    pair.ends[0].tick(1.7)  # its answer is late
    pair.carry(0, 1.7)
    assert pair.taken(1) is not None
    assert pair.taken(1) is None


def test_what_overtakes_waits_and_what_is_missed_is_asked_for():
    pair = Pair()
    for number in range(3):
        pair.hand(0, Exchange(number, "send", (0, 1)))
    pair.carry(0, 0.1, slice(2, 0, -1))
    assert pair.taken(1) is None
    pair.carry(1, 0.1)
    pair.carry(0, 0.2)
    numbers = [pair.taken(1, what=Exchange(n, "send", (0, 1))) is not None for n in range(3)]
    assert numbers == [True, True, True]
    assert pair.ends[0].links[1].resent == 1


def test_a_link_that_loses_all_is_down_and_named():
    pair = Pair()
    pair.hand(0)
    for now in range(1, 20):
        pair.ends[1].links[0].hear(now)
        pair.ends[1].tick(now)
        pair.carry(1, now)
        pair.ends[0].tick(now)
        pair.carry(0, now, slice(0))
    assert [str(d).split("\n")[0] for d in pair.ends[0].failure] == [
        "error[S642]: the link to node 1 (rank 1) is down after 3 resends"
    ]
    with pytest.raises(Refused, match="S642"):
        pair.taken(0)


def test_a_silent_node_is_named_after_two_heartbeats():
    pair = Pair()
    pair.ends[0].tick(2.0)
    assert pair.ends[0].failure == ()
    pair.ends[0].tick(2.01)
    assert "node 1 (rank 1) is silent for 2.01 s" in pair.ends[0].failure[0].message
    assert pair.ends[0].failure[0].code == "S643"


def test_a_closed_connection_is_a_dead_node():
    pair = Pair()
    pair.ends[0].closed(1, 0.5)
    assert "node 1 (rank 1) is gone" in pair.ends[0].failure[0].message


def test_a_rank_that_does_not_come_is_named_with_its_place():
    pair = Pair()
    pair.hand(1, Exchange(3, "all_gather", (1, 0), "tiny.sohu:9"))
    pair.taken(0)
    for now in range(1, 32):
        pair.ends[1].tick(now)
        pair.carry(1, now, slice(-1, None))  # a pulse; its part is lost on the way
        pair.ends[0].tick(now)
        pair.carry(0, now)
    code, text = pair.ends[0].failure[0].code, pair.ends[0].failure[0].message
    assert (code, "rank 1 does not come, last at step 0, all_gather 3" in text) == ("S641", True)


def test_both_sides_are_told_where_they_are_out_of_step():
    pair = Pair()
    pair.hand(0)
    pair.hand(1, Exchange(1, "all_gather", (0, 1), "tiny.sohu:9"))
    pair.carry(0, 0.1)
    with pytest.raises(Refused, match=r"S640.*tiny\.sohu:9.*tiny\.sohu:4"):
        pair.taken(1, what=Exchange(1, "all_gather", (0, 1), "tiny.sohu:9"))
    pair.carry(1, 0.2)
    assert pair.ends[0].failure == pair.ends[1].failure


def test_a_node_does_not_speak_for_another():
    pair = Pair()
    pair.ends[1].links[0].send(b"", 0.0)
    pair.carry(1, 0.1)
    assert pair.ends[0].failure[0].code == "S644"
    pair = Pair()
    pair.ends[1].hand(Head.of(0, WHAT, 0, PART), PART, (0,), 0.0)
    pair.carry(1, 0.1)
    assert "node 1 speaks for rank 0" in pair.ends[0].failure[0].message


def test_frames_of_another_session_are_ignored():
    pair, other = Pair(), Endpoint(1, MeshSession(4, (0, 1), PATIENCE), 0.0)
    other.hand(Head.of(0, WHAT, 1, PART), PART, (0, 1), 0.0)
    pair.ends[0].arrived(1, other.links[0].outbox.popleft(), 0.1)
    assert pair.taken(0) is None
    assert pair.ends[0].last(1) == START


def test_a_node_that_runs_ahead_of_what_is_missing_is_bounded():
    pair = Pair()
    for number in range(AHEAD + 20):
        pair.hand(0, Exchange(number, "send", (0, 1)))
    pair.carry(0, 0.1, slice(1, None))
    assert len(pair.ends[1].links[0]._early) == AHEAD


def test_patience_follows_what_is_predicted():
    assert expecting(3.0, PATIENCE).exchange_s == 60.0
    assert expecting(0.001, PATIENCE).exchange_s == 4.0
