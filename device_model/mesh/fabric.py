# SPDX-License-Identifier: Apache-2.0
"""What the chips of a mesh exchange arrays through.

A fabric moves bytes and adds nothing up: sums are the caller's, in the order that the program declares. Knows no
collective's meaning, and no algorithm that a chip would use for it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A meeting of chips as planned: the same on each chip of its group.

    `number` is its place in the program and counts up within a step, `op` the operation (`all_reduce`, `send`),
    `group` the ranks in order, `span` the place in the text (`llama.sohu:41`).
    """

    number: int
    op: str
    group: tuple[int, ...]
    span: str = field(default="", compare=False)

    def __str__(self) -> str:
        ranks = ", ".join(str(rank) for rank in self.group)
        return f"{self.op} {self.number} of ranks {ranks}" + (
            f" ({self.span})" if self.span else ""
        )


class Fabric(Protocol):
    """How a rank meets the others; each rank calls from a thread of its own.

    An array that was handed in may be read by others until the step ends: its owner does not write to it. Arrays that
    are handed out are not written to either. A failure is `Refused` on every rank, and names the rank that is at fault.
    """

    def exchange(self, rank: int, step: int, what: Exchange, part: Array) -> list[Array]:
        """Return the arrays of all ranks of the group in its order; parts may differ in their first axis."""
        ...

    def send(self, rank: int, step: int, what: Exchange, part: Array) -> None:
        """Hand an array to the second rank of the group, which has two, without waiting for it."""
        ...

    def receive(self, rank: int, step: int, what: Exchange) -> Array:
        """Return what the first rank of the group sent to this one."""
        ...


Meeting: TypeAlias = tuple[Exchange, Array]
Program: TypeAlias = Generator[Meeting, list[Array], Made]
"""What a rank does as far as its meetings: yields each with its part, is sent the parts of all."""


def driven(program: Program[Made], rank: int, step: int, fabric: Fabric) -> Made:
    """Return what a program gives when its meetings take place on a fabric."""
    try:
        what, part = next(program)
        while True:
            what, part = program.send(fabric.exchange(rank, step, what, part))
    except StopIteration as end:
        made: Made = end.value
        return made
