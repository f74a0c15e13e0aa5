# SPDX-License-Identifier: Apache-2.0
"""Schedules of collectives as a Perfetto trace: a track for each link, with a slice while a chunk is on it.

Links that carry nothing have no track; of very many sends the first are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from device_model.collectives.events import Times
from device_model.collectives.program import Program
from sohu.performance.profile.trace import MOST_SLICES, Slice, TraceWriter, save_trace


def write_trace(timed: Sequence[tuple[Program, Times]], path: Path) -> None:
    """Write the trace of schedules, one after the other; raises `Refused` where the file cannot be written."""
    save_trace(trace_bytes(timed), path)


def trace_bytes(timed: Sequence[tuple[Program, Times]], most: int = MOST_SLICES) -> bytes:
    """Return the trace of schedules."""
    labels: dict[str, None] = {}
    for program, times in timed:
        labels |= dict.fromkeys(_label(program, link) for link in _links(times))
    writer = TraceWriter(tuple(labels))
    at = 0.0
    for number, (program, times) in enumerate(timed):
        writer.process(number, f"{program.operation} over {program.topology.name}")
        for slice_ in slices(program, times)[:most]:
            writer.slice(number, slice_, at)
        at += times.seconds * 1.02
    return writer.content()


def slices(program: Program, times: Times) -> list[Slice]:
    """Return what is on each link when, in order of time; slices of a link do not overlap."""
    keeps = times.chunk / program.topology.capacity
    result = []
    steps = program.step_of()
    for i in range(program.sends):
        start = float(times.begins[i])
        facts: dict[str, str | int | float] = {
            "step": int(steps[i]),
            "from": program.topology.node_name(int(program.source[i])),
            "to": program.topology.node_name(int(program.target[i])),
            "bytes": times.chunk,
            "adds": "yes" if program.add[i] else "no",
        }
        for link in times.paths[i][times.paths[i] >= 0].tolist():
            end = start + float(keeps[link])
            result.append(Slice(_label(program, link), f"c{program.chunk[i]}", start, end, facts))
    return sorted(result, key=lambda slice_: slice_.start)


def _links(times: Times) -> list[int]:
    return [link for link, busy in enumerate(times.busy.tolist()) if busy > 0]


def _label(program: Program, link: int) -> str:
    topology = program.topology
    ends = int(topology.source[link]), int(topology.target[link])
    return f"{topology.node_name(ends[0])} -> {topology.node_name(ends[1])}"
