# SPDX-License-Identifier: Apache-2.0
"""A node: a process that does what its driver says, and ends when its driver does.

`python -m sohu.nodes.worker` reads from standard input where the driver listens, and the secret of the run.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from device_model.mesh.endpoint import MeshSession
from device_model.mesh.fabric import Array
from device_model.mesh.faults import Faults, Rates
from device_model.mesh.handshake import Facts, as_told
from device_model.mesh.link import Patience
from device_model.mesh.refusals import failed
from dsl.diagnostics import Diagnostic, Refused
from sohu.nodes.blocks import Address, Told, connected, hear, tell
from sohu.nodes.links import NodeFabric, linked
from sohu.nodes.ports import port
from sohu.nodes.runners import Crew, Spec, drill

NOTHING = Facts("", "", "", "", "")
KINDS: dict[str, Callable[[Spec, Mapping[str, int], Sequence[int]], Crew]] = {
    "drill": drill,
    "port": port,
}
"""What a node can be of: how its ranks are made, of what is asked for, on which mesh."""


class Node:
    """What a node has between two words of its driver."""

    def __init__(self, node: int, secret: str, host: str) -> None:
        self._node, self._secret = node, secret
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._made: tuple[object, Crew] = ((), Crew({}, NOTHING))
        self._session: MeshSession | None = None
        self._fabric: NodeFabric | None = None

    def begin(self, told: Told) -> Told:
        """Make the ranks of a session and tell the digests of what they run."""
        self.end(told)
        kind, spec, mesh = (told.words[name] for name in ("kind", "spec", "mesh"))
        patience = Patience(**told.words["patience"])
        session = MeshSession(told.number("session"), told.numbers("places"), patience)
        ranks = session.ranks(self._node)
        wanted = (kind, spec, mesh, ranks)
        if self._made[0] != wanted:
            self._made = ((), Crew({}, NOTHING))  # its weights go before others come
            self._made = (wanted, KINDS[kind](spec, mesh, ranks))
        crew = self._made[1]
        for runner in crew.runners.values():
            runner.begin(told.number("sequences"))
        self._session = session
        return Told({"facts": as_told(crew.facts)})

    def link(self, told: Told) -> Told:
        """Connect to the other nodes of the session."""
        session = self._begun()
        others = {int(n): (str(h), int(p)) for n, (h, p) in told.words["addresses"].items()}
        faults = faults_told(told.words["faults"])
        connections = linked(self._node, session, self._listener, others, self._secret)
        self._fabric = NodeFabric(self._node, session, connections, faults)
        return Told({})

    def step(self, told: Told) -> Told:
        """Do a step on every rank here, each on a thread; return the logits of the first that has them."""
        runners = self._made[1].runners
        with ThreadPoolExecutor(len(runners), thread_name_prefix="rank") as pool:
            works = [pool.submit(self._rank_step, rank, told) for rank in runners]
        errors = [error for work in works if (error := work.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, Refused)):
            raise error
        results = [work.result() for work in works]
        made = next((arrays for arrays in results if any(a.size for a in arrays)), [])
        joined = np.concatenate(made) if made else np.zeros((0, 0), np.float32)
        return Told({"counts": [len(array) for array in made]}, joined)

    def end(self, told: Told) -> Told:
        """End the session: connections close. Ranks stay, for a next one of the same."""
        if self._fabric is not None:
            self._fabric.close()
        self._fabric, self._session = None, None
        return Told({})

    def _rank_step(self, rank: int, told: Told) -> list[Array]:
        done, fabric = False, self._linked()
        number, rows, logits = told.number("step"), told.words["rows"], told.words["logits"]
        try:
            made = self._made[1].runners[rank].step(number, rows, logits, fabric)
            done = True
        except Refused as refused:
            fabric.fail(refused)
            raise
        finally:
            if not done:
                fabric.fail(failed(rank, "see the output of its node"))
        return made

    def _begun(self) -> MeshSession:
        if self._session is None:
            raise RuntimeError("no session has begun")
        return self._session

    def _linked(self) -> NodeFabric:
        if self._fabric is None:
            raise RuntimeError("the session has no links")
        return self._fabric


def faults_told(words: Mapping[str, object]) -> Faults:
    """Return the faults that a driver asks for, as `dataclasses.asdict` tells them."""
    rates, crash, mismatch = words["rates"], words["crash"], words["mismatch"]
    if not isinstance(rates, dict):
        raise TypeError("rates have names")
    return Faults(
        int(str(words["seed"])),
        Rates(**rates),
        float(str(words["late_s"])),
        tuple(crash) if isinstance(crash, list) else None,
        tuple(mismatch) if isinstance(mismatch, list) else None,
    )


def serve(node: int, driver: Address, secret: str, host: str) -> None:
    """Do what the driver says until it says no more; what is refused is told to it."""
    own = Node(node, secret, host)
    words: dict[str, Callable[[Told], Told]] = {
        "begin": own.begin, "link": own.link, "step": own.step, "end": own.end,
    }  # fmt: skip
    who = {"node": node, "pid": os.getpid(), "host": host, "port": own.port}
    connection = connected(driver, secret, who)
    while (told := hear(connection)) is not None:
        try:
            answer = words[told.text("does")](told)
        except Refused as refused:
            answer = Told({"refused": [_as_told(d) for d in refused.diagnostics]})
        tell(connection, answer)


def _as_told(diagnostic: Diagnostic) -> dict[str, str]:
    return {"code": diagnostic.code, "message": diagnostic.message, "help": diagnostic.help}


def main() -> None:
    """Serve the driver that standard input names; end with it, whatever the ranks are at."""
    told = json.loads(sys.stdin.readline())
    host, port = told["driver"]
    serve(int(told["node"]), (str(host), int(port)), str(told["secret"]), str(told["host"]))


if __name__ == "__main__":
    main()
