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
from dsl.diagnostics import refuse

MOST_WORK = 20_000_000


def routes(
    topology: Topology, source: NDArray[np.integer], target: NDArray[np.integer]
) -> tuple[Ints, Ints]:
    """Return the links of each pair of nodes, [pairs, most links] with -1 behind the last, and how many they are.

    A pair without a path has no links. Raises `Refused` where there are too many switches to look at (S628).
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
    """Fill the paths that are missing: up to a switch, from it to another, down from there."""
    up, down = _switch_links(topology)
    _check_work(topology, up, down, missing, ends)
    tables: dict[int, Table] = {}
    rows: list[list[int]] = []
    for source, target in zip(ends[0][missing].tolist(), ends[1][missing].tolist(), strict=True):
        starts = up[source] if source < topology.chips else [(-1, source, np.inf)]
        ways = []
        for first, switch, wide in starts:
            if switch not in tables:
                tables[switch] = _from(topology, up, switch)
            ways += _ways(tables[switch], (first, wide), target, down, topology.chips)
        rows.append(min(ways)[2] if ways and source != target else [])
    width = max(1, *(len(row) for row in rows))
    wider = np.full((len(paths), width), -1, np.int32)
    wider[:, :1] = paths
    for at, row in zip(missing.tolist(), rows, strict=True):
        wider[at, : len(row)] = row
    return wider


Links = list[list[tuple[int, int, float]]]
"""By node: the number, the other end and the capacity of its links."""
Table = dict[int, tuple[int, float, list[int]]]
"""By switch: how many links lead there, minus the capacity of the narrowest, which they are."""


def _switch_links(topology: Topology) -> tuple[Links, Links]:
    """Return the links from each node up to switches, and the links from switches down to each node."""
    up: Links = [[] for _ in range(topology.nodes)]
    down: Links = [[] for _ in range(topology.nodes)]
    columns = (topology.source, topology.target, topology.capacity)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for link, (source, target, capacity) in enumerate(rows):
        if target >= topology.chips:
            up[source].append((link, target, capacity))
        if source >= topology.chips:
            down[target].append((link, source, capacity))
    return up, down


def _check_work(
    topology: Topology,
    up: Links,
    down: Links,
    missing: NDArray[np.integer],
    ends: tuple[NDArray[np.integer], NDArray[np.integer]],
) -> None:
    """Refuse paths through so many switches that looking for them would take minutes (S628)."""
    ways = np.asarray([len(x) for x in up]), np.asarray([len(x) for x in down])
    pairs = int((ways[0][ends[0][missing]] * np.maximum(ways[1][ends[1][missing]], 1)).sum())
    between = int(ways[0][topology.chips :].sum()) * topology.switches
    if max(pairs, between) > MOST_WORK:
        message = f"{topology.name} has too many ways through its {topology.switches:,} switches"
        raise refuse("S628", message, place="topology")


def _ways(
    table: Table, start: tuple[int, float], target: int, down: Links, chips: int
) -> list[tuple[int, float, list[int]]]:
    """Return the ways from a link up, through what a table of its switch reaches, down to a node."""
    first, wide = start
    before = [first] if first >= 0 else []
    if target >= chips:
        if target not in table:
            return []
        hops, width, links = table[target]
        return [(hops + len(before), max(width, -wide), [*before, *links])]
    ways = []
    for last, switch, capacity in down[target]:
        if switch in table:
            hops, width, links = table[switch]
            narrow = max(width, -wide, -capacity)
            ways.append((hops + len(before) + 1, narrow, [*before, *links, last]))
    return ways


def _from(topology: Topology, up: Links, start: int) -> Table:
    """Return how each switch is reached from one by way of switches."""
    best: Table = {}
    heap: list[tuple[int, float, list[int], int]] = [(0, -np.inf, [], start)]
    while heap:
        hops, width, links, node = heappop(heap)
        if node in best:
            continue
        best[node] = (hops, width, links)
        for link, target, capacity in up[node]:
            if target not in best:
                heappush(heap, (hops + 1, max(width, -capacity), [*links, link], target))
    return best
