# SPDX-License-Identifier: Apache-2.0
"""A schedule for a collective on a topology, found for its bytes: one of few searches, in as many chunks as pay.

Topologies that look alike from every chip are planned for one chip (`spreading`), others link by link (`greedy`,
`forwarding`). Sums are gathers run backwards, added in any order, so that they are for numbers whose sums are exact;
what adds as the declared tree says are the templates, which are tried for all else too. Whether a program is right is
proven in `verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.bound import Bound, bound
from device_model.collectives.chains import chains
from device_model.collectives.events import times
from device_model.collectives.forwarding import forwarded
from device_model.collectives.greedy import spread
from device_model.collectives.program import OPERATIONS, SUMS, Program, share
from device_model.collectives.spreading import routes, trees
from device_model.collectives.symmetric import Move, Symmetry, levels, symmetry
from device_model.collectives.templates import TEMPLATES, template
from device_model.collectives.topology import Ints, Topology
from dsl.diagnostics import Refused, did_you_mean, refuse

Table = NDArray[np.int64]
"""Sends, [sends, (step, source, target, chunk)]."""
Pace = Callable[[Program, float], float]
"""Seconds of a program for a buffer of so many bytes."""


def by_events(program: Program, size: float) -> float:
    """Return the seconds by events on links."""
    return times(program, size).seconds


MOST_CHIPS = 1024
MOST_FOUND = 300_000
"""Sends of a program that more pieces are tried for."""
MOST_WORK = 300_000_000
"""Chunks times chunks times links of a search link by link that more pieces are tried for."""
PIECES = (1, 2, 4, 8, 16)
TEMPLATE_PIECES = (1, 4, 16)
CHUNKS = (1, 16, 64, 256, 1024)
"""Chunks of a broadcast's buffer."""
ENOUGH = 1.01
"""A schedule within so much of the bound is not bettered."""
PAYS = 0.99
"""More pieces are taken where they save more than the rest."""
SEEDS, FEW = 3, 100_000
"""How often a search by chance is made, where it is of few sends."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A program with its seconds, how it was found, what bounds it, and how many were tried."""

    program: Program
    seconds: float
    method: str
    bound: Bound
    tried: int

    @property
    def excess(self) -> float:
        """Return how much of the bound it takes more than that, 0.02 where it takes 2 % more."""
        return self.seconds / self.bound.seconds - 1.0 if self.bound.seconds else 0.0


def find(
    operation: str, topology: Topology, size: float, pace: Pace = by_events, order: str = "any"
) -> Searched:
    """Return the quickest schedule of those searched for and of the templates'; raises `Refused` (S630).

    `size` are the bytes of the buffer: the whole result of a gather, one chip's input otherwise. Sums in the declared
    order (`order="tree"`) are the templates' alone.
    """
    if operation not in OPERATIONS:
        help_ = did_you_mean(operation, OPERATIONS) or f"there are {', '.join(OPERATIONS)}"
        raise _refused(f"`{operation}` is no collective", help_)
    if not 0 < size < np.inf:
        raise _refused(f"{size:g} bytes are no buffer")
    if topology.chips > MOST_CHIPS:
        raise _refused(f"{topology.chips:,} chips; a search is made for up to {MOST_CHIPS:,}")
    least = bound(operation, topology, size)
    if not np.isfinite(least.seconds):
        raise _refused(f"{topology.name} has no schedule: nothing leads {least.cut}")
    best: Searched | None = None
    tried = 0
    for method, program in _all_candidates(operation, topology, size, order):
        tried += 1
        seconds = pace(program, size)
        if best is None or seconds < PAYS * best.seconds:
            best = Searched(program, seconds, method, least, tried)
        if best.seconds <= ENOUGH * least.seconds:
            break
    if best is None:
        why = "no search is made for it, and no template fits"
        raise _refused(f"{topology.name}: {why}", "shapes such as `switch` and `nodes` are known")
    return replace(best, tried=tried)


def _refused(message: str, help: str = "") -> Refused:
    return refuse("S630", message, place="collective find", help=help)


def _all_candidates(
    operation: str, topology: Topology, size: float, order: str
) -> Iterator[tuple[str, Program]]:
    """Yield what is searched for, if any order of sums will do, and what templates make."""
    known = not topology.switches or symmetry(topology) is not None
    if known and (operation not in SUMS or order == "any"):
        yield from _candidates(operation, topology, size)
    for pieces in TEMPLATE_PIECES:
        if pieces > 1 and pieces * topology.chips**2 > FEW:
            return
        for name in TEMPLATES:
            try:
                program = template(name, operation, topology, pieces, order)
            except Refused:  # it does not fit
                continue
            yield f"template {name}", program


def _candidates(operation: str, topology: Topology, size: float) -> Iterator[tuple[str, Program]]:
    """Yield schedules of ever more pieces, with the name of their search."""
    if operation == "broadcast":
        yield from _broadcasts(topology)
        return
    group = symmetry(topology)
    whole = share("all_gather" if operation == "all_reduce" else operation, topology.chips)
    for pieces in PIECES:
        sends = pieces * topology.chips**2 * (2 if operation == "all_reduce" else 1)
        work = (topology.chips * pieces) ** 2 * topology.links
        if pieces > 1 and (sends > MOST_FOUND or (group is None and work > MOST_WORK)):
            return
        own = chunk_size(operation, topology.chips, whole * pieces, size)
        by_chance = group is None and operation != "all_to_all" and sends < FEW
        for seed in range(SEEDS if by_chance else 1):
            method, there, back = _both_ways(operation, topology, group, pieces, own, seed)
            yield method, _program(operation, topology, whole * pieces, there, back)


def chunk_size(operation: str, chips: int, chunks: int, size: float) -> float:
    """Return the bytes of a chunk, as `program.chunk_bytes` of a program that is not made yet."""
    return size * (chips if operation == "all_to_all" else 1) / chunks


def _both_ways(
    operation: str, topology: Topology, group: Symmetry | None, pieces: int, own: float, seed: int
) -> tuple[str, Table, Table]:
    """Return an exchange or a gather, with its search, and the gather that sums are when it is run backwards."""
    if operation == "all_to_all":
        method, table = _exchanged(topology, group, pieces, own)
        return method, table, table
    method, table = _gathered(topology, group, pieces, own, seed)
    if operation not in SUMS or topology.shape.kind != "links":
        return method, table, table
    # A gather that is run backwards needs its links the other way.
    return method, table, _gathered(_turned(topology), group, pieces, own, seed)[1]


def _gathered(
    topology: Topology, group: Symmetry | None, pieces: int, own: float, seed: int
) -> tuple[str, Table]:
    """Return a gather, with the name of its search."""
    if group is not None:
        return "one chip's trees, shifted", _spread_out(group, trees(group, pieces, own), pieces)
    begins = np.repeat(np.arange(topology.chips, dtype=np.int32), pieces)
    return "greedy, the rarest first", _greedy(topology, begins, seed)


def _greedy(topology: Topology, begins: Ints, seed: int = 0) -> Table:
    return _numbered(spread(topology, begins, seed))


def _exchanged(
    topology: Topology, group: Symmetry | None, pieces: int, own: float
) -> tuple[str, Table]:
    """Return an all_to_all."""
    if group is not None:
        return "one chip's routes, shifted", _routed_out(group, routes(group, pieces, own), pieces)
    return "the farthest first, link by link", _numbered(forwarded(topology, pieces))


def _broadcasts(topology: Topology) -> Iterator[tuple[str, Program]]:
    for chunks in CHUNKS:
        if chunks * topology.chips > MOST_FOUND:
            return
        if topology.switches:
            table, method = chains(topology, chunks), "chains of all nodes"
        else:
            table = _greedy(topology, np.zeros(chunks, np.int32))
            method = "greedy, the rarest first"
        yield method, _program("broadcast", topology, chunks, table, table)


def _turned(topology: Topology) -> Topology:
    """Return a topology with its links the other way."""
    order = np.lexsort((topology.source, topology.target))
    return Topology(
        topology.name,
        topology.shape,
        topology.chips,
        topology.switches,
        topology.target[order],
        topology.source[order],
        topology.capacity[order],
        topology.latency[order],
        topology.dims,
        topology.domain,
    )


def _program(
    operation: str, topology: Topology, chunks: int, gather: Table, back: Table
) -> Program:
    """Return the program of a gather, an exchange or a broadcast, or of the sums that `back` run backwards is."""
    parts = [np.column_stack([gather, np.zeros(len(gather), np.int64)])]
    if operation in SUMS:
        last = int(back[:, 0].max(initial=-1))
        ends = back[:, [2, 1, 3]]
        sums = np.column_stack([last - back[:, 0], ends, np.ones(len(back), np.int64)])[::-1]
        later = parts[0] + np.asarray([last + 1, 0, 0, 0, 0])
        parts = [sums, later] if operation == "all_reduce" else [sums]
    table = np.concatenate(parts)
    table = table[np.argsort(table[:, 0], kind="stable")]
    steps = int(table[:, 0].max(initial=-1)) + 1
    begins = np.searchsorted(table[:, 0], np.arange(steps + 1))
    order = "any" if operation in SUMS else "tree"
    return Program.packed(operation, topology, chunks, begins, table[:, 1:], order)


def _numbered(steps: list[Table]) -> Table:
    """Return the sends of steps with the number of their step before them."""
    rows = [np.column_stack([np.full(len(step), n), step]) for n, step in enumerate(steps)]
    return np.concatenate([np.zeros((0, 4), np.int64), *rows])


def _columns(moves: list[Move]) -> tuple[Ints, Ints, Ints, Ints]:
    """Return step, source, target and piece of moves."""
    rows = [(s, m.source, m.target, m.piece) for s, m in zip(levels(moves), moves, strict=True)]
    table = np.asarray(rows, np.int32).reshape(-1, 4)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def _shifted(group: Symmetry, moves: list[Move]) -> tuple[NDArray[np.int64], ...]:
    """Return step, source, target and piece of moves, and the chip that they are shifted to, of all chips."""
    step, source, target, piece = _columns(moves)
    shift = group.shifts
    begin, end = (group.plus(at[:, None], shift[None, :]).ravel() for at in (source, target))
    steps, pieces = (np.repeat(at.astype(np.int64), group.chips) for at in (step, piece))
    return steps, begin, end, pieces, np.tile(shift, len(source))


def _spread_out(group: Symmetry, moves: list[Move], pieces: int) -> Table:
    """Return the gather in which every chip's pieces follow the plan of chip 0."""
    step, source, target, piece, chip = _shifted(group, moves)
    return np.column_stack([step, source, target, chip * pieces + piece])


def _routed_out(group: Symmetry, moves: list[Move], pieces: int) -> Table:
    """Return the exchange in which every chip's pieces follow the plan of chip 0."""
    step, source, target, piece, chip = _shifted(group, moves)
    to, number = np.divmod(piece, pieces)
    chunk = (chip * group.chips + group.plus(to, chip)) * pieces + number
    return np.column_stack([step, source, target, chunk])
