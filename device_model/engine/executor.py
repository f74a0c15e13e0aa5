# SPDX-License-Identifier: Apache-2.0
"""Execute a plan for one packed set of tokens: compiled where there is a fast kernel, or by the references alone.

Both executors keep values where they like and hand back the wanted result. They own no state and split no sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from device_model.engine import interpreter
from device_model.engine.deciding import Choosing, Decide, choosings
from device_model.engine.lowering import Lowered, lower
from device_model.engine.meetings import Meet, hold
from device_model.engine.plan import Mark, Plan, last_uses
from device_model.engine.states import Cache
from device_model.engine.stepping import LINE, StepLayout, StepMemory, aligned, step_layout
from device_model.kernels.dispatch import Progress, machine, silent
from device_model.machine.team import Team
from device_model.numbers.numerics import Array, Numerics, wide
from device_model.program.arena import Segment
from device_model.program.builder import POSITION, SELECTION, SEQUENCE, Code
from device_model.program.call import Batch
from device_model.program.places import Buffer, Operation, Place

Observe: TypeAlias = Callable[[int, tuple[Array, ...]], None]


class Executor(Protocol):
    """Runs a plan. `activation_bytes` is the peak of the last step: the values alive, without session tables."""

    activation_bytes: int

    def step(
        self, inputs: Sequence[Array], batch: Batch, wanted: Array, cache: Cache,
        observe: Observe | None, decide: Decide | None = None,
    ) -> Array:  # fmt: skip
        """Return the result of the wanted tokens; the cache has counted the new tokens already."""
        ...


def alone(number: int, operation: Operation, part: Array) -> Sequence[Array]:
    """Meet nobody: a plan of one chip has no meetings."""
    raise TypeError(f"{operation.op} is a meeting of {operation.meeting}, and there are no others")


class ReferenceExecutor:
    """Runs every operation in plain numpy."""

    def __init__(self, plan: Plan, numerics: Numerics, result: Place, meet: Meet = alone) -> None:
        self._meet, self._meetings = meet, _numbered(plan)
        self._plan, self._numerics, self._result = plan, numerics, result
        self._last = last_uses(plan, result)
        self._choosings = choosings(plan)
        self.activation_bytes = 0

    def step(
        self, inputs: Sequence[Array], batch: Batch, wanted: Array, cache: Cache,
        observe: Observe | None, decide: Decide | None = None,
    ) -> Array:  # fmt: skip
        """Return the result of the wanted tokens."""
        values: dict[int, Array] = {}
        self.activation_bytes = 0

        def read(place: Buffer) -> Array:
            if place.index not in values:
                # What a chip has nothing of is never computed; a meeting asks for the shape of its result.
                return np.zeros((len(batch.positions), *place.shape), place.dtype)
            return values[place.index].reshape(-1, *place.shape)

        def write(place: Buffer, array: Array) -> None:
            values[place.index] = array

        for place, array in zip(self._plan.inputs, inputs, strict=True):
            write(place, array.astype(place.dtype, copy=False))
        marks = iter(self._plan.marks)
        mark = next(marks, None)
        for number, operation in enumerate(self._plan.operations):
            while mark is not None and mark.operations == number:
                _observe(observe, mark, read)
                mark = next(marks, None)
            if number == self._plan.body:
                self._narrow(read, write, values, wanted)
            if operation.meeting is not None:
                hold(self._meetings[id(operation)], operation, read, write, self._meet)
            else:
                interpreter.run(operation, read, write, cache, batch, self._numerics)
            if decide is not None and number in self._choosings:
                choosing = self._choosings[number]
                choosing.ask(decide, read, write, batch, wanted)
                interpreter.run(choosing.given, read, write, cache, batch, self._numerics)
            alive = sum(array.nbytes for array in values.values())
            self.activation_bytes = max(self.activation_bytes, alive)
            for index in [i for i in values if self._last.get(i, -1) <= number]:
                del values[index]
        while mark is not None:
            _observe(observe, mark, read)
            mark = next(marks, None)
        if self._plan.body == len(self._plan.operations):
            self._narrow(read, write, values, wanted)
        return _read(self._result, read)

    def _narrow(
        self,
        read: interpreter.Read,
        write: interpreter.Write,
        values: dict[int, Array],
        wanted: Array,
    ) -> None:
        """Keep the wanted tokens of the values that the head reads."""
        for selection in self._plan.selections:
            array = read(selection.source)
            write(selection.target, array if len(wanted) == len(array) else array[wanted])
            del values[selection.source.index]


class CompiledExecutor:
    """Runs instructions on a team of threads, and references where there is no instruction."""

    def __init__(
        self, plan: Plan, numerics: Numerics, result: Place, team: Team, meet: Meet = alone
    ) -> None:
        self._meet, self._meetings = meet, _numbered(plan)
        self._plan, self._numerics, self._result, self._team = plan, numerics, result, team
        self._plain = lower(plan, result)
        self._deciding: Lowered | None = None
        self._arenas: dict[Segment, Array] = {}
        self.activation_bytes = 0

    def step(
        self, inputs: Sequence[Array], batch: Batch, wanted: Array, cache: Cache,
        observe: Observe | None, decide: Decide | None = None,
    ) -> Array:  # fmt: skip
        """Return the result of the wanted tokens."""
        program = self._plain if decide is None else self._with_choices()
        layout = step_layout(program.code, self._result, batch, len(wanted))
        self.activation_bytes = layout.activation_bytes
        memory = self._place(program.code, layout, cache)
        for place, array in zip(self._plan.inputs, inputs, strict=True):
            memory.write(place, array.astype(place.dtype, copy=False))
        _fill(memory, batch, wanted)
        scratch = program.code.scratch
        if program.code.score_rows:
            scratch += program.code.score_rows * 4 * (int(cache.lengths.max()) + 64)
        words = program.addresses.bind(memory.bases, memory.counts)
        reals, start = program.addresses.reals, 0
        for stop, reason in program.stops[observe is not None]:
            self._team.run(words, reals, start, stop, scratch)
            start = stop
            match reason:
                case Mark():
                    _observe(observe, reason, memory.read)
                case Choosing() if decide is not None:
                    reason.ask(decide, memory.read, memory.write, batch, wanted)
                case Operation():
                    self._leave(reason, memory, cache, batch)
                    start = stop + 1
        self._team.run(words, reals, start, len(program.code.steps), scratch)
        return _read(self._result, memory.read)

    def _leave(self, operation: Operation, memory: StepMemory, cache: Cache, batch: Batch) -> None:
        """Let other chips or the reference do what the machine does not."""
        read, write = memory.read, memory.write
        if operation.meeting is not None:
            hold(self._meetings[id(operation)], operation, read, write, self._meet)
            return
        interpreter.run(operation, read, write, cache, batch, self._numerics)

    def _with_choices(self) -> Lowered:
        """Return the program that stops behind each choice, which few sessions need."""
        if self._deciding is None:
            self._deciding = lower(self._plan, self._result, deciding=True)
        return self._deciding

    def _place(self, code: Code, layout: StepLayout, cache: Cache) -> StepMemory:
        """Give every segment of the step its memory; arenas stay from step to step."""
        bases = np.zeros(len(Segment), np.int64)
        for segment, size in layout.sizes.items():
            bases[segment] = self._arena(segment, size)
        bases[Segment.HEAD] = bases[Segment.BODY] + layout.beneath
        self._arenas[Segment.HEAD] = self._arenas[Segment.BODY]
        output = np.empty(layout.output_bytes, np.uint8)
        bases[Segment.TABLES], bases[Segment.OUTPUT] = cache.table.ctypes.data, output.ctypes.data
        arenas = {**self._arenas, Segment.OUTPUT: output}
        return StepMemory(code, bases, layout.counts, arenas)

    def _arena(self, segment: Segment, size: int) -> int:
        held = self._arenas.get(segment)
        if held is None or len(held) < size + LINE:
            self._arenas[segment] = held = np.zeros(size + LINE, np.uint8)
        return aligned(int(held.ctypes.data))


def _numbered(plan: Plan) -> dict[int, int]:
    """Return the numbers of meetings by the identities of their operations.

    Those of one group are counted through: the only count that all of its chips have alike.
    """
    numbers: dict[int, int] = {}
    met: dict[tuple[int, ...], int] = {}
    for operation in plan.operations:
        if operation.meeting is not None:
            group = operation.meeting.group
            numbers[id(operation)] = met[group] = met.get(group, -1) + 1
    return numbers


def warm_up(progress: Progress = silent) -> None:
    """Compile the machine, or load it from disk; `progress` hears which parts are being compiled."""
    machine(progress)


def _fill(memory: StepMemory, batch: Batch, wanted: Array) -> None:
    """Write what instructions look up: where tokens stand, whose results are wanted, tables per token."""
    long = np.dtype(np.int64)
    for index, values in ((SEQUENCE, batch.slots), (POSITION, batch.positions)):
        if index in memory.code.offsets:
            memory.at(index, (), long)[...] = values
    memory.at(SELECTION, (), long)[...] = wanted
    for table in memory.code.tables:
        for buffer, array in zip(table.buffers, table.fill(batch), strict=True):
            memory.at(buffer, array.shape[1:], array.dtype)[...] = array


def _observe(observe: Observe | None, mark: Mark, read: interpreter.Read) -> None:
    if observe is not None:
        values = [read(place) for place in mark.carried if isinstance(place, Buffer)]
        observe(mark.layer, tuple(np.array(wide(value), np.float32) for value in values))


def _read(place: Place, read: interpreter.Read) -> Array:
    if not isinstance(place, Buffer):
        raise TypeError("the program's result does not depend on its tokens")
    return read(place)
