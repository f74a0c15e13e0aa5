# SPDX-License-Identifier: Apache-2.0
"""Which links a send takes: the direct one, or a path that has only switches inside.

The path of fewest links is taken, of those the one whose narrowest link is widest, of those the first; so a path is a
function of its ends, and chips never forward what a program does not say. Contention is the business of `events`.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.topology import Ints, Topology


def routes(
    topology: Topology, source: NDArray[np.integer], target: NDArray[np.integer]
) -> tuple[Ints, Ints]:
    """Return the links of each pair of nodes, [pairs, most links] with -1 behind the last, and how many they are.

    A pair without a path has no links.
    """
    keys = source.astype(np.int64) * topology.nodes + target
    unique, inverse = np.unique(keys, return_inverse=True)
    ends = unique // topology.nodes, unique % topology.nodes
    direct = topology.link(*ends)
    paths = np.full((len(unique), 1), -1, np.int32)
    paths[:, 0] = direct
    missing = np.flatnonzero(direct < 0)
    if topology.switches and len(missing):
        paths = _through_switches(topology, paths, missing, ends)
    counts = (paths >= 0).sum(1).astype(np.int32)
    return paths[inverse], counts[inverse]


def _through_switches(
    topology: Topology,
    paths: Ints,
    missing: NDArray[np.integer],
    ends: tuple[NDArray[np.integer], NDArray[np.integer]],
) -> Ints:
    """Fill the paths that are missing, from each source at once."""
    tables: dict[int, dict[int, list[int]]] = {}
    rows: list[list[int]] = []
    outgoing = _outgoing(topology)
    for source, target in zip(ends[0][missing].tolist(), ends[1][missing].tolist(), strict=True):
        if source not in tables:
            tables = {source: _from(topology, outgoing, source)}
        rows.append(tables[source].get(target, []))
    width = max(1, *(len(row) for row in rows))
    wide = np.full((len(paths), width), -1, np.int32)
    wide[:, :1] = paths
    for at, row in zip(missing.tolist(), rows, strict=True):
        wide[at, : len(row)] = row
    return wide


def _outgoing(topology: Topology) -> list[list[tuple[int, int, float]]]:
    """Return (link, target, capacity) of the links that leave each node."""
    result: list[list[tuple[int, int, float]]] = [[] for _ in range(topology.nodes)]
    rows = zip(
        topology.source.tolist(),
        topology.target.tolist(),
        topology.capacity.tolist(),
        strict=True,
    )
    for link, (source, target, capacity) in enumerate(rows):
        result[source].append((link, target, capacity))
    return result


def _from(
    topology: Topology, outgoing: list[list[tuple[int, int, float]]], source: int
) -> dict[int, list[int]]:
    """Return the links from a node to every other that switches lead to."""
    best: dict[int, list[int]] = {}
    heap: list[tuple[int, float, list[int], int]] = [(0, -np.inf, [], source)]
    while heap:
        hops, width, links, node = heappop(heap)
        if node in best:
            continue
        best[node] = links
        if hops and node < topology.chips:
            continue
        for link, target, capacity in outgoing[node]:
            if target not in best:
                heappush(heap, (hops + 1, max(width, -capacity), [*links, link], target))
    return best
