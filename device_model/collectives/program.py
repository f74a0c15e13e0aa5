# SPDX-License-Identifier: Apache-2.0
"""A collective program: which chunk goes over which link in which step, in arrays; what each operation asks for.

The sends of a step read what was there before the step. What arrives with `add` is added to what is there; several that
arrive at one place in one step are added as the declared tree says. A plain send puts the value in place of what is
there. Nothing waits at the end of a step: a send waits for its chunk, and for the sends that are before it on its link.
What is right is decided in `verify`, what is fast in `events`.

Chunks of n chips, c in all: of `all_gather` chunk k begins on chip k // (c / n); of `reduce_scatter` it ends there, and
each chip begins with a part of every chunk; of `all_reduce` they are parts of one buffer that everybody has; of
`broadcast` all begin on chip 0; of `all_to_all` chunk k goes from chip k // (c / n) to chip k // (c / n²) mod n.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.topology import Ints, Topology

OPERATIONS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "broadcast")
SUMS = ("reduce_scatter", "all_reduce")
ORDERS = ("tree", "any")
"""Sums as the declared tree says, or of numbers whose sums are exact in any order."""
MAX_SENDS = 20_000_000


class Send(NamedTuple):
    """One chunk over one link, or through switches; `add` adds it to what the target has."""

    source: int
    target: int
    chunk: int
    add: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """A schedule of an operation over a topology; the sends of step s are those from `begins[s]` to `begins[s + 1]`.

    Within a step the order of the sends is their order on a link that they share. `order` is one of ORDERS.
    """

    operation: str
    topology: Topology
    chunks: int
    begins: NDArray[np.int64]
    source: Ints
    target: Ints
    chunk: Ints
    add: NDArray[np.bool_]
    order: str = "tree"

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS or self.order not in ORDERS:
            raise ValueError(
                f"{self.operation}, {self.order}: no operation, or no order, of a program"
            )
        if self.chunks < 1 or self.chunks % share(self.operation, self.topology.chips):
            raise ValueError(f"{self.operation}: {self.chunks} chunks do not divide over the chips")
        sizes = {len(x) for x in (self.source, self.target, self.chunk, self.add)}
        if (
            sizes != {int(self.begins[-1])}
            or self.begins[0] != 0
            or np.any(np.diff(self.begins) < 0)
        ):
            raise ValueError("a program's steps cover its sends in order")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Program)
            and (self.operation, self.order, self.chunks)
            == (other.operation, other.order, other.chunks)
            and self.topology == other.topology
            and all(
                np.array_equal(getattr(self, name), getattr(other, name))
                for name in ("begins", "source", "target", "chunk", "add")
            )
        )

    __hash__ = None  # type: ignore[assignment]  # arrays inside

    @classmethod
    def of(
        cls,
        operation: str,
        topology: Topology,
        chunks: int,
        steps: Iterable[Iterable[Send | tuple[int, int, int] | tuple[int, int, int, bool]]],
        order: str = "tree",
    ) -> Self:
        """Return a program of steps of sends; a send without a fourth entry does not add."""
        rows = [[(*send, False)[:4] for send in step] for step in steps]
        flat = np.asarray([send for step in rows for send in step], np.int64).reshape(-1, 4)
        begins = np.cumsum([0, *(len(step) for step in rows)])
        return cls.packed(operation, topology, chunks, begins, flat, order)

    @classmethod
    def packed(
        cls,
        operation: str,
        topology: Topology,
        chunks: int,
        begins: NDArray[np.integer],
        sends: NDArray[np.integer],
        order: str = "tree",
    ) -> Self:
        """Return a program of a table of sends, [sends, (source, target, chunk, add)]."""
        source, target, chunk = (np.ascontiguousarray(sends[:, i], np.int32) for i in range(3))
        add = sends[:, 3].astype(bool)
        starts = np.asarray(begins, np.int64)
        return cls(operation, topology, chunks, starts, source, target, chunk, add, order)

    @property
    def sends(self) -> int:
        """Return the number of sends."""
        return len(self.source)

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return len(self.begins) - 1

    def step_of(self) -> Ints:
        """Return the step of each send."""
        return np.repeat(np.arange(self.steps, dtype=np.int32), np.diff(self.begins))

    def __iter__(self) -> Iterator[list[Send]]:
        """Yield the sends of each step."""
        table = zip(
            self.source.tolist(),
            self.target.tolist(),
            self.chunk.tolist(),
            self.add.tolist(),
            strict=True,
        )
        every = [Send(*row) for row in table]
        for first, last in zip(self.begins[:-1].tolist(), self.begins[1:].tolist(), strict=True):
            yield every[first:last]


def share(operation: str, chips: int) -> int:
    """Return what the number of chunks of an operation is a multiple of."""
    table = {"all_gather": chips, "reduce_scatter": chips, "all_to_all": chips * chips}
    return table.get(operation, 1)


def begins_at(operation: str, chips: int, chunks: int) -> Ints:
    """Return the chip on which each chunk begins, of an operation without sums."""
    if operation == "broadcast":
        return np.zeros(chunks, np.int32)
    return (np.arange(chunks) // (chunks // chips)).astype(np.int32)


def ends_at(operation: str, chips: int, chunks: int) -> Ints:
    """Return the one chip on which each chunk ends, -1 where it ends on all."""
    at = np.arange(chunks)
    if operation == "reduce_scatter":
        return (at // (chunks // chips)).astype(np.int32)
    if operation == "all_to_all":
        return (at // (chunks // chips**2) % chips).astype(np.int32)
    return np.full(chunks, -1, np.int32)


def chunk_bytes(program: Program, buffer: float) -> float:
    """Return the bytes of a chunk, for a buffer of the whole result of a gather, or of one chip's input otherwise.

    `all_to_all` has all chips' chunks in its numbering, so one chip's buffer is an n-th of them.
    """
    own = program.topology.chips if program.operation == "all_to_all" else 1
    return buffer * own / program.chunks
