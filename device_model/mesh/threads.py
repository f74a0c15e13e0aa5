# SPDX-License-Identifier: Apache-2.0
"""A fabric for chips that are threads of one process: nothing is copied, nothing can be lost, nobody waits for ever.

Knows no messages between processes, and no time: that all ranks wait for each other is seen, not waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from device_model.mesh.fabric import Array, Exchange
from device_model.mesh.mailbox import Mailbox
from device_model.mesh.refusals import ANY, Head, failed, overdue
from dsl.diagnostics import Diagnostic, Refused

Made = TypeVar("Made")
NOWHERE = "no exchange"


class ThreadFabric:
    """All ranks in one process; what a rank hands in waits in order at every rank that it is for."""

    def __init__(self, ranks: Sequence[int]) -> None:
        self._changed = threading.Condition()
        self._mailbox = Mailbox(ranks, ranks)
        self._waiting: dict[int, tuple[int, Head]] = {}
        self._running = set(ranks)
        self._last = dict.fromkeys(ranks, NOWHERE)
        self._failure: tuple[Diagnostic, ...] = ()

    def exchange(self, rank: int, step: int, what: Exchange, part: Array) -> list[Array]:
        """Return the parts of all ranks of the group, in its order."""
        mine = Head.of(step, what, rank, part)
        self._hand(mine, part, what.group)
        return [part if peer == rank else self._take(peer, mine) for peer in what.group]

    def send(self, rank: int, step: int, what: Exchange, part: Array) -> None:
        """Hand an array to the second rank of the group."""
        self._hand(Head.of(step, what, rank, part), part, what.group[1:])

    def receive(self, rank: int, step: int, what: Exchange) -> Array:
        """Return what the first rank of the group sent."""
        return self._take(what.group[0], Head(step, what, rank, ANY, ()))

    def leave(self, rank: int, diagnostics: Sequence[Diagnostic] = ()) -> None:
        """Note that a rank is through its work, or has failed: the first failure ends the waiting of all."""
        with self._changed:
            self._running.discard(rank)
            self._failure = self._failure or tuple(diagnostics)
            self._look()

    def _hand(self, head: Head, part: Array, group: Sequence[int]) -> None:
        with self._changed:
            self._last[head.rank] = f"step {head.step}, {head.what}"
            self._mailbox.put(head, part, group)
            self._changed.notify_all()

    def _take(self, source: int, mine: Head) -> Array:
        with self._changed:
            self._waiting[mine.rank] = (source, mine)
            self._look()
            self._changed.wait_for(lambda: self._failure or self._mailbox.waits(source, mine.rank))
            del self._waiting[mine.rank]
            if self._failure:
                raise Refused(self._failure)
            return self._mailbox.take(source, mine)

    def _look(self) -> None:
        """Fail where every rank that still runs waits for one that has handed nothing in."""
        stuck = bool(self._waiting) and all(
            rank in self._waiting and not self._mailbox.waits(self._waiting[rank][0], rank)
            for rank in self._running
        )
        if stuck and not self._failure:
            source, mine = min(self._waiting.values(), key=lambda pair: pair[0] in self._running)
            last = {source: self._last[source]}
            self._failure = overdue(mine.rank, mine.step, mine.what, last).diagnostics
        if self._failure:
            self._changed.notify_all()


def run_ranks(
    fabric: ThreadFabric, ranks: Sequence[int], does: Callable[[int], Made]
) -> dict[int, Made]:
    """Return what a function gives for each rank, each on a thread of its own.

    A rank that raises ends the waiting of all others, and what it raised is raised here.
    """
    with ThreadPoolExecutor(len(ranks), thread_name_prefix="rank") as pool:
        futures: dict[int, Future[Made]] = {}
        for rank in ranks:
            futures[rank] = pool.submit(does, rank)
            futures[rank].add_done_callback(_leaves(fabric, rank))
    errors = [error for future in futures.values() if (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Refused)):
        raise error
    return {rank: future.result() for rank, future in futures.items()}


def _leaves(fabric: ThreadFabric, rank: int) -> Callable[[Future[Made]], None]:
    def left(future: Future[Made]) -> None:
        error = future.exception()
        if error is None:
            fabric.leave(rank)
        elif isinstance(error, Refused):
            fabric.leave(rank, error.diagnostics)
        else:
            fabric.leave(rank, failed(rank, f"{type(error).__name__}: {error}").diagnostics)

    return left
