# SPDX-License-Identifier: Apache-2.0
"""From a plan to instructions with places in memory, and where the machine stops between them.

It stops for what the reference kernels compute, for an observer at the end of layers, and, in a program that is made
for it, behind each choice. Nothing here is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from device_model.engine.deciding import Choosing, choosings
from device_model.engine.plan import Mark, Plan
from device_model.kernels.layout import SELECT
from device_model.kernels.table import INSTRUCTIONS, KERNELS
from device_model.program.addresses import Addresses
from device_model.program.arena import Segment
from device_model.program.builder import SELECTION, Builder, Code, Uncompiled
from device_model.program.places import Buffer, Operation, Place

Reason: TypeAlias = Mark | Choosing | Operation
"""What the machine stops for: an observer, one that decides, or an operation without an instruction."""


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A plan as instructions; `stops` has their numbers and reasons, with an observer and without."""

    code: Code
    addresses: Addresses
    stops: Mapping[bool, tuple[tuple[int, Reason], ...]]


def lower(plan: Plan, result: Place, *, deciding: bool = False) -> Lowered:
    """Return the instructions of a plan.

    Where `deciding`, each operation that chooses is followed by a stop, and by the same operation for a given choice.
    """
    made = _Lowering(plan, result.index if isinstance(result, Buffer) else -1)
    if deciding:
        made.choosings |= choosings(plan)
    code = made.code(result)
    stops = {observing: made.sorted_stops(observing) for observing in (False, True)}
    return Lowered(code, Addresses(code, INSTRUCTIONS), stops)


@dataclass(slots=True)
class _Lowering:
    plan: Plan
    result: int
    choosings: dict[int, Choosing] = field(default_factory=dict)
    builder: Builder = field(default_factory=Builder)
    stops: list[tuple[int, Reason]] = field(default_factory=list)

    def code(self, result: Place) -> Code:
        builder = self.builder
        for place in self.plan.inputs:
            builder.given(place.index, place.elements * place.dtype.itemsize)
        marks = list(self.plan.marks)
        for number, operation in enumerate(self.plan.operations):
            if number == self.plan.body:
                self._mark(marks, number)
                self._enter_head()
            self._mark(marks, number)
            self._operation(operation)
            if number in self.choosings:
                choosing = self.choosings[number]
                self.stops.append((len(builder.steps), choosing))
                self._operation(choosing.given)
        self._mark(marks, len(self.plan.operations))
        if self.plan.body == len(self.plan.operations):
            self._enter_head()
        builder.keep(result)
        return builder.finish()

    def sorted_stops(self, observing: bool) -> tuple[tuple[int, Reason], ...]:
        """Return where the machine pauses, and for what."""
        stops: list[tuple[int, Reason]] = [
            (number, step.operation)
            for number, step in enumerate(self.builder.steps)
            if isinstance(step, Uncompiled)
        ]
        stops += [stop for stop in self.stops if observing or not isinstance(stop[1], Mark)]
        # A mark at the place of an uncompiled operation stands before it.
        return tuple(sorted(stops, key=lambda stop: (stop[0], isinstance(stop[1], Operation))))

    def _mark(self, marks: list[Mark], number: int) -> None:
        while marks and marks[0].operations == number:
            mark = marks.pop(0)
            for place in mark.carried:
                self.builder.keep(place)
            self.stops.append((len(self.builder.steps), mark))

    def _enter_head(self) -> None:
        builder = self.builder
        builder.head, builder.head_start = True, len(builder.steps)
        index = builder.given(SELECTION, 8, Segment.WANTED)
        for selection in self.plan.selections:
            builder.selected = selection.target.index
            self._declare(selection.target)
            size = selection.source.elements * selection.source.dtype.itemsize
            builder.emit(
                SELECT, source=builder.at(selection.source), index=index,
                target=builder.at(selection.target), length=size, rows=builder.tokens(),
            )  # fmt: skip

    def _operation(self, operation: Operation) -> None:
        # What a chip of a mesh has nothing of is never written, and may be read.
        empty = (p for p in operation.inputs if isinstance(p, Buffer) and not p.elements)
        for place in (*operation.outputs, *empty):
            if isinstance(place, Buffer):
                self._declare(place)
        row = None if operation.meeting is not None else KERNELS[operation.op].lower
        places = (*operation.inputs, *operation.outputs)
        per_sequence = any(isinstance(place, Buffer) and place.per_sequence for place in places)
        if per_sequence or row is None or not row(self.builder, operation):
            self.builder.leave(operation)

    def _declare(self, place: Buffer) -> None:
        segment = Segment.OUTPUT if self.builder.head and place.index == self.result else None
        segment = Segment.SEQUENCES if place.per_sequence else segment
        self.builder.declare(place.index, place.elements * place.dtype.itemsize, segment)
