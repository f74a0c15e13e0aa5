# SPDX-License-Identifier: Apache-2.0
"""A profile as a Perfetto trace: for each step a track of layers, one of each engine, and the memory over time.

Times are whole nanoseconds; the end of a slice is the start of the next, so rounding adds up to nothing. All chips of a
mesh do the same, so one is drawn. Very many layers are written as single slices after the first two of each class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from device_model.timeline.kinds import named
from device_model.timeline.schedule import MEMORY_ENGINE, Entry
from dsl.diagnostics import refuse
from porting.files.atomic import replace_file
from sohu.performance.profile.model import Layers, Phase, Profile
from sohu.performance.profile.words import setting, step

if TYPE_CHECKING:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket, TrackEvent

LAYERS, HOST, BYTES = "layers", "host", "memory in use"
ENGINE_TRACKS = ("matmul", "vector", "links", MEMORY_ENGINE)
TRACKS = (LAYERS, *ENGINE_TRACKS, HOST, BYTES)
MOST_SLICES = 20_000
IN_FULL = 2
"""Layers of each class that are written task by task where all would be too many."""
SEQUENCE = 1


@dataclass(frozen=True, slots=True)
class Slice:
    """Something that a track does from one second of a step to another; `bytes` is the memory alive meanwhile."""

    track: str
    name: str
    start: float
    end: float
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


def write_trace(profile: Profile, path: Path, most: int = MOST_SLICES) -> None:
    """Write the trace of a profile; raises `Refused` where the file cannot be written."""
    save_trace(trace_bytes(profile, most), path)


def save_trace(content: bytes, path: Path) -> None:
    """Write a trace; raises `Refused` where the file cannot be written (S530)."""

    def save(stream: BinaryIO) -> None:
        stream.write(content)

    try:
        replace_file(path, save)
    except OSError as error:
        raise refuse("S530", f"cannot write `{path}`: {error.strerror}") from None


def trace_bytes(profile: Profile, most: int = MOST_SLICES) -> bytes:
    """Return the trace of a profile, its steps one after the other."""
    writer = TraceWriter()
    at = 0.0
    for number, phase in enumerate(profile.phases):
        name = f"{step(phase)} · {profile.name} on one {profile.device.name} of {setting(profile)}"
        writer.process(number, name)
        for slice_ in slices(phase, most):
            writer.slice(number, slice_, at)
        for second, size in memory_over_time(phase):
            writer.counter(number, at + second, size)
        at += phase.timeline.seconds * 1.02
    return writer.content()


def slices(phase: Phase, most: int = MOST_SLICES) -> Iterator[Slice]:
    """Yield the slices of a step; those of a track do not overlap, those of all engines but memory sum to the step."""
    count = sum(len(p.entries) * p.count for p in phase.parts) * 2
    limit = None if count <= most else IN_FULL
    seen: dict[str, int] = {}
    at = 0.0
    for layer, part in phase.in_order():
        name = part.name if layer is None else f"layer {layer}"
        seen[part.name] = seen.get(part.name, 0) + 1
        facts = {} if layer is None else {"class": part.name}
        yield Slice(LAYERS, name, at, at + part.seconds, facts)
        whole = limit is None or seen[part.name] <= limit
        yield from _tasks(part, at) if whole else _engines(part, at)
        at += part.seconds
    if phase.timeline.host:
        yield Slice(HOST, "between steps", at, at + phase.timeline.host)


def _tasks(part: Layers, at: float) -> Iterator[Slice]:
    for entry in part.entries:
        end = at + entry.seconds
        facts = facts_of(entry)
        yield Slice(entry.engine, entry.task.name, at, end, facts)
        busy = min(entry.memory_seconds, entry.seconds)
        if busy > 0:
            yield Slice(MEMORY_ENGINE, entry.task.name, at, at + busy, {"bytes": entry.bytes})
        at = end


def _engines(part: Layers, at: float) -> Iterator[Slice]:
    """Yield one slice an engine, in no order that a chip would have."""
    start = at
    for engine in dict.fromkeys(e.engine for e in part.entries):
        own = [e for e in part.entries if e.engine == engine]
        end = at + sum(e.seconds for e in own)
        yield Slice(engine, f"{len(own)} tasks, summed up", at, end)
        at = end
    busy = sum(min(e.memory_seconds, e.seconds) for e in part.entries)
    if busy > 0:
        yield Slice(MEMORY_ENGINE, "all tasks, summed up", start, start + busy)


def facts_of(entry: Entry) -> Mapping[str, str | int | float]:
    """Return what a trace says of a task."""
    task = entry.task
    facts: dict[str, str | int | float] = {
        "operations": " ".join(task.ops),
        "in": " / ".join(task.path),
        "bound by": entry.bound,
        "choice": entry.choice,
        "place": entry.place,
        "FLOPs": entry.flops,
        "bytes": entry.bytes,
    }
    facts |= {name: value for name, value in named(task.sizes).items() if value != float("inf")}
    facts |= {f"µs of {name}": round(s * 1e6, 4) for name, s in entry.terms.items() if s}
    return {name: value for name, value in facts.items() if value != ""}


def memory_over_time(phase: Phase) -> Iterator[tuple[float, int]]:
    """Yield seconds of a step and the bytes in use from then on, where they change; at the end what lasts."""
    at, last = 0.0, -1
    for _, part in phase.in_order():
        for entry, alive in zip(part.entries, part.activations, strict=True):
            size = round(phase.memory.lasting + alive)
            if size != last:
                yield at, size
            last = size
            at += entry.seconds
    yield at, round(phase.memory.lasting)


class TraceWriter:
    """Collects packets; names are written once and referred to by number."""

    def __init__(self, tracks: tuple[str, ...] = TRACKS) -> None:
        from perfetto.trace_builder.proto_builder import (  # noqa: PLC0415 - for traces alone
            TraceProtoBuilder,
        )

        self.builder = TraceProtoBuilder()
        self.tracks = {track: number for number, track in enumerate(tracks, 1)}
        self.span = max(100, len(tracks) + 1)  # numbers of a process
        self.names: dict[tuple[str, str], int] = {}
        self.started = False

    def process(self, number: int, name: str) -> None:
        """Declare a step with its tracks."""
        packet = self._packet()
        packet.track_descriptor.uuid = self._uuid(number, "")
        packet.track_descriptor.process.pid = number + 1
        packet.track_descriptor.process.process_name = name
        packet.track_descriptor.child_ordering = 3  # explicit
        for rank, track in enumerate(self.tracks):
            made = self._packet().track_descriptor
            made.uuid = self._uuid(number, track)
            made.parent_uuid = self._uuid(number, "")
            made.name = track
            made.sibling_order_rank = rank
            if track == BYTES:
                made.counter.unit = 3  # bytes

    def slice(self, number: int, what: Slice, offset: float) -> None:
        """Write a slice of a step that starts at an offset."""
        start, end = _nano(offset + what.start), _nano(offset + what.end)
        first = self._event(start, 1, number, what.track)
        self._name(first, what.name)
        for name, value in what.facts.items():
            self._fact(first, name, value)
        self._event(end, 2, number, what.track)

    def counter(self, number: int, second: float, value: int) -> None:
        """Write the value of the counter from a second on."""
        packet = self._event(_nano(second), 4, number, BYTES)
        packet.track_event.counter_value = value

    def content(self) -> bytes:
        """Return the trace."""
        content: bytes = self.builder.serialize()
        return content

    def _uuid(self, number: int, track: str) -> int:
        return self.span * (number + 1) + (self.tracks[track] if track else 0)

    def _packet(self) -> TracePacket:
        packet = self.builder.add_packet()
        packet.trusted_packet_sequence_id = SEQUENCE
        packet.sequence_flags = 2 if self.started else 1  # needs, or clears, what is interned
        self.started = True
        return packet

    def _event(self, nano: int, kind: int, number: int, track: str) -> TracePacket:
        packet = self._packet()
        packet.timestamp = nano
        event: TrackEvent = packet.track_event
        event.type = kind
        event.track_uuid = self._uuid(number, track)
        return packet

    def _name(self, packet: TracePacket, name: str) -> None:
        known, number = self._number("name", name)
        if not known:
            packet.interned_data.event_names.add(iid=number, name=name)
        packet.track_event.name_iid = number

    def _fact(self, packet: TracePacket, name: str, value: str | float) -> None:
        known, number = self._number("fact", name)
        if not known:
            packet.interned_data.debug_annotation_names.add(iid=number, name=name)
        made = packet.track_event.debug_annotations.add(name_iid=number)
        if isinstance(value, str):
            known, text = self._number("text", value)
            if not known:
                packet.interned_data.debug_annotation_string_values.add(
                    iid=text, str=value.encode()
                )
            made.string_value_iid = text
        elif float(value).is_integer() and abs(value) < 2**53:
            made.int_value = int(value)
        else:
            made.double_value = float(value)

    def _number(self, kind: str, text: str) -> tuple[bool, int]:
        """Return whether a text has been written, and its number among those of its kind."""
        key = (kind, text)
        known = key in self.names
        if not known:
            self.names[key] = len(self.names) + 1
        return known, self.names[key]


def _nano(seconds: float) -> int:
    return round(seconds * 1e9)
