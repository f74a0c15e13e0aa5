# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster on this machine: nodes as actors of which one is killed, and tasks whose worker is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from dsl.diagnostics import Refused
from sohu.nodes.cluster import Cluster
from sohu.nodes.driver import Conditions, NodesSession, Work, greedy
from sohu.nodes.on_ray import LOCAL, Actors, joined, outcomes

pytest.importorskip("ray")
TOKENS = [15, 53, 30, 21]


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    with joined(LOCAL, 2) as cluster:
        yield cluster


def test_a_killed_actor_changes_no_token(ray: ModuleType):
    with Cluster(Actors(ray)) as cluster:
        cluster.start((0, 1))
        session = NodesSession(cluster, Work("drill", {}, ({"tp": 4},)), Conditions(chips=2))
        made: list[int] = []
        for token in greedy(session, [3], len(TOKENS)):
            made.append(token)
            if len(made) == 2:
                os.kill(cluster.members[1].pid, signal.SIGKILL)
    assert made == TOKENS
    assert [incident.dead for incident in session.incidents] == [(1,)]


def test_what_a_lost_worker_had_is_done_again(ray: ModuleType, tmp_path: Path):
    def work(number: int) -> int:
        mark = tmp_path / str(number)
        if number == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 3:
            raise ValueError("three")
        return number * number

    made = dict(outcomes(ray, work, [1, 2, 3]))
    assert (made[1], made[2], str(made[3])) == (1, 4, "three")
    assert isinstance(made[3], ValueError)
    assert (tmp_path / "2").exists()


def test_a_cluster_that_is_not_there_is_refused():
    with pytest.raises(Refused, match="S647: no Ray cluster at `nowhere"), joined("nowhere", 1):
        pass
