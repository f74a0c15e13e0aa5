# SPDX-License-Identifier: Apache-2.0
"""An all_to_all on any links between chips: each chunk goes a shortest way, and a link takes what has farthest to go.

On grids a chunk takes the dimensions from the last on, as that loads all links of a dimension alike. Links count as
equally fast.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.topology import Topology

Table = NDArray[np.int64]
"""Sends of a step, [sends, (source, target, chunk)]."""


def forwarded(topology: Topology, pieces: int) -> list[Table]:
    """Return the steps that bring each chip's chunks to their chips; `ValueError` where no way leads there."""
    hop, far = ways(topology)
    n = topology.chips
    queues: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def enqueue(chunk: int, at: int) -> None:
        to = chunk // pieces % n
        if at != to:
            link = (at, int(hop[at, to]))
            heapq.heappush(queues.setdefault(link, []), (-int(far[at, to]), chunk))

    for chunk in range(n * n * pieces):
        enqueue(chunk, chunk // (n * pieces))
    steps: list[Table] = []
    while queues:
        step = [(*link, heapq.heappop(queue)[1]) for link, queue in queues.items()]
        queues = {link: queue for link, queue in queues.items() if queue}
        for _, at, chunk in step:
            enqueue(chunk, at)
        steps.append(np.asarray(step, np.int64))
    return steps


def ways(topology: Topology) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the next chip and the number of links of a shortest way, [from, to]."""
    n = topology.chips
    hop = np.full((n, n), -1, np.int32)
    far = np.full((n, n), -1, np.int32)
    np.fill_diagonal(far, 0)
    outgoing: list[list[int]] = [[] for _ in range(n)]
    for source, target in zip(topology.source.tolist(), topology.target.tolist(), strict=True):
        outgoing[target].append(source)
    # Neighbours in the last dimension are nearest in number: they come first on the way back from a target.
    for sources in outgoing:
        sources.sort(key=lambda source: source)
    for to in range(n):
        queue = [to]
        for at in queue:
            for source in _by_distance(outgoing[at], at):
                if far[source, to] < 0:
                    far[source, to], hop[source, to] = far[at, to] + 1, at
                    queue.append(source)
    if (far < 0).any():
        raise ValueError(f"{topology.name}: not every chip can be reached")
    return hop, far


def _by_distance(sources: list[int], at: int) -> list[int]:
    return sorted(sources, key=lambda source: (abs(source - at), source))
