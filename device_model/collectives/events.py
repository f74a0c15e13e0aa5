# SPDX-License-Identifier: Apache-2.0
"""When each send of a program begins and arrives, by the links that it takes.

A send begins when its chunk is there and the sends that are written before it on any of its links have left them. It
keeps a link for bytes/capacity, and has arrived after the latencies of its links and bytes/capacity of the narrowest.
Chunks go through switches without waiting to be whole. As nothing waits for what is written after it, one pass in the
order of writing meets every event in time; no queue is needed. Additions take no time here, nor do launches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device_model.collectives.program import SUMS, Program, begins_at, chunk_bytes
from device_model.collectives.routes import routes
from device_model.collectives.topology import Floats, Ints


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a program on a buffer: in all, when each send begins and has arrived, how long each link is busy."""

    seconds: float
    begins: Floats
    arrives: Floats
    busy: Floats
    paths: Ints
    chunk: float
    """Bytes of a chunk."""

    @property
    def busiest(self) -> int:
        """Return the link that is busy longest."""
        return int(np.argmax(self.busy)) if len(self.busy) else -1


def times(program: Program, buffer: float) -> Times:
    """Return the times of a proven program.

    `buffer` has the bytes of a chip's whole buffer: what it ends with in a gather, else what it begins with.
    """
    topology = program.topology
    size = chunk_bytes(program, buffer)
    paths, counts = routes(topology, program.source, program.target)
    if program.sends and not counts.all():
        raise ValueError("a send has no link; only proven programs have times")
    keeps = size / topology.capacity
    used = np.where(paths >= 0, paths, 0)
    narrow = np.where(paths >= 0, keeps[used], 0.0).max(1, initial=0.0)
    takes = np.where(paths >= 0, topology.latency[used], 0.0).sum(1) + narrow
    begins, arrives = _pass(program, paths, counts, keeps, takes)
    loads = np.bincount(paths[paths >= 0], minlength=topology.links)
    end = float(arrives.max(initial=0.0))
    return Times(end, begins, arrives, loads * keeps, paths, size)


def _pass(
    program: Program, paths: Ints, counts: Ints, keeps: Floats, takes: Floats
) -> tuple[Floats, Floats]:
    """Return when sends begin and arrive, in one pass in the order of writing."""
    topology, chunks = program.topology, program.chunks
    ready = _ready(program)
    free = [0.0] * topology.links
    begins, arrives = [0.0] * program.sends, [0.0] * program.sends
    come = (program.source.astype(np.int64) * chunks + program.chunk).tolist()
    go = (program.target.astype(np.int64) * chunks + program.chunk).tolist()
    links = [row[:count] for row, count in zip(paths.tolist(), counts.tolist(), strict=True)]
    keep, take, adds = keeps.tolist(), takes.tolist(), program.add.tolist()
    left: dict[int, float] = {}
    for first, last in zip(program.begins[:-1].tolist(), program.begins[1:].tolist(), strict=True):
        landed: dict[int, float] = {}
        for i in range(first, last):
            start = ready.get(come[i], 0.0)
            for link in links[i]:
                start = max(start, free[link])
            for link in links[i]:
                free[link] = start + keep[link]
            begins[i], arrives[i] = start, start + take[i]
            # A value is replaced when the sends that still take it have left.
            left[come[i]] = max(left.get(come[i], 0.0), start)
            here = ready.get(go[i], 0.0) if adds[i] else 0.0
            landed[go[i]] = max(landed.get(go[i], here), arrives[i])
        for place, when in landed.items():
            ready[place] = max(when, left.get(place, 0.0))
    return np.asarray(begins), np.asarray(arrives)


def _ready(program: Program) -> dict[int, float]:
    """Return the places that have something at the beginning; of a sum all have."""
    if program.operation in SUMS:
        return {}
    at = np.arange(program.chunks)
    origin = begins_at(program.operation, program.topology.chips, program.chunks)
    return dict.fromkeys((origin.astype(np.int64) * program.chunks + at).tolist(), 0.0)
