# SPDX-License-Identifier: Apache-2.0
"""What a node knows of a session: which parts came, which ranks wait for whom, and how it failed.

A node has some ranks of the mesh and a link to every other node. Time is given and bytes go in and out, so that the
same code runs over sockets and simulated wires; it starts no thread and opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device_model.mesh.fabric import Array, Exchange
from device_model.mesh.frames import Bytes
from device_model.mesh.link import PATIENCE, Link, Patience
from device_model.mesh.mailbox import Mailbox
from device_model.mesh.messages import (
    decoded,
    decoded_places,
    encoded_failure,
    encoded_part,
    encoded_places,
)
from device_model.mesh.refusals import ANY, Head, no_message, overdue, silent
from dsl.diagnostics import Diagnostic, Refused

START = "no exchange"


@dataclass(frozen=True, slots=True)
class MeshSession:
    """A run of a mesh over nodes: `places[rank]` is the node of a rank; `number` no other run of these nodes has."""

    number: int
    places: tuple[int, ...]
    patience: Patience = PATIENCE

    def ranks(self, node: int) -> tuple[int, ...]:
        """Return the ranks of a node."""
        return tuple(rank for rank, place in enumerate(self.places) if place == node)

    def nodes(self) -> tuple[int, ...]:
        """Return the nodes that have ranks."""
        return tuple(sorted(set(self.places)))


class Endpoint:
    """A node's side of a session. After a failure, which `failure` holds, nothing more is handed out."""

    def __init__(self, node: int, session: MeshSession, now: float) -> None:
        self.node, self.session = node, session
        self.ranks = session.ranks(node)
        self.failure: tuple[Diagnostic, ...] = ()
        self.failed_at = 0.0
        self.links = {
            peer: Link(session.number, (node, peer), session.ranks(peer), session.patience, now)
            for peer in session.nodes()
            if peer != node
        }
        self._mailbox = Mailbox(range(len(session.places)), self.ranks)
        self._last = dict.fromkeys(self.ranks, START)
        self._waiting: dict[int, tuple[float, Head, int]] = {}

    def hand(self, head: Head, part: Array, targets: Sequence[int], now: float) -> None:
        """Hand a part to every target but its own rank: to those here at once, to the others once a node."""
        self._last[head.rank] = f"step {head.step}, {head.what}"
        self._mailbox.put(head, part, [rank for rank in targets if rank != head.rank])
        away = {self.session.places[rank] for rank in targets} - {self.node}
        body = encoded_part(head, part) if away else b""
        for peer in sorted(away):
            self.links[peer].send(body, now)

    def taken(self, source: int, mine: Head, now: float) -> Array | None:
        """Return the next part of a rank, or nothing yet; a failure of the session is raised."""
        if self.failure:
            raise Refused(self.failure)
        if not self._mailbox.waits(source, mine.rank):
            began = self._waiting.get(mine.rank, (now, mine, source))
            kept = began if began[1:] == (mine, source) else (now, mine, source)
            self._waiting[mine.rank] = kept
            return None
        self._waiting.pop(mine.rank, None)
        try:
            return self._mailbox.take(source, mine)
        except Refused as refused:
            self.fail(refused.diagnostics, now)
            raise

    def arrived(self, peer: int, data: Bytes, now: float) -> None:
        """Take a frame that came from a node; whatever it is wrong about becomes the session's failure."""
        try:
            for body in self.links[peer].take(data, now):
                self._message(peer, body, now)
        except Refused as refused:
            self.fail(refused.diagnostics, now)

    def closed(self, peer: int, now: float) -> None:
        """Note that the connection to a node ended: it is dead, whatever it meant to say."""
        self.links[peer].down = True
        gone = silent(peer, self.session.ranks(peer), "is gone: its connection ended")
        self.fail(gone.diagnostics, now)

    def tick(self, now: float) -> None:
        """Do what is due: resends, pulses, and naming who is silent or does not come."""
        places = encoded_places(self._last)
        for link in self.links.values():
            try:
                link.tick(now, places)
            except Refused as refused:
                self.fail(refused.diagnostics, now)
        limit = self.session.patience.exchange_s
        for rank, (began, head, source) in tuple(self._waiting.items()):
            if now - began >= limit and not self.failure:
                last = {source: self.last(source)}
                self.fail(overdue(rank, head.step, head.what, last, now - began).diagnostics, now)

    def due(self) -> float:
        """Return when `tick` has something to do if nothing comes before."""
        times = [link.due() for link in self.links.values()]
        if not self.failure:
            limit = self.session.patience.exchange_s
            times += [began + limit for began, _, _ in self._waiting.values()]
        return min(times, default=float("inf"))

    def fail(self, diagnostics: Sequence[Diagnostic], now: float) -> None:
        """End the session for every rank, here and elsewhere; the first failure stands."""
        if self.failure:
            return
        self.failure, self.failed_at = tuple(diagnostics), now
        body = encoded_failure(self.failure)
        for link in self.links.values():
            link.send(body, now)

    def last(self, rank: int) -> str:
        """Return where a rank was last, as far as its node said."""
        node = self.session.places[rank]
        if node == self.node:
            return self._last[rank]
        try:
            return decoded_places(self.links[node].places).get(rank, START)
        except Refused:
            return START

    def _message(self, peer: int, body: Bytes, now: float) -> None:
        message = decoded(body)
        if isinstance(message, Refused):
            self.fail(message.diagnostics, now)
            return
        head, part = message
        if head.rank not in self.session.ranks(peer):
            raise no_message(f"node {peer} speaks for rank {head.rank}")
        self._mailbox.put(head, part, head.what.group)


def receiving(rank: int, step: int, what: Exchange) -> Head:
    """Return the head that meets whatever is sent in an exchange."""
    return Head(step, what, rank, ANY, ())
