# SPDX-License-Identifier: Apache-2.0
"""A generation on nodes that may die: every token is kept before it is given, and what dies is made up for.

After a death the kept tokens are fed again, on the same mesh with the node started anew or on a smaller one without
it; sums have one order on every mesh, so the tokens are the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from device_model.mesh.endpoint import MeshSession
from device_model.mesh.fabric import Array
from device_model.mesh.faults import NONE, Faults
from device_model.mesh.handshake import Facts, agreed, from_told
from device_model.mesh.link import PATIENCE, Patience
from device_model.mesh.refusals import silent
from dsl.diagnostics import Diagnostic, Refused
from sohu.nodes.blocks import Told
from sohu.nodes.cluster import Cluster, refusals

SLACK_S = 30.0
TRIES = 4
"""Sessions in a row that may end without a token."""
PASSING = frozenset({"S641", "S642", "S643"})
"""What another session may mend; chips out of step, or of another program, stay so."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be run: a kind of runner with its own words, and how many ranks it may have, most first."""

    kind: str
    spec: Mapping[str, Any]
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which conditions: chips of a node, patience, faults, and whether a dead node is started again."""

    chips: int = 2
    patience: Patience = PATIENCE
    faults: Faults = NONE
    restarts: bool = True


@dataclass(slots=True)
class Incident:
    """The end of a session: after how many tokens, why, which nodes were dead, on how many ranks it went on.

    Times are those of the driver's clock, in seconds: when it knew, and when it had the next token.
    """

    after: int
    why: tuple[Diagnostic, ...]
    dead: tuple[int, ...]
    ranks: int = 0
    known_at: float = 0.0
    recovered_at: float = 0.0


@dataclass(slots=True)
class Log:
    """What a generation came to: tokens as they were kept, and what went wrong."""

    tokens: list[int] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    facts: Facts | None = None


class Driver:
    """Runs work on the nodes of a cluster."""

    def __init__(self, cluster: Cluster, work: Work, conditions: Conditions) -> None:
        self._cluster, self._work, self._conditions = cluster, work, conditions
        self._session = MeshSession(0, (), conditions.patience)
        self.log = Log()

    def tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        """Yield the tokens of the largest logits after a prompt; refused where nothing can be made up for."""
        fed: list[int] = []
        tries = 0
        while len(self.log.tokens) < count:
            wanted = [*prompt, *self.log.tokens]
            try:
                if not fed:
                    self._begin()
                logits = self._step(len(fed), wanted[len(fed) :])
            except Refused as refused:
                tries += 1
                self._mend(refused, tries)
                fed = []
                continue
            fed, tries = wanted, 0
            self.log.tokens.append(int(np.argmax(logits)))
            for incident in self.log.incidents:
                incident.recovered_at = incident.recovered_at or time.monotonic()
            yield self.log.tokens[-1]
        self._ask(self._session.nodes(), {"does": "end"})

    def _begin(self) -> None:
        """Begin a session on the nodes that are there, on as many ranks as they have chips for."""
        nodes = sorted(self._cluster.members)
        room = len(nodes) * self._conditions.chips
        size = next((size for size in self._work.sizes if size <= room), 0)
        if not size:
            raise silent(0, (), f"would be needed: {room} chips are left")
        places = tuple(nodes[rank * min(len(nodes), size) // size] for rank in range(size))
        number = self._session.number + 1
        self._session = MeshSession(number, places, self._conditions.patience)
        patience = asdict(self._session.patience)
        begin = {"does": "begin", "session": number, "places": places, "patience": patience}
        work = {"kind": self._work.kind, "spec": self._work.spec}
        answers = self._ask(self._session.nodes(), {**begin, **work})
        self.log.facts = agreed(
            {n: from_told(told.words.get("facts")) for n, told in answers.items()}
        )
        members = self._cluster.members
        addresses = {node: members[node].address for node in self._session.nodes()}
        faults = asdict(self._faults(number))
        self._ask(addresses, {"does": "link", "addresses": addresses, "faults": faults})

    def _step(self, step: int, tokens: Sequence[int]) -> Array:
        words = {"does": "step", "step": step, "tokens": list(tokens)}
        answers = self._ask(self._session.nodes(), words)
        arrays = [told.array for told in answers.values() if told.array is not None]
        return next(array for array in arrays if array.size)

    def _ask(
        self, nodes: Sequence[int] | Mapping[int, Any], words: Mapping[str, Any]
    ) -> dict[int, Told]:
        """Return what nodes answer; dead ones (S643) and what was refused are raised."""
        limit_s = self._conditions.patience.exchange_s + SLACK_S
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
        here = set(self._cluster.members)
        dead = tuple(sorted(set(self._session.nodes()) - here))
        known = time.monotonic()
        why = refused.diagnostics
        self.log.incidents.append(Incident(len(self.log.tokens), why, dead, 0, known))
        if tries >= TRIES or not {d.code for d in why} <= PASSING:
            raise refused
        if dead and self._conditions.restarts:
            self._cluster.start(dead)

    def _faults(self, number: int) -> Faults:
        """Return the faults of a session: each has its own, and a node crashes once."""
        faults = self._conditions.faults
        first = number == 1
        return replace(faults, seed=faults.seed + number - 1, crash=faults.crash if first else None)
