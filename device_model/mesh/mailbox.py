# SPDX-License-Identifier: Apache-2.0
"""Parts on their way from rank to rank, in order: what the two do not both come to in the same order is refused.

Knows no time and no threads; whoever waits asks again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from device_model.mesh.fabric import Array
from device_model.mesh.refusals import Head, mismatch, no_message

MAX_WAITING = 1 << 14
"""Parts that may wait between two ranks; a program that sends more ahead has no bound."""


class Mailbox:
    """What the ranks here were sent and have not taken yet; `ranks` are all of the mesh."""

    def __init__(self, ranks: Iterable[int], here: Iterable[int]) -> None:
        everyone = tuple(ranks)
        self._queues: dict[tuple[int, int], deque[tuple[Head, Array]]] = {
            (source, target): deque() for target in here for source in everyone if source != target
        }

    def put(self, head: Head, part: Array, targets: Iterable[int]) -> None:
        """Add a part at every target that is here."""
        for target in targets:
            queue = self._queues.get((head.rank, target))
            if queue is None:
                continue
            if len(queue) >= MAX_WAITING:
                raise no_message(
                    f"{len(queue)} parts wait already, from rank {head.rank} to {target}"
                )
            queue.append((head, part))

    def waits(self, source: int, target: int) -> bool:
        """Return whether there is something to take."""
        return bool(self._queues[source, target])

    def take(self, source: int, mine: Head) -> Array:
        """Return the next part of a rank; one of another exchange is refused (S640)."""
        theirs, part = self._queues[source, mine.rank].popleft()
        if not mine.meets(theirs):
            raise mismatch(mine, theirs)
        return part
