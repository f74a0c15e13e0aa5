# SPDX-License-Identifier: Apache-2.0
"""What an instruction is: a name, its compiled kernel, and operands that have the names of the kernel's parameters.

A row stands beside its kernel, and the table of kernels numbers the rows. The order of operands in memory is that of
the row, and is written down nowhere else. Nothing here is compiled or run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from device_model.machine.deferred import Compiled
from device_model.program.arena import Segment

CONTEXT = ("part", "parts", "scratch")
"""What every kernel takes after its operands: which thread of how many it is, and that thread's scratch memory."""


@dataclass(frozen=True, slots=True)
class Address:
    """A byte of a buffer in a segment, or a row of the session's table.

    With `count` it is no address: it is that many times the segment's number of tokens.
    """

    segment: Segment
    offset: int = 0
    buffer: int = -1
    count: int = 0


Argument: TypeAlias = int | Address
Operand: TypeAlias = int | float | Address


@dataclass(frozen=True, slots=True, eq=False)
class Instruction:
    """One instruction of the machine: operands that are whole numbers or addresses, then those that are reals."""

    name: str
    kernel: Compiled
    ints: tuple[str, ...]
    reals: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a row whose kernel takes other parameters."""
        operands = (*self.ints, *self.reals, *CONTEXT)
        if tuple(self.kernel.parameters) != operands:
            taken = ", ".join(self.kernel.parameters)
            raise TypeError(
                f"instruction `{self.name}` has {', '.join(operands)}; it takes {taken}"
            )

    @classmethod
    def of(cls, name: str, kernel: Compiled) -> Instruction:
        """Return the row of a kernel; its parameters say which operands are `int` and which `float`."""
        operands = {key: kind for key, kind in kernel.parameters.items() if key not in CONTEXT}
        ints, reals = (
            tuple(key for key, kind in operands.items() if kind == wanted)
            for wanted in ("int", "float")
        )
        return cls(name, kernel, ints, reals)


@dataclass(frozen=True, slots=True)
class Invocation:
    """An instruction with its operands, in the order of the row."""

    instruction: Instruction
    ints: tuple[Argument, ...]
    reals: tuple[float, ...]


def invocation(instruction: Instruction, *groups: Mapping[str, Operand]) -> Invocation:
    """Put named operands in order; raises `TypeError` for one that is missing, unknown, doubled or of another kind."""
    given: dict[str, Operand] = {}
    for group in groups:
        for name, value in group.items():
            if name in given:
                raise TypeError(f"instruction `{instruction.name}`: operand `{name}` is doubled")
            given[name] = value
    known = (*instruction.ints, *instruction.reals)
    for name in (*known, *given):
        if name not in given:
            raise TypeError(f"instruction `{instruction.name}`: operand `{name}` is missing")
        if name not in known:
            raise TypeError(f"instruction `{instruction.name}`: operand `{name}` is unknown")
    return Invocation(
        instruction,
        tuple(_whole(instruction, name, given[name]) for name in instruction.ints),
        tuple(_real(instruction, name, given[name]) for name in instruction.reals),
    )


def _whole(instruction: Instruction, name: str, value: Operand) -> Argument:
    if isinstance(value, int | Address):
        return value
    raise TypeError(f"instruction `{instruction.name}`: operand `{name}` is no int: {value!r}")


def _real(instruction: Instruction, name: str, value: Operand) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise TypeError(f"instruction `{instruction.name}`: operand `{name}` is no number: {value!r}")


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """The instructions of a machine; their opcodes are their places in `rows`, from 1."""

    rows: tuple[Instruction, ...]

    def __post_init__(self) -> None:
        """Refuse two rows of one name."""
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError("two instructions share a name")

    @property
    def ints(self) -> int:
        """Return how many whole operands an instruction has at most."""
        return max(len(row.ints) for row in self.rows)

    @property
    def reals(self) -> int:
        """Return how many real operands an instruction has at most."""
        return max(len(row.reals) for row in self.rows)

    def opcode(self, instruction: Instruction) -> int:
        """Return the number of an instruction; raises `LookupError` for one that is not in the set."""
        for number, row in enumerate(self.rows, start=1):
            if row is instruction:
                return number
        raise LookupError(f"the machine has no instruction `{instruction.name}`")
