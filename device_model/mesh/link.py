# SPDX-License-Identifier: Apache-2.0
"""One end of a link between two nodes: what was sent arrives once, in order and whole, or the link is down.

Frames come in and go out as bytes and the time is given, so that the same code runs over sockets and over a simulated
wire. Does not know what it carries. Numbers, acknowledgements and resends are those of any transport of its kind (as
in RFC 9293): TCP below it knows nothing of a byte that was damaged in a node's memory, nor of a peer that hangs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from device_model.mesh.frames import Bytes, FrameKind, LinkFrame, decoded, encoded
from device_model.mesh.refusals import link_down, no_message, silent
from dsl.diagnostics import Refused

PULSES = 4
"""Pulses in a heartbeat, so that one that is lost is not yet a silence."""
AT_ONCE = 8
"""Part of a resend's time after which what is missed goes again."""
AHEAD = 256
"""Frames beyond a missing one that are kept."""
RATE = 50e6
"""Bytes a second that a slow wire moves: what is long is given longer before it is sent again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one waits, in seconds: a heartbeat, a resend and how many of them, an exchange."""

    beat_s: float = 1.0
    resend_s: float = 0.5
    resends: int = 6
    exchange_s: float = 60.0


PATIENCE = Patience()


def expecting(step_s: float, patience: Patience, factor: float = 20.0) -> Patience:
    """Return the patience for steps that are predicted to take so long: an exchange waits `factor` times that."""
    wait = max(factor * step_s, 4 * patience.beat_s)
    return Patience(patience.beat_s, patience.resend_s, patience.resends, wait)


@dataclass(slots=True)
class _Unanswered:
    number: int
    data: bytes
    sent: float
    due: float
    resends: int = 0


class Link:
    """This end of the link from a node to another, whose ranks are named where it fails."""

    def __init__(
        self,
        session: int,
        nodes: tuple[int, int],
        ranks: Sequence[int],
        patience: Patience,
        now: float,
    ) -> None:
        self._session, (self._here, self.there), self._ranks = session, nodes, tuple(ranks)
        self._patience = patience
        self._next = self._awaited = 0
        self._unanswered: deque[_Unanswered] = deque()
        self._early: dict[int, Bytes] = {}
        self._heard, self._pulse_due = now, now
        self.outbox: deque[bytes] = deque()
        self.places: Bytes = b""
        self.damaged = self.resent = 0
        self.down = False

    def send(self, body: bytes, now: float) -> None:
        """Send a body, and again until the other side has it; nothing goes over a link that is down."""
        if self.down:
            return
        data = self._frame(FrameKind.DATA, self._next, body)
        self._unanswered.append(_Unanswered(self._next, data, now, self._due(data, 0, now)))
        self._next += 1
        self.outbox.append(data)

    def hear(self, now: float) -> None:
        """Note that something of the other side came, if only a piece of a frame."""
        self._heard = max(self._heard, now)

    def take(self, data: Bytes, now: float) -> list[Bytes]:
        """Return the bodies that a frame completes, in order; what is damaged is asked for again."""
        try:
            frame = decoded(data)
        except Refused:
            self.damaged += 1
            self.outbox.append(self._frame(FrameKind.MISSED, self._awaited))
            return []
        if (frame.session, frame.node) != (self._session, self.there):
            return []  # of a session that is over
        self.hear(now)
        self._answered(frame, now)
        if frame.kind is FrameKind.PULSE:
            self.places = bytes(frame.body)
        return self._ordered(frame) if frame.kind is FrameKind.DATA else []

    def tick(self, now: float, places: bytes) -> None:
        """Send what is due, and where the ranks here are.

        A node that is silent (S643) and a link that loses all (S642) are refused.
        """
        if self.down:
            return
        if now - self._heard > 2 * self._patience.beat_s:
            self.down = True
            raise silent(self.there, self._ranks, f"is silent for {now - self._heard:.3g} s")
        if now >= self._pulse_due:
            self.outbox.append(self._frame(FrameKind.PULSE, 0, places))
            self._pulse_due = now + self._patience.beat_s / PULSES
        if self._unanswered and now >= self._unanswered[0].due:
            self._again(now)

    def due(self) -> float:
        """Return when there is something to do if nothing comes before."""
        if self.down:
            return float("inf")
        due = min(self._pulse_due, self._heard + 2 * self._patience.beat_s)
        return min(due, self._unanswered[0].due) if self._unanswered else due

    def idle(self) -> bool:
        """Return whether the other side has all that was sent, or never will."""
        return self.down or not (self._unanswered or self.outbox)

    def _frame(self, kind: FrameKind, number: int, body: bytes = b"") -> bytes:
        return encoded(LinkFrame(kind, self._here, self._session, number, self._awaited, body))

    def _due(self, data: bytes, resends: int, now: float) -> float:
        return now + self._patience.resend_s * min(2.0**resends, 4.0) + len(data) / RATE

    def _answered(self, frame: LinkFrame, now: float) -> None:
        if frame.awaited > self._next:
            raise no_message(f"node {self.there} has more than was sent")
        while self._unanswered and self._unanswered[0].number < frame.awaited:
            self._unanswered.popleft()
        if frame.kind is not FrameKind.MISSED or not self._unanswered:
            return
        # What is missed is missed by every frame behind it: it goes again once for all of them.
        if now >= self._unanswered[0].sent + self._patience.resend_s / AT_ONCE:
            self._again(now)

    def _again(self, now: float) -> None:
        first = self._unanswered[0]
        if first.resends >= self._patience.resends:
            self.down = True
            raise link_down(self.there, self._ranks, first.resends)
        first.resends, first.sent = first.resends + 1, now
        first.due = self._due(first.data, first.resends, now)
        self.resent += 1
        self.outbox.append(first.data)

    def _ordered(self, frame: LinkFrame) -> list[Bytes]:
        whole: list[Bytes] = []
        if self._awaited <= frame.number <= self._awaited + AHEAD:
            self._early.setdefault(frame.number, frame.body)
        missed = frame.number > self._awaited and self._awaited not in self._early
        while self._awaited in self._early:
            whole.append(self._early.pop(self._awaited))
            self._awaited += 1
        self.outbox.append(
            self._frame(FrameKind.MISSED if missed else FrameKind.GOT, self._awaited)
        )
        return whole
