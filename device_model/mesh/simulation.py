# SPDX-License-Identifier: Apache-2.0
"""All nodes of a session in one process, over simulated wires and a simulated clock, with faults.

The endpoints are those that run over sockets; a run takes milliseconds and is the same whenever it is repeated.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import count

from device_model.mesh.endpoint import Endpoint, MeshSession
from device_model.mesh.fabric import Array, Program
from device_model.mesh.faults import Injector
from device_model.mesh.refusals import Head
from dsl.diagnostics import Diagnostic, Refused

LATENCY_S = 1e-3
TICK_S = 1e-6
EVENTS = 200_000
"""Events after which a session is said to hang."""


@dataclass(slots=True)
class RankEnd:
    """What became of a rank: the tokens it made, and why it ended before its last."""

    tokens: list[int] = field(default_factory=list)
    failure: tuple[Diagnostic, ...] = ()
    ended_at: float = 0.0
    ended: bool = False


@dataclass(slots=True)
class Course:
    """How a session went: an outcome for each rank that lived, and when which node crashed."""

    outcomes: dict[int, RankEnd]
    crashed: int | None
    crashed_at: float
    frames: int
    hangs: bool


Steps = Callable[[int], Iterator[tuple[int, Program[int]]]]
"""Given a rank: its steps in order, each with its number and a program that returns a token."""


def simulated(session: MeshSession, steps: Steps, injector: Injector) -> Course:
    """Return how a session goes when each rank does its steps."""
    return _World(session, steps, injector).run()


class _World:
    def __init__(self, session: MeshSession, steps: Steps, injector: Injector) -> None:
        self.session, self.injector = session, injector
        self.now, self._order = 0.0, count()
        self.nodes = {node: Endpoint(node, session, 0.0) for node in session.nodes()}
        self.ranks = {
            node: [_Rank(rank, steps(rank), self) for rank in session.ranks(node)]
            for node in self.nodes
        }
        self._due: dict[int, float] = {}
        self._arrivals: list[tuple[float, int, int, int, bytes]] = []
        self.course = Course({r.rank: r.outcome for r in self._living()}, None, 0.0, 0, False)

    def run(self) -> Course:
        for node in tuple(self.nodes):
            self._advance(node)
        for _ in range(EVENTS):
            if all(rank.outcome.ended for rank in self._living()):
                return self.course
            self._event()
        self.course.hangs = True
        return self.course

    def _living(self) -> list[_Rank]:
        return [rank for ranks in self.ranks.values() for rank in ranks]

    def _advance(self, node: int) -> None:
        """Let the ranks of a node go on as far as they can, and send what they hand in."""
        ranks, met = self.ranks[node], -1
        while met != (met := sum(rank.met for rank in ranks)):
            for rank in ranks:
                rank.advance()
        for peer, link in self.nodes[node].links.items():
            while link.outbox:
                self._send(node, peer, link.outbox.popleft())
        self._due[node] = self.nodes[node].due()
        if self.injector.crashes(node):
            self._crash(node)

    def _send(self, node: int, peer: int, data: bytes) -> None:
        self.course.frames += 1
        for late, arrives in self.injector.fate(node, peer, data):
            at = self.now + LATENCY_S + late
            heapq.heappush(self._arrivals, (at, next(self._order), node, peer, arrives))

    def _crash(self, node: int) -> None:
        self.course.crashed, self.course.crashed_at = node, self.now
        del self.nodes[node], self._due[node]
        for rank in self.ranks.pop(node):
            del self.course.outcomes[rank.rank]

    def _event(self) -> None:
        node = min(self._due, key=self._due.__getitem__)
        due = self._due[node]
        if self._arrivals and self._arrivals[0][0] <= due:
            self.now, _, source, node, data = heapq.heappop(self._arrivals)
            if node not in self.nodes:
                return
            self.nodes[node].arrived(source, data, self.now)
        else:
            self.now = max(self.now, due) + TICK_S
            self.nodes[node].tick(self.now)
        self._advance(node)


class _Rank:
    def __init__(self, rank: int, steps: Iterator[tuple[int, Program[int]]], world: _World) -> None:
        self.rank, self.outcome, self.met = rank, RankEnd(), 0
        self._world, self._endpoint = world, world.nodes[world.session.places[rank]]
        self._life = self._lives(steps)

    def advance(self) -> None:
        """Go on until something is missing."""
        if self.outcome.ended:
            return
        try:
            self.outcome.ended = next(self._life, True)
        except Refused as refused:
            self.outcome.failure, self.outcome.ended = refused.diagnostics, True
        if self.outcome.ended:
            self.outcome.ended_at = self._world.now

    def _lives(self, steps: Iterator[tuple[int, Program[int]]]) -> Generator[bool, None, None]:
        for step, program in steps:
            token = yield from self._meets(step, program)
            self.outcome.tokens.append(token)

    def _meets(self, step: int, program: Program[int]) -> Generator[bool, None, int]:
        planned, part = next(program)
        while True:
            what = self._world.injector.strays(self.rank, self.met, planned)
            head = Head.of(step, what, self.rank, part)
            self._endpoint.hand(head, part, what.group, self._world.now)
            self.met += 1
            parts = []
            for peer in what.group:
                theirs = part if peer == self.rank else (yield from self._takes(peer, head))
                parts.append(theirs)
            try:
                planned, part = program.send(parts)
            except StopIteration as end:
                token: int = end.value
                return token

    def _takes(self, peer: int, head: Head) -> Generator[bool, None, Array]:
        while (part := self._endpoint.taken(peer, head, self._world.now)) is None:
            yield False
        return part
