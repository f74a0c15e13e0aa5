# SPDX-License-Identifier: Apache-2.0
"""Sequences on nodes that may die: every token that was fed is kept, and what dies is made up for.

After a death the kept tokens are fed again, on the same mesh with the node started anew or on a smaller one without
it; sums have one order on every mesh, so the tokens are the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np

from device_model.engine.engine import Logits
from device_model.mesh.endpoint import MeshSession
from device_model.mesh.fabric import Array
from device_model.mesh.faults import NONE, Faults
from device_model.mesh.handshake import Facts, agreed, from_told
from device_model.mesh.link import PATIENCE, Patience
from device_model.mesh.refusals import silent, too_few
from dsl.diagnostics import Diagnostic, Refused
from sohu.nodes.blocks import Told
from sohu.nodes.cluster import START_S, Cluster, refusals

SLACK_S = 30.0
TRIES = 4
"""Sessions in a row that may end without a token."""
PASSING = frozenset({"S641", "S642", "S643"})
"""What another session may mend; chips out of step, or of another program, stay so."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be run: a kind of crew with its own words, and the meshes it may have, the one asked for first."""

    kind: str
    spec: Mapping[str, Any]
    meshes: tuple[Mapping[str, int], ...]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which conditions: chips of a node, patience, faults, and whether a dead node is started again."""

    chips: int = 2
    patience: Patience = PATIENCE
    faults: Faults = NONE
    restarts: bool = True


@dataclass(slots=True)
class Incident:
    """The end of a session: at which context, why, and which nodes were dead.

    Times are those of the driver's clock, in seconds: when it knew, and when it had the next result.
    """

    after: int
    why: tuple[Diagnostic, ...]
    dead: tuple[int, ...]
    known_at: float = 0.0
    recovered_at: float = 0.0


class NodesSession:
    """Some sequences on the nodes of a cluster, and the tokens that were fed, to feed them again.

    It is used as a session of one chip is.
    """

    def __init__(
        self, cluster: Cluster, work: Work, conditions: Conditions, sequences: int = 1
    ) -> None:
        self._cluster, self._work, self._conditions = cluster, work, conditions
        self._session = MeshSession(0, (), conditions.patience)
        self._kept: list[list[int]] = [[] for _ in range(sequences)]
        self._steps = 0
        self.incidents: list[Incident] = []
        self.mesh: Mapping[str, int] = {}
        self.facts: Facts | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the context of each sequence."""
        return tuple(len(row) for row in self._kept)

    def step(self, rows: Sequence[Array], logits: Logits = "all") -> list[Array]:
        """Add tokens to the sequences and return each one's results, as `Session.step` does.

        What ends the nodes' session on the way is made up for, and refused where it cannot be.
        """
        new = [[int(token) for token in row] for row in rows]
        tries = 0
        while True:
            try:
                made = self._on_nodes(new, logits)
            except Refused as refused:
                tries += 1
                self._mend(refused, tries)
                continue
            for kept, row in zip(self._kept, new, strict=True):
                kept.extend(row)
            for incident in self.incidents:
                incident.recovered_at = incident.recovered_at or time.monotonic()
            return made

    def end(self) -> None:
        """End the session on the nodes, which stay."""
        nodes = [node for node in self._session.nodes() if node in self._cluster.members]
        self._cluster.ask({node: Told({"does": "end"}) for node in nodes}, SLACK_S)
        self._steps = 0

    def _on_nodes(self, new: list[list[int]], logits: Logits) -> list[Array]:
        """Return the results of new tokens: fed alone, or after all that were kept where a session begins."""
        begins = self._steps == 0
        if begins:
            self._begin()
        fed = (
            [[*k, *n] if n else [] for k, n in zip(self._kept, new, strict=True)] if begins else new
        )
        if begins and any(kept and not row for kept, row in zip(self._kept, new, strict=True)):
            # A sequence that is at rest has a context all the same.
            self._step([[] if n else [*k] for k, n in zip(self._kept, new, strict=True)], "last")
        made = self._step(fed, logits)
        return [
            part[len(part) - len(row) :] if logits == "all" else part
            for part, row in zip(made, new, strict=True)
        ]

    def _begin(self) -> None:
        """Begin a session on the nodes that are there, on the first mesh that they have chips for."""
        nodes = sorted(self._cluster.members)
        room = len(nodes) * self._conditions.chips
        mesh = next((m for m in self._work.meshes if prod(m.values()) <= room), None)
        if mesh is None:
            raise too_few(room, self._work.meshes)
        self.mesh, size = mesh, prod(mesh.values())
        used = nodes[: min(len(nodes), size)]
        places = tuple(used[rank * len(used) // size] for rank in range(size))
        number = self._session.number + 1
        self._session = MeshSession(number, places, self._conditions.patience)
        patience = asdict(self._session.patience)
        begin = {"does": "begin", "session": number, "places": places, "patience": patience}
        work = {"kind": self._work.kind, "spec": self._work.spec, "mesh": mesh}
        told = {**begin, **work, "sequences": len(self._kept)}
        answers = self._ask(self._session.nodes(), told, START_S)
        self.facts = agreed({n: from_told(a.words.get("facts")) for n, a in answers.items()})
        members = self._cluster.members
        addresses = {node: members[node].address for node in self._session.nodes()}
        faults = asdict(self._faults(number))
        self._ask(addresses, {"does": "link", "addresses": addresses, "faults": faults}, SLACK_S)

    def _step(self, rows: list[list[int]], logits: Logits) -> list[Array]:
        words = {"does": "step", "step": self._steps, "rows": rows, "logits": logits}
        limit_s = self._conditions.patience.exchange_s + SLACK_S
        answers = self._ask(self._session.nodes(), words, limit_s)
        self._steps += 1
        told = next(a for a in answers.values() if a.array is not None and a.array.size)
        ends = np.cumsum(told.numbers("counts"))[:-1]
        return np.split(told.array, ends) if told.array is not None else []

    def _ask(
        self, nodes: Iterable[int], words: Mapping[str, Any], limit_s: float
    ) -> dict[int, Told]:
        """Return what nodes answer; dead ones (S643) and what was refused are raised."""
        answers = self._cluster.ask({node: Told(words) for node in nodes}, limit_s)
        gone = [node for node, told in answers.items() if told is None]
        for node in gone:
            self._cluster.drop(node)
        dead = [
            diagnostic
            for node in gone
            for diagnostic in silent(node, self._session.ranks(node), "is dead").diagnostics
        ]
        if refused := refusals(answers) + dead:
            raise Refused(refused)
        return {node: told for node, told in answers.items() if told is not None}

    def _mend(self, refused: Refused, tries: int) -> None:
        """Make up for what ended a session, or raise it again."""
        self._steps = 0
        here = set(self._cluster.members)
        dead = tuple(sorted(set(self._session.nodes()) - here))
        known = time.monotonic()
        why = refused.diagnostics
        self.incidents.append(Incident(max(self.lengths), why, dead, known))
        if tries >= TRIES or not {d.code for d in why} <= PASSING:
            raise refused
        if dead and self._conditions.restarts:
            self._cluster.start(dead)

    def _faults(self, number: int) -> Faults:
        """Return the faults of a session: each has its own, and a node crashes once."""
        faults = self._conditions.faults
        first = number == 1
        return replace(faults, seed=faults.seed + number - 1, crash=faults.crash if first else None)


def greedy(session: NodesSession, prompt: Sequence[int], count: int) -> Iterator[int]:
    """Yield the tokens of the largest logits after a prompt."""
    row = list(prompt)
    for _ in range(count):
        (logits,) = session.step([np.asarray(row, np.int64)], "last")
        row = [int(np.argmax(logits[-1]))]
        yield row[0]
