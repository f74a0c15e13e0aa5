"""Execute a plan for one packed set of tokens: compiled where there is a fast kernel, or by the references alone.

Both executors keep values where they like and hand back the wanted result. They own no state and split no sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from device_model.engine import interpreter
from device_model.engine.plan import Mark, Plan, last_uses
from device_model.engine.states import Cache
from device_model.kernels.dispatch import machine
from device_model.kernels.table import KERNELS
from device_model.machine import opcodes
from device_model.machine.team import Team
from device_model.numbers.numerics import Array, Numerics, wide
from device_model.program.arena import Region
from device_model.program.binding import Binding
from device_model.program.builder import (
    POSITION,
    SELECTION,
    SEQUENCE,
    Builder,
    Program,
    Uncompiled,
)
from device_model.program.call import Rows
from device_model.program.places import Buffer, Item, Place

LINE = 64
"""Arenas start at a cache line."""

Observe: TypeAlias = Callable[[int, tuple[Array, ...]], None]


class Executor(Protocol):
    """Runs a plan. `activation_bytes` is the peak of the last step: the values alive, without session tables."""

    activation_bytes: int

    def step(
        self, inputs: Sequence[Array], rows: Rows, wanted: Array, cache: Cache,
        observe: Observe | None,
    ) -> Array:  # fmt: skip
        """Return the result of the wanted tokens; the cache has counted the new tokens already."""
        ...


class ReferenceExecutor:
    """Runs every operation in plain numpy."""

    def __init__(self, plan: Plan, numerics: Numerics, result: Place) -> None:
        self._plan, self._numerics, self._result = plan, numerics, result
        self._last = last_uses(plan, result)
        self.activation_bytes = 0

    def step(
        self, inputs: Sequence[Array], rows: Rows, wanted: Array, cache: Cache,
        observe: Observe | None,
    ) -> Array:  # fmt: skip
        """Return the result of the wanted tokens."""
        values: dict[int, Array] = {}
        self.activation_bytes = 0

        def read(place: Buffer) -> Array:
            return values[place.index].reshape(-1, *place.shape)

        def write(place: Buffer, array: Array) -> None:
            values[place.index] = array

        for place, array in zip(self._plan.inputs, inputs, strict=True):
            write(place, array.astype(place.dtype, copy=False))
        marks = iter(self._plan.marks)
        mark = next(marks, None)
        for number, item in enumerate(self._plan.items):
            while mark is not None and mark.items == number:
                _observe(observe, mark, read)
                mark = next(marks, None)
            if number == self._plan.body:
                self._narrow(read, write, values, wanted)
            interpreter.run(item, read, write, cache, rows, self._numerics)
            alive = sum(array.nbytes for array in values.values())
            self.activation_bytes = max(self.activation_bytes, alive)
            for index in [i for i in values if self._last.get(i, -1) <= number]:
                del values[index]
        while mark is not None:
            _observe(observe, mark, read)
            mark = next(marks, None)
        if self._plan.body == len(self._plan.items):
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

    def __init__(self, plan: Plan, numerics: Numerics, result: Place, team: Team) -> None:
        self._plan, self._numerics, self._result, self._team = plan, numerics, result, team
        self._marks: list[tuple[int, Mark]] = []
        self._program = self._lower()
        self._binding = Binding(self._program)
        self._stops = {observing: self._find_stops(observing) for observing in (False, True)}
        self._arenas: dict[Region, Array] = {}
        self.activation_bytes = 0

    def _lower(self) -> Program:
        builder = Builder()
        result = self._result.index if isinstance(self._result, Buffer) else -1
        for place in self._plan.inputs:
            builder.given(place.index, place.elements * place.dtype.itemsize)
        marks = list(self._plan.marks)
        for number, item in enumerate(self._plan.items):
            if number == self._plan.body:
                self._mark(builder, marks, number)
                self._enter_head(builder, result)
            self._mark(builder, marks, number)
            _lower_item(builder, item, result)
        self._mark(builder, marks, len(self._plan.items))
        if self._plan.body == len(self._plan.items):
            self._enter_head(builder, result)
        builder.keep(self._result)
        return builder.finish()

    def _mark(self, builder: Builder, marks: list[Mark], number: int) -> None:
        while marks and marks[0].items == number:
            mark = marks.pop(0)
            for place in mark.carried:
                builder.keep(place)
            self._marks.append((len(builder.steps), mark))

    def _enter_head(self, builder: Builder, result: int) -> None:
        builder.head, builder.head_start = True, len(builder.steps)
        index = builder.given(SELECTION, 8, Region.WANTED)
        for selection in self._plan.selections:
            builder.selected = selection.target.index
            _declare(builder, selection.target, result)
            size = selection.source.elements * selection.source.dtype.itemsize
            builder.emit(
                opcodes.SELECT, builder.at(selection.source), index,
                builder.at(selection.target), size, builder.rows(),
            )  # fmt: skip

    def step(
        self, inputs: Sequence[Array], rows: Rows, wanted: Array, cache: Cache,
        observe: Observe | None,
    ) -> Array:  # fmt: skip
        """Return the result of the wanted tokens."""
        program = self._program
        counts = np.zeros(len(Region), np.int64)
        counts[Region.BODY], counts[Region.HEAD] = len(rows.position), len(wanted)
        counts[Region.OUTPUT], counts[Region.TABLES] = len(wanted), 8 * len(cache.lengths)
        counts[Region.SEQUENCES] = len(cache.lengths)
        counts[Region.STEP], counts[Region.WANTED] = counts[Region.BODY], counts[Region.HEAD]
        output = np.empty(0, np.uint8)
        if isinstance(self._result, Buffer):
            output = np.empty((len(wanted), *self._result.shape), self._result.dtype)
        bases = np.zeros(len(Region), np.int64)
        sizes = {r: n * int(counts[r]) for r, n in program.bytes_per_token.items()}
        beneath = _aligned(program.beneath_head * int(counts[Region.BODY]))
        head = beneath + sizes.get(Region.HEAD, 0)
        body = sizes.get(Region.BODY, 0)
        self.activation_bytes = max(body, head + output.nbytes) + sizes.get(Region.SEQUENCES, 0)
        bases[Region.BODY] = self._arena(Region.BODY, max(body, head))
        bases[Region.HEAD] = bases[Region.BODY] + beneath
        self._arenas[Region.HEAD] = self._arenas[Region.BODY]
        for region in (Region.SEQUENCES, Region.STEP, Region.WANTED):
            bases[region] = self._arena(region, sizes.get(region, 0))
        bases[Region.TABLES] = cache.table.ctypes.data
        bases[Region.OUTPUT] = output.ctypes.data
        code, reals = self._binding.bind(bases, counts), self._binding.reals

        def at(index: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
            region = program.spaces[index].region
            count = int(counts[region])
            if region is Region.OUTPUT:
                return output.reshape(count, *shape)
            first = program.address(index, bases, counts) - self._arenas[region].ctypes.data
            size = count * int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            view = self._arenas[region][first : first + size].view(dtype)
            return view.reshape(count, *shape)

        def read(place: Buffer) -> Array:
            return at(place.index, place.shape, place.dtype)

        def write(place: Buffer, array: Array) -> None:
            at(place.index, place.shape, place.dtype)[...] = array

        for place, array in zip(self._plan.inputs, inputs, strict=True):
            write(place, array.astype(place.dtype, copy=False))
        self._fill(at, rows, wanted)
        scratch = program.scratch
        if program.score_rows:
            scratch += program.score_rows * 4 * (int(cache.lengths.max()) + 64)
        start = 0
        for stop, mark in self._stops[observe is not None]:
            self._team.run(code, reals, start, stop, scratch)
            start = stop
            if isinstance(mark, Mark):
                _observe(observe, mark, read)
            elif mark is not None:
                interpreter.run(mark, read, write, cache, rows, self._numerics)
                start = stop + 1
        self._team.run(code, reals, start, len(program.steps), scratch)
        return _read(self._result, read)

    def _fill(self, at: Callable[..., Array], rows: Rows, wanted: Array) -> None:
        long = np.dtype(np.int64)
        program = self._program
        for index, values in ((SEQUENCE, rows.sequence), (POSITION, rows.position)):
            if index in program.offsets:
                at(index, (), long)[...] = values
        at(SELECTION, (), long)[...] = wanted
        for table in program.tables:
            for buffer, array in zip(table.buffers, table.fill(rows), strict=True):
                at(buffer, array.shape[1:], array.dtype)[...] = array

    def _find_stops(self, observing: bool) -> list[tuple[int, Mark | Item | None]]:
        """Return where the machine pauses, and for what."""
        stops: list[tuple[int, Mark | Item | None]] = [
            (number, step.item)
            for number, step in enumerate(self._program.steps)
            if isinstance(step, Uncompiled)
        ]
        if observing:
            stops += self._marks
        # A mark at the place of an uncompiled operation stands before it.
        return sorted(stops, key=lambda stop: (stop[0], isinstance(stop[1], Item)))

    def _arena(self, region: Region, size: int) -> int:
        held = self._arenas.get(region)
        if held is None or len(held) < size + LINE:
            self._arenas[region] = held = np.zeros(size + LINE, np.uint8)
        return _aligned(int(held.ctypes.data))


def _aligned(address: int) -> int:
    return -(-address // LINE) * LINE


def warm_up(progress: Callable[[str], None] | None = None) -> None:
    """Compile the machine, or load it from the disk cache; `progress` hears what is being done."""
    if progress is not None:
        progress("compiling kernels")
    machine()


def _lower_item(builder: Builder, item: Item, result: int) -> None:
    for place in item.outputs:
        if isinstance(place, Buffer):
            _declare(builder, place, result)
    lower = KERNELS[item.op].lower
    places = (*item.inputs, *item.outputs)
    per_sequence = any(isinstance(place, Buffer) and place.per_sequence for place in places)
    if per_sequence or lower is None or not lower(builder, item):
        builder.leave(item)


def _declare(builder: Builder, place: Buffer, result: int) -> None:
    region = Region.OUTPUT if builder.head and place.index == result else None
    region = Region.SEQUENCES if place.per_sequence else region
    builder.declare(place.index, place.elements * place.dtype.itemsize, region)


def _observe(observe: Observe | None, mark: Mark, read: interpreter.Read) -> None:
    if observe is not None:
        values = [read(place) for place in mark.carried if isinstance(place, Buffer)]
        observe(mark.layer, tuple(np.array(wide(value), np.float32) for value in values))


def _read(place: Place, read: interpreter.Read) -> Array:
    if not isinstance(place, Buffer):
        raise TypeError("the program's result does not depend on its tokens")
    return read(place)
