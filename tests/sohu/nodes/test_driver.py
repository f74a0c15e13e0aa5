# SPDX-License-Identifier: Apache-2.0
"""A generation on real processes of which one is killed, and what the driver does with whatever nodes answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from device_model.mesh.handshake import NAMES, digest
from device_model.mesh.trial import truth
from dsl.diagnostics import Refused
from sohu.nodes.blocks import Told
from sohu.nodes.cluster import Cluster, Member
from sohu.nodes.driver import Conditions, NodesSession, Work, greedy
from sohu.nodes.launch import Processes

DRILL = Work("drill", {"seed": 1}, ({"tp": 4}, {"tp": 2}, {"tp": 1}))
MORE = (15, 53, 30, 21, 21, 42)


def test_a_killed_node_changes_no_token():
    """Two nodes of two ranks; one is killed twice: it is started again, and then gone on without."""
    with Cluster(Processes()) as cluster:
        cluster.start((0, 1))
        session = NodesSession(cluster, DRILL, Conditions(chips=2))
        made = []
        for token in greedy(session, [3], 4):
            made.append(token)
            if len(made) == 2:
                os.kill(cluster.members[1].pid, signal.SIGKILL)
        assert tuple(made) == MORE[:4]
        (incident,) = session.incidents
        assert (incident.after, incident.dead, session.mesh) == (2, (1,), {"tp": 4})
        assert {d.code for d in incident.why} == {"S643"}

        again = NodesSession(cluster, DRILL, Conditions(chips=2, restarts=False))
        made = []
        for token in greedy(again, [3], 4):
            made.append(token)
            if len(made) == 3:
                os.kill(cluster.members[0].pid, signal.SIGKILL)
        assert tuple(made) == MORE[:4]
        assert (sorted(cluster.members), again.mesh) == ([1], {"tp": 2})
    assert MORE[:3] == truth()


class FakeCluster:
    """Answers as a table says; a node whose answers are spent is dead."""

    def __init__(self, answers: Mapping[int, list[Told | None]]) -> None:
        self.members = {n: Member(cast("object", None), ("", 0), 0) for n in answers}
        self.answers = answers
        self.started: list[int] = []

    def start(self, nodes: Iterable[int]) -> None:
        self.started += nodes
        self.members |= {n: Member(cast("object", None), ("", 0), 0) for n in nodes}

    def ask(self, words: Mapping[int, Told], limit_s: float) -> dict[int, Told | None]:
        return {node: self.answers[node].pop(0) for node in words}

    def drop(self, node: int) -> None:
        self.members.pop(node)


FACTS = Told({"facts": {name: digest(name.encode()) for name in NAMES}})
OTHER = Told({"facts": FACTS.words["facts"] | {"weights": digest(b"other")}})
DONE = Told({})
LOGITS = Told({"counts": [1]}, np.array([[0, 1, 0]], np.float32))


def refused(code: str) -> Told:
    return Told({"refused": [{"code": code, "message": "why", "help": ""}]})


def generated(answers: Mapping[int, list[Told | None]]) -> tuple[list[int], FakeCluster]:
    cluster = FakeCluster(answers)
    work = replace(DRILL, meshes=({"tp": 2}, {"tp": 1}))
    session = NodesSession(cast("Cluster", cluster), work, Conditions(chips=1))
    return list(greedy(session, [3], 1)), cluster


def test_nodes_that_differ_are_refused_before_a_step():
    with pytest.raises(Refused, match="S645: weights of node 1 is not that of node 0"):
        generated({0: [FACTS], 1: [OTHER]})


def test_chips_out_of_step_are_not_tried_again():
    with pytest.raises(Refused, match="S640"):
        generated({0: [FACTS, DONE, LOGITS], 1: [FACTS, DONE, refused("S640")]})


def test_a_link_that_is_down_is_tried_again():
    once = [FACTS, DONE, refused("S642")]
    tokens, cluster = generated({n: [*once, FACTS, DONE, LOGITS] for n in (0, 1)})
    assert (tokens, cluster.started) == ([1], [])


def test_a_link_that_stays_down_is_refused_after_some_sessions():
    once = [FACTS, DONE, refused("S642")]
    with pytest.raises(Refused, match="S642"):
        generated({0: once * 4, 1: once * 4})


def test_a_dead_node_is_started_again():
    tokens, cluster = generated(
        {0: [FACTS, DONE, refused("S643"), FACTS, DONE, LOGITS],
         1: [FACTS, DONE, None, FACTS, DONE, LOGITS]}
    )  # fmt: skip
    assert (tokens, cluster.started) == ([1], [1])


def test_too_few_chips_are_refused():
    work = replace(DRILL, meshes=({"tp": 4},))
    session = NodesSession(cast("Cluster", FakeCluster({0: []})), work, Conditions(chips=1))
    with pytest.raises(Refused, match="S648: 1 chip left, too few for tp=4"):
        list(greedy(session, [3], 1))


class Replaying(FakeCluster):
    """Two sequences on a node that fails in the third step; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__({0: []})
        self.fed: list[tuple[list[list[int]], str]] = []

    def ask(self, words: Mapping[int, Told], limit_s: float) -> dict[int, Told | None]:
        told = words[0]
        if told.text("does") != "step":
            return {0: FACTS}
        rows = told.words["rows"]
        self.fed.append((rows, told.text("logits")))
        if len(self.fed) == 3:
            return {0: refused("S642")}
        counts = [min(len(row), 1) if told.text("logits") == "last" else len(row) for row in rows]
        marks = [[row[i - n]] for row, n in zip(rows, counts, strict=True) for i in range(n)]
        return {0: Told({"counts": counts}, np.array(marks, np.float32).reshape(-1, 1))}


def test_what_was_fed_is_fed_again_and_only_new_results_are_given():
    cluster = Replaying()
    session = NodesSession(cast("Cluster", cluster), DRILL, Conditions(), sequences=2)

    def step(*rows: list[int]) -> list[list[float]]:
        made = session.step([np.array(row, np.int64) for row in rows])
        return [part[:, 0].tolist() for part in made]

    assert step([1, 2], [3]) == [[1, 2], [3]]
    assert step([4], []) == [[4], []]
    assert step([5, 6], []) == [[5, 6], []]
    assert step([], [7]) == [[], [7]]
    assert session.lengths == (5, 2)
    again = [([[], [3]], "last"), ([[1, 2, 4, 5, 6], []], "all"), ([[], [7]], "all")]
    assert cluster.fed[3:] == again
