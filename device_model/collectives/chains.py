# SPDX-License-Identifier: Apache-2.0
"""Broadcasts through switches: parts of the buffer go from node to node by their own chips, and spread in each node."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.topology import Topology

Move = tuple[int, int, int]
"""Source, target, chunk."""


def chains(topology: Topology, chunks: int) -> NDArray[np.int64]:
    """Return the sends of a broadcast from chip 0, [sends, (step, source, target, chunk)].

    Chunk c goes to chip c mod k of the first node, k the chips of a node, from there along the chips of the same place
    in all nodes, and in each node from chip to chip; of a single node all chunks go along the chips in order.
    """
    inside, chips = topology.domain, topology.chips
    ready: dict[tuple[int, int], int] = {}
    free: dict[tuple[str, int, bool], int] = {}
    rows: list[tuple[int, int, int, int]] = []
    for chunk in range(chunks):
        for source, target in _way(chunk, inside, chips):
            across = source // inside != target // inside
            ports = (("out", source, across), ("in", target, across))
            step = max(ready.get((source, chunk), 0), *(free.get(port, 0) for port in ports))
            ready[target, chunk] = step + 1
            free |= dict.fromkeys(ports, step + 1)
            rows.append((step, source, target, chunk))
    table = np.asarray(rows, np.int64).reshape(-1, 4)
    return table[np.argsort(table[:, 0], kind="stable")]


def _way(chunk: int, inside: int, chips: int) -> list[tuple[int, int]]:
    """Return the moves of a chunk, each after the one that brings it."""
    place = chunk % inside if inside < chips else 0
    moves = [(0, place)] if place else []
    for first in range(0, chips, inside):
        if first:
            moves.append((first - inside + place, first + place))
        round_ = [first + (place + k) % inside for k in range(inside)]
        if first == 0:  # chip 0 has all of it
            round_ = [chip for chip in round_ if chip == place or chip]
        moves += list(pairwise(round_))
    return moves
