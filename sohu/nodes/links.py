# SPDX-License-Identifier: Apache-2.0
"""The fabric of ranks on several nodes: an endpoint over TCP, a reader and a writer for each peer, one who keeps time.

Readers never write: two nodes that send each other much at once would otherwise both wait. Decides nothing that the
endpoint does not.
"""

from __future__ import annotations

import heapq
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count

from device_model.mesh.endpoint import Endpoint, MeshSession, receiving
from device_model.mesh.fabric import Array, Exchange
from device_model.mesh.faults import NONE, Faults, Injector
from device_model.mesh.link import PULSES
from device_model.mesh.refusals import Head, silent
from dsl.diagnostics import Refused
from sohu.nodes.blocks import Address, Told, Words, accepted, connected, read_block, send_block

LINGER_S = 1.0
LINK_S = 10.0
"""How long the nodes of a session may take to connect."""


def linked(
    node: int,
    session: MeshSession,
    listener: socket.socket,
    others: Mapping[int, Address],
    secret: str,
) -> dict[int, socket.socket]:
    """Return a connection to every other node of a session: one connects to those before it, and is connected to.

    A node that cannot be reached, or does not come in time, is refused (S643).
    """
    connections: dict[int, socket.socket] = {}
    until = time.monotonic() + LINK_S
    peers = [peer for peer in session.nodes() if peer != node]
    who = {"node": node, "session": session.number}
    for peer in peers:
        if peer < node:
            connections[peer] = _reached(peer, session, others[peer], secret, who)
    while missing := [peer for peer in peers if peer not in connections]:
        if time.monotonic() > until:
            raise silent(missing[0], session.ranks(missing[0]), f"did not come in {LINK_S} s")
        came = _came(listener, secret)
        if came is None:
            continue
        connection, told = came
        peer = told.number("node")
        if told.number("session") != session.number or peer not in peers or peer in connections:
            connection.close()
            continue
        connections[peer] = connection
    return connections


def _reached(
    peer: int, session: MeshSession, address: Address, secret: str, who: Words
) -> socket.socket:
    try:
        return connected(address, secret, who)
    except OSError as error:
        raise silent(peer, session.ranks(peer), f"cannot be reached: {error.strerror}") from None


def _came(listener: socket.socket, secret: str) -> tuple[socket.socket, Told] | None:
    listener.settimeout(1.0)
    try:
        return accepted(listener, secret)
    except TimeoutError:
        return None


class NodeFabric:
    """What the ranks of a node exchange through with each other and with those of other nodes."""

    def __init__(
        self,
        node: int,
        session: MeshSession,
        connections: Mapping[int, socket.socket],
        faults: Faults = NONE,
    ) -> None:
        self._endpoint = Endpoint(node, session, time.monotonic())
        self._connections = dict(connections)
        self._injector = Injector(faults)
        self._met = dict.fromkeys(session.ranks(node), 0)
        self._late: list[tuple[float, int, int, bytes]] = []
        self._order = count()
        self._raw: dict[int, deque[bytes]] = {peer: deque() for peer in connections}
        self._over = False
        lock = threading.Lock()
        self._came, self._goes, self._keeps = (threading.Condition(lock) for _ in range(3))
        works: list[tuple[Callable[..., None], tuple[int, ...]]] = [(self._keep, ())]
        works += [(work, (peer,)) for peer in connections for work in (self._read, self._write)]
        for work, arguments in works:
            threading.Thread(target=work, args=arguments, daemon=True).start()

    def exchange(self, rank: int, step: int, what: Exchange, part: Array) -> list[Array]:
        """Return the parts of all ranks of the group, in its order."""
        what = self._planned(rank, what)
        head = Head.of(step, what, rank, part)
        self._hand(head, part, what.group)
        return [part if peer == rank else self._taken(peer, head) for peer in what.group]

    def send(self, rank: int, step: int, what: Exchange, part: Array) -> None:
        """Hand an array to the second rank of the group."""
        what = self._planned(rank, what)
        self._hand(Head.of(step, what, rank, part), part, what.group[1:])

    def receive(self, rank: int, step: int, what: Exchange) -> Array:
        """Return what the first rank of the group sent."""
        return self._taken(what.group[0], receiving(rank, step, self._planned(rank, what)))

    def fail(self, refused: Refused) -> None:
        """End the session on all nodes, for a reason of this one."""
        with self._came:
            self._endpoint.fail(refused.diagnostics, time.monotonic())
            self._wake()

    def close(self) -> None:
        """Let what is under way arrive, for a moment, and end all connections."""
        with self._came:
            self._came.wait_for(self._quiet, LINGER_S)
            self._over = True
            self._wake()
        for connection in self._connections.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _planned(self, rank: int, what: Exchange) -> Exchange:
        self._met[rank] += 1
        return self._injector.strays(rank, self._met[rank] - 1, what)

    def _hand(self, head: Head, part: Array, targets: Sequence[int]) -> None:
        with self._came:
            self._endpoint.hand(head, part, targets, time.monotonic())
            self._wake()

    def _taken(self, source: int, mine: Head) -> Array:
        with self._came:
            while (part := self._endpoint.taken(source, mine, time.monotonic())) is None:
                self._came.wait()
        return part

    def _wake(self) -> None:
        self._came.notify_all()
        self._goes.notify_all()

    def _quiet(self) -> bool:
        links = self._endpoint.links
        return all(links[peer].idle() and not self._raw[peer] for peer in links)

    def _read(self, peer: int) -> None:
        link = self._endpoint.links[peer]
        while True:
            try:
                block = read_block(
                    self._connections[peer], heard=lambda: link.hear(time.monotonic())
                )
            except (OSError, Refused):
                block = None  # what is no block leaves no place where the next one begins
            with self._came:
                if block is None:
                    self._ended(peer)
                    return
                frame = memoryview(block).toreadonly()
                self._endpoint.arrived(peer, frame, time.monotonic())
                self._wake()

    def _write(self, peer: int) -> None:
        link, raw = self._endpoint.links[peer], self._raw[peer]
        while True:
            with self._goes:
                self._goes.wait_for(lambda: raw or link.outbox or self._over)
                if not raw and not link.outbox:
                    return
                frames = [raw.popleft()] if raw else self._struck(peer, link.outbox.popleft())
            try:
                for data in frames:
                    send_block(self._connections[peer], data)
            except OSError:
                with self._came:
                    self._ended(peer)
                return

    def _struck(self, peer: int, data: bytes) -> list[bytes]:
        """Return what goes out of a frame now; what goes later is kept, and a node may die of it."""
        node, now = self._endpoint.node, time.monotonic()
        fates = self._injector.fate(node, peer, data)
        if self._injector.crashes(node):
            os.kill(os.getpid(), signal.SIGKILL)
        for late, arrives in fates:
            if late:
                heapq.heappush(self._late, (now + late, next(self._order), peer, arrives))
        self._keeps.notify_all()
        return [arrives for late, arrives in fates if not late]

    def _keep(self) -> None:
        period = self._endpoint.session.patience.beat_s / (2 * PULSES)
        with self._keeps:
            while not self._over:
                now = time.monotonic()
                self._endpoint.tick(now)
                while self._late and self._late[0][0] <= now:
                    _, _, peer, data = heapq.heappop(self._late)
                    self._raw[peer].append(data)
                self._wake()
                due = min(self._late[0][0] - now, period) if self._late else period
                self._keeps.wait(due)

    def _ended(self, peer: int) -> None:
        if not self._over:
            self._endpoint.closed(peer, time.monotonic())
        self._wake()
