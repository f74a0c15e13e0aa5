# SPDX-License-Identifier: Apache-2.0
"""Nodes that a driver has: started, asked, found dead, started again. What they run is not its matter."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from device_model.mesh.refusals import silent
from dsl.diagnostics import Diagnostic, Refused
from sohu.nodes.blocks import Address, Told, accepted, hear, tell
from sohu.nodes.launch import Errand, Launcher

START_S = 120.0
"""How long nodes may take to start."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node that is there: its connection, and where other nodes reach it."""

    connection: socket.socket
    address: Address
    pid: int


class Cluster:
    """Some nodes, by number; leaving the context ends them all."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._secret = secrets.token_hex(16)
        self._listener = socket.create_server((launcher.host, 0))
        self.members: dict[int, Member] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for node in tuple(self.members):
            self.drop(node)
        self._listener.close()

    def start(self, nodes: Iterable[int]) -> None:
        """Start nodes and wait until each has connected; one that does not is refused (S643)."""
        awaited = set(nodes)
        host, port = self._listener.getsockname()[:2]
        for node in awaited:
            self._launcher.start(Errand(node, (host, port), self._secret))
        until = time.monotonic() + START_S
        try:
            while awaited:
                awaited -= self._joined(awaited, until)
        except OSError:
            raise Refused(
                d for n in sorted(awaited) for d in silent(n, (), "does not start").diagnostics
            ) from None
        finally:
            for node in awaited:
                self._launcher.kill(node)

    def ask(self, words: Mapping[int, Told], limit_s: float) -> dict[int, Told | None]:
        """Return what each node answers, nothing for one that is dead or does not answer within the limit."""
        for node, told in words.items():
            self._tell(node, told)
        return {node: self._answer(node, limit_s) for node in words}

    def drop(self, node: int) -> None:
        """End a node, dead or not."""
        member = self.members.pop(node, None)
        if member is not None:
            member.connection.close()
        self._launcher.kill(node)

    def _joined(self, awaited: set[int], until: float) -> set[int]:
        dead = [node for node in awaited if not self._launcher.alive(node)]
        if dead or time.monotonic() > until:
            raise TimeoutError(f"nodes {dead}")
        self._listener.settimeout(1.0)
        try:
            came = accepted(self._listener, self._secret)
        except TimeoutError:
            return set()
        if came is None:
            return set()
        connection, told = came
        node = told.number("node")
        address = (told.text("host"), told.number("port"))
        self.members[node] = Member(connection, address, told.number("pid"))
        return {node}

    def _tell(self, node: int, told: Told) -> None:
        try:
            tell(self.members[node].connection, told)
        except OSError:
            return  # its answer will say that it is dead

    def _answer(self, node: int, limit_s: float) -> Told | None:
        connection = self.members[node].connection
        connection.settimeout(limit_s)
        try:
            return hear(connection)
        except (OSError, Refused):
            return None


def refusals(answers: Mapping[int, Told | None]) -> list[Diagnostic]:
    """Return what nodes refused, each reason once."""
    told = [d for answer in answers.values() if answer for d in answer.words.get("refused", ())]
    made = [Diagnostic(d["code"], d["message"], place="mesh", help=d["help"]) for d in told]
    return list(dict.fromkeys(made))
