# SPDX-License-Identifier: Apache-2.0
"""Instructions with addresses that depend on the number of tokens, and the memory plan behind them.

A `Builder` collects instructions whose operands are symbolic addresses; `finish` gives every buffer a place in an arena
so that two buffers share bytes when their lives do not meet. `binding` turns a program into plain integers for a step.
It does not know what an instruction does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from device_model.numbers.numerics import BF16, F16, F32, Array
from device_model.numbers.packed import Packed
from device_model.program.arena import Segment, Space, allocate, rounded
from device_model.program.call import Batch
from device_model.program.instruction import (
    Address,
    Argument,
    Instruction,
    Invocation,
    Operand,
    invocation,
)
from device_model.program.places import Buffer, Fixed, Operation, Place, StateRef

SEQUENCE, POSITION, SELECTION = 1 << 30, (1 << 30) + 1, (1 << 30) + 2
"""Buffers that the session fills before a step: per token its sequence and position, per result its token."""

SESSION = (Segment.STEP, Segment.WANTED)
"""Regions that the session fills before a step."""

LENGTHS, FIRST_STATE = 0, 1
"""Rows of the session's table, which has one column per sequence; each state has two, its address and its room."""


@dataclass(frozen=True, slots=True)
class Uncompiled:
    """An operation that the reference kernel computes, between two runs of the machine."""

    operation: Operation


Step: TypeAlias = Invocation | Uncompiled


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Values per token that the session fills before a step, one array for each of its buffers."""

    key: Hashable
    fill: Callable[[Batch], tuple[Array, ...]]
    buffers: tuple[int, ...]


@dataclass(slots=True)
class Builder:
    """Collects the steps of a plan."""

    head: bool = False
    head_start: int = 0
    selected: int | None = None
    score_rows: int = 0
    scratch: int = 16384
    steps: list[Step] = field(default_factory=list)
    spaces: dict[int, Space] = field(default_factory=dict)
    used: dict[int, list[int]] = field(default_factory=dict)
    holding: list[Array] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    @property
    def segment(self) -> Segment:
        """Return the arena of the part that is being built."""
        return Segment.HEAD if self.head else Segment.BODY

    def tokens(self, each: int = 1) -> Address:
        """Return the number of tokens of the part that is being built, times `each`."""
        return Address(self.segment, count=each)

    def reserve(self, size: int) -> None:
        """Ask for scratch memory per thread."""
        self.scratch = max(self.scratch, size)

    def declare(self, index: int, size: int, segment: Segment | None = None) -> None:
        """Give a buffer its bytes per token, unless it has them already."""
        self.spaces.setdefault(index, Space(self.segment if segment is None else segment, size))

    def at(self, place: Place, offset: int = 0) -> Argument:
        """Return the address of a place; of a state, the address of its table of addresses."""
        match place:
            case Fixed(array):
                self.holding.append(array)
                return int(array.ctypes.data) + offset
            case StateRef(index):
                return Address(Segment.TABLES, FIRST_STATE + 2 * index)
            case Buffer(index):
                return self._touch(index, offset)
            case Packed(values):
                self.holding.append(values)
                return int(values.ctypes.data) + offset

    def temporary(self, size: int) -> Address:
        """Return memory of `size` bytes per token for the steps that mention it."""
        index = -2 - len(self.spaces)
        self.declare(index, size)
        return self._touch(index, 0)

    def given(self, index: int, size: int, segment: Segment | None = None) -> Address:
        """Return a buffer that is filled before the first step."""
        self.declare(index, size, segment)
        self.used.setdefault(index, []).append(0)
        return self._touch(index, 0)

    def sequence(self) -> Address:
        """Return the table of each token's sequence."""
        return self.given(SEQUENCE, 8, Segment.STEP)

    def position(self) -> Address:
        """Return the table of each token's position."""
        return self.given(POSITION, 8, Segment.STEP)

    def lengths(self) -> Address:
        """Return the table of each sequence's context after the step."""
        return Address(Segment.TABLES, LENGTHS)

    def room(self, state: StateRef) -> Address:
        """Return the table of each sequence's room in a state."""
        return Address(Segment.TABLES, FIRST_STATE + 2 * state.index + 1)

    def filled(
        self, key: Hashable, fill: Callable[[Batch], tuple[Array, ...]], *sizes: int
    ) -> tuple[Address, ...]:
        """Return tables of so many bytes per token that are filled before a step; equal keys share them."""
        for known in self.tables:
            if known.key == key:
                return tuple(self._touch(buffer, 0) for buffer in known.buffers)
        first = SELECTION + 1 + sum(len(table.buffers) for table in self.tables)
        self.tables.append(Table(key, fill, tuple(range(first, first + len(sizes)))))
        return tuple(self.given(first + i, size, Segment.STEP) for i, size in enumerate(sizes))

    def _touch(self, index: int, offset: int) -> Address:
        self.used.setdefault(index, []).append(len(self.steps))
        return Address(self.spaces[index].segment, offset, index)

    def emit(
        self, instruction: Instruction, /, *groups: Mapping[str, Operand], **operands: Operand
    ) -> None:
        """Append an instruction with operands by name; the buffers that it mentions live at least until it.

        Raises `TypeError` for an operand that is missing, unknown, doubled or of another kind.
        """
        step = invocation(instruction, *groups, operands)
        for argument in step.ints:
            if isinstance(argument, Address) and argument.buffer in self.spaces:
                self.used[argument.buffer].append(len(self.steps))
        self.steps.append(step)

    def leave(self, operation: Operation) -> None:
        """Append an operation for the reference kernel."""
        for place in (*operation.inputs, *operation.outputs):
            self.at(place)
        self.steps.append(Uncompiled(operation))

    def keep(self, place: Place) -> None:
        """Keep a buffer alive up to here."""
        self.at(place)

    def finish(self) -> Code:
        """Place every buffer and return the program."""
        session = {i for i, space in self.spaces.items() if space.segment in SESSION}
        used = {i: (*at, len(self.steps)) if i in session else at for i, at in self.used.items()}
        sizes, offsets = allocate(self.spaces, used, self.selected)
        ends = [
            offsets[index] + rounded(self.spaces[index].bytes)
            for index, at in used.items()
            if self.spaces[index].segment is Segment.BODY and max(at) >= self.head_start
        ]
        # A single value is moved down within its own memory; of several, one could be moved onto another.
        beneath = max(ends, default=0) if len(ends) > 1 else 0
        return Code(
            tuple(self.steps), offsets, sizes, self.spaces, tuple(self.holding),
            tuple(self.tables), self.scratch, self.score_rows, beneath,
        )  # fmt: skip


def kind_of(dtype: object) -> int:
    """Return the storage kind of a floating dtype that instructions can read, as `lanes` numbers them."""
    for kind, known in enumerate((F32, BF16, F16)):
        if dtype == known:
            return kind
    raise TypeError(f"no instruction reads {dtype}")


@dataclass(frozen=True, slots=True)
class Code:
    """Steps with placed buffers. `holding` keeps alive the arrays whose addresses the steps contain.

    The head's values lie behind the first `beneath_head` bytes per token of the body's, which it reads.
    """

    steps: tuple[Step, ...]
    offsets: dict[int, int]
    bytes_per_token: dict[Segment, int]
    spaces: dict[int, Space]
    holding: tuple[Array, ...]
    tables: tuple[Table, ...]
    scratch: int
    score_rows: int
    beneath_head: int

    def address(self, index: int, bases: Array, counts: Array) -> int:
        """Return where a buffer is for given segment addresses and token counts."""
        segment = self.spaces[index].segment
        return int(bases[segment] + self.offsets[index] * counts[segment])
