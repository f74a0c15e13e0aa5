# SPDX-License-Identifier: Apache-2.0
"""Schedules by rule: direct, ring, recursive halving and doubling, dimension by dimension, over nodes, in the switch.

Each template says which operations it does, on which topologies, and which sums it may do: a ring adds in the order of
its chips, which is no order of the declared tree, so it is for gathers and for sums that are exact. The schedules are
right by construction and proven by `verify` like all others. What is fastest is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.program import OPERATIONS, SUMS, Program, share
from device_model.collectives.sums import subtrees
from device_model.collectives.topology import Topology
from dsl.diagnostics import Refused, did_you_mean, refuse

Table = NDArray[np.int64]
"""Sends by rows: step, source, target, chunk, add."""

MOST_PIECES = 4096
MOST_TEMPLATE_SENDS = 4_000_000


Rule = Callable[[Topology, int], Table]
"""Sends on a topology with so many pieces a chip."""


@dataclass(frozen=True, slots=True)
class Template:
    """A rule that makes schedules; all follow from a gather.

    `scatter` is there where sums are not the gather run backwards, `reduce` where an all_reduce is not both.
    """

    says: str
    fits: Callable[[Topology], str]
    """Why a topology does not fit, if so."""
    sums: Callable[[Topology], str]
    """Why sums in the declared order cannot be done, if so."""
    gather: Rule
    scatter: Rule | None = None
    reduce: Rule | None = None
    exchange: Rule | None = None
    """What makes an all_to_all."""
    ways: Callable[[Topology], int] = lambda topology: 1
    """Chunks that each piece is cut into."""


def template(
    name: str, operation: str, topology: Topology, pieces: int = 1, order: str = "tree"
) -> Program:
    """Return the schedule that a template makes; raises `Refused` where it does not apply (S629).

    A chip's share of the buffer goes in `pieces`, so that links work on one while another is on its way.
    """
    if name not in TEMPLATES:
        raise _refused(f"unknown template `{name}`", did_you_mean(name, TEMPLATES))
    if operation not in OPERATIONS:
        raise _refused(f"unknown operation `{operation}`", did_you_mean(operation, OPERATIONS))
    rule = TEMPLATES[name]
    head = f"`{name}` makes no {operation} over {topology.name}"
    if reason := rule.fits(topology):
        raise _refused(f"{head}: {reason}")
    if operation in SUMS and order == "tree" and (reason := rule.sums(topology)):
        hint = "sums that are exact in any order may be: `--exact`"
        raise _refused(f"{head} in the declared order: {reason}", hint)
    parts = pieces * rule.ways(topology)
    _check_sends(head, operation, topology, pieces, parts)
    # A buffer that all have is cut like one that is scattered.
    cut = "reduce_scatter" if operation == "all_reduce" else operation
    chunks = parts * share(cut, topology.chips)
    table = _table(rule, operation, topology, pieces, parts)
    if table is None:
        raise _refused(f"{head}: each chip has something else for each, which it does not know")
    return _program(operation, topology, chunks, table, order)


def _table(
    rule: Template, operation: str, topology: Topology, pieces: int, parts: int
) -> Table | None:
    """Return the sends of an operation, by what a template says of it; `None` of what it does not make."""
    if operation == "all_to_all":
        return rule.exchange(topology, pieces) if rule.exchange else None
    if operation == "all_reduce" and rule.reduce:
        return rule.reduce(topology, pieces)
    gather = rule.gather(topology, pieces)
    if operation == "all_gather":
        return gather
    if operation == "broadcast":
        return gather[gather[:, 3] < parts]
    # The reverse has the gather's pieces, a scattering of its own as many as the ways make them.
    scatter = rule.scatter(topology, parts) if rule.scatter else _reversed(gather)
    return scatter if operation == "reduce_scatter" else _then(scatter, gather)


def _refused(message: str, help: str = "") -> Refused:
    return refuse("S629", message, place="collective template", help=help)


def _check_sends(head: str, operation: str, topology: Topology, pieces: int, parts: int) -> None:
    if not 1 <= pieces <= MOST_PIECES:
        raise _refused(f"{head}: {pieces} pieces; 1 to {MOST_PIECES:,} are made")
    rounds = 2 if operation == "all_reduce" else 1
    many = parts * topology.chips * (1 if operation == "broadcast" else topology.chips) * rounds
    if many > MOST_TEMPLATE_SENDS:
        raise _refused(
            f"{head}: about {many:,} sends, at most {MOST_TEMPLATE_SENDS:,} are written",
            "take fewer pieces, or fewer chips",
        )


def _program(operation: str, topology: Topology, chunks: int, table: Table, order: str) -> Program:
    rows = table[np.argsort(table[:, 0], kind="stable")]
    used = np.unique(rows[:, 0])
    begins = np.append(np.searchsorted(rows[:, 0], used), len(rows))
    return Program.packed(operation, topology, chunks, begins, rows[:, 1:], order)


def _rows(
    step: NDArray[np.integer] | int,
    source: NDArray[np.integer] | int,
    target: NDArray[np.integer] | int,
    chunk: NDArray[np.integer] | int,
    add: bool = False,
) -> Table:
    """Return a table of sends of which some columns are the same for all."""
    columns = np.broadcast_arrays(step, source, target, chunk, int(add))
    return np.stack([np.asarray(c, np.int64).ravel() for c in columns], 1)


def _reversed(gather: Table) -> Table:
    """Return the reduction that is a gather run backwards: each chunk's parts flow to where the chunk came from."""
    last = gather[:, 0].max(initial=0)
    return _rows(last - gather[:, 0], gather[:, 2], gather[:, 1], gather[:, 3], add=True)


def _then(first: Table, second: Table) -> Table:
    later = second.copy()
    later[:, 0] += first[:, 0].max(initial=-1) + 1
    return np.concatenate([first, later])


def _empty() -> Table:
    return np.zeros((0, 5), np.int64)


# Each to each.


def _pairs(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs of n, first the next neighbours, then those after: so no two meet at one port."""
    apart, source = (
        (x.ravel() for x in np.mgrid[1:n, 0:n]) if n > 1 else (np.zeros(0, np.int64),) * 2
    )
    return source, (source + apart) % max(n, 1)


def _direct_gather(topology: Topology, pieces: int) -> Table:
    source, target = _pairs(topology.chips)
    return np.concatenate(
        [_rows(0, source, target, source * pieces + piece) for piece in range(pieces)]
    )


def _direct_exchange(topology: Topology, pieces: int) -> Table:
    source, target = _pairs(topology.chips)
    chunk = (source * topology.chips + target) * pieces
    return np.concatenate([_rows(0, source, target, chunk + piece) for piece in range(pieces)])


# One after the other.


def _ring_gather(topology: Topology, pieces: int) -> Table:
    """One half of each chip's share goes round one way, the other the other way."""
    n = topology.chips
    if n == 1:
        return _empty()
    step, origin, piece = (x.ravel() for x in np.mgrid[0 : n - 1, 0:n, 0:pieces])
    chunk = 2 * (origin * pieces + piece)
    ahead = _rows(step, (origin + step) % n, (origin + step + 1) % n, chunk)
    back = _rows(step, (origin - step) % n, (origin - step - 1) % n, chunk + 1)
    return np.concatenate([ahead, back])


# Halving and doubling.


def _doubling(topology: Topology, pieces: int) -> Table:
    """From the highest bit of a rank down; where chips have neighbours only, dimension by dimension instead."""
    if topology.dims:
        return _grid_gather(topology, pieces)
    halves = _halving(topology, pieces)
    return _rows(
        halves[:, 0].max(initial=0) - halves[:, 0], halves[:, 2], halves[:, 1], halves[:, 3]
    )


def _halving(topology: Topology, pieces: int) -> Table:
    """From the lowest bit of a rank up, as the declared tree adds: what a partner keeps is sent to it."""
    if topology.dims:
        return _grid_scatter(topology, pieces)
    n = topology.chips
    tables, step, bit = [_empty()], 0, 1
    chip, chunk = (x.ravel() for x in np.indices((n, n * pieces)))
    differs = (chunk // pieces) ^ chip
    while bit < n:
        # A chip still has to do with what agrees with it below this bit, and gives away what differs at it.
        gives = (differs & (2 * bit - 1)) == bit
        tables.append(_rows(step, chip[gives], chip[gives] ^ bit, chunk[gives], add=True))
        step, bit = step + 1, bit << 1
    return np.concatenate(tables)


def _grid_scatter(topology: Topology, pieces: int) -> Table:
    """The tree in each dimension, the last one first, as its chips have neighbouring ranks."""
    at = topology.coordinates().astype(np.int64)
    n, sizes = topology.chips, topology.dims
    stride = np.append(np.cumprod(np.asarray(sizes[::-1]))[::-1][1:], 1)
    owner, chip = (x.ravel() for x in np.indices((n, n)))
    apart = at[owner] != at[chip]
    tables, step = [_empty()], 0
    for axis in reversed(range(len(sizes))):
        length = 0
        for goal in range(sizes[axis]):
            # One chip of each line in which the chunk still is, for the chunks that end at this place in it.
            lines = ~apart[:, axis + 1 :].any(1) & (at[chip, axis] == 0) & (at[owner, axis] == goal)
            base, own = chip[lines], owner[lines]
            _, last, moves = _toward(0, sizes[axis], goal, topology.shape.kind == "torus")
            length = max(length, last)
            for when, here, there, add in moves:
                ends = base + here * stride[axis], base + there * stride[axis]
                tables += [
                    _rows(step + when, *ends, own * pieces + piece, add=add)
                    for piece in range(pieces)
                ]
        step += length
    return np.concatenate(tables)


Moves = list[tuple[int, int, int, bool]]
"""Sends on a line: step, from, to, whether it adds."""


def _toward(low: int, high: int, goal: int, wraps: bool) -> tuple[int, int, Moves]:
    """Return how a part of a line is added at its place next to a goal: where, in how many steps, the sends.

    The half that is further off is added at its end next to the other one and goes on from there, by way of chips
    whose own part has gone already; round a ring, by whichever end is nearer.
    """
    if high - low == 1:
        return low, 0, []
    middle = low + (high - low) // 2
    near, far = (low, middle), (middle, high)
    if goal >= middle:
        near, far = far, near
    place, ready, moves = _toward(*near, goal, wraps=False)
    ends = (far[0], near[1] - 1) if far[0] == middle else (far[1] - 1, near[0])
    if wraps and abs(place - ends[1]) > abs(place - (near[0] + near[1] - 1 - ends[1])):
        ends = (far[0] + far[1] - 1 - ends[0], near[0] + near[1] - 1 - ends[1])
    start, other, more = _toward(*far, ends[0], wraps=False)
    way = 1 if place > ends[1] else -1
    path = [start, *range(ends[1], place, way), place]
    step = max(ready, other)
    hops = [(step + hop, a, b, b == place) for hop, (a, b) in enumerate(pairwise(path))]
    return place, step + len(hops), [*moves, *more, *hops]


# Dimension by dimension.


def _grid_ways(topology: Topology) -> int:
    """Each dimension is first for a part of the chunks; on rings halves go both ways."""
    if not topology.dims:
        return 1
    return len(topology.dims) * (2 if topology.shape.kind == "torus" else 1)


def _grid_gather(topology: Topology, pieces: int) -> Table:
    dims = len(topology.dims)
    tables = [_empty()]
    for first in range(dims):
        order = [(first + k) % dims for k in range(dims)]
        tables += [_grid_part(topology, pieces, order, first, way) for way in range(2)]
    return np.concatenate(tables)


def _grid_part(topology: Topology, pieces: int, order: list[int], first: int, way: int) -> Table:
    """Return the sends one way round of the chunks that take the dimensions in an order."""
    wraps, ways = topology.shape.kind == "torus", _grid_ways(topology)
    at = topology.coordinates().astype(np.int64)
    n, sizes = topology.chips, topology.dims
    stride = np.append(np.cumprod(np.asarray(sizes[::-1]))[::-1][1:], 1)
    owner, chip = (x.ravel() for x in np.indices((n, n)))
    apart = at[owner] != at[chip]
    tables, step, done = [_empty()], 0, np.zeros(len(sizes), bool)
    for axis in order:
        # Chips that have the chunk differ from its owner only in dimensions that are done.
        has = ~apart[:, ~done].any(1)
        own, holder = owner[has], chip[has]
        here = at[holder, axis]
        for hop in range(sizes[axis] - 1):
            move = -1 if way else 1
            now, then = here + hop * move, here + (hop + 1) * move
            inside = np.ones(len(here), bool) if wraps else (then >= 0) & (then < sizes[axis])
            now, then = now % sizes[axis], then % sizes[axis]
            base = holder - here * stride[axis]
            for piece in range(pieces):
                chunk = (own * pieces + piece) * ways + (first * 2 + way if wraps else first)
                sends = _rows(
                    step + hop, base + now * stride[axis], base + then * stride[axis], chunk
                )
                tables.append(sends[inside])
        step, done[axis] = step + max(sizes[axis] - 1, 0), True
    return np.concatenate(tables)


# Over nodes, and in the switch.


def _nodes_gather(topology: Topology, pieces: int) -> Table:
    """To the chips of the same number in all other nodes, and from each to all others of its node."""
    count, inside = topology.shape.sizes
    chip = np.arange(topology.chips)
    node, number = chip // inside, chip % inside
    tables = [_empty()]
    for far in range(count):
        there = (node + far) % count * inside + number
        for piece in range(pieces):
            when = far * pieces + piece
            if far:
                tables.append(_rows(when, chip, there, chip * pieces + piece))
            for near in range(1, inside):
                peer = there // inside * inside + (number + near) % inside
                tables.append(_rows(when + 1, there, peer, chip * pieces + piece))
    return np.concatenate(tables)


def _nodes_scatter(topology: Topology, pieces: int) -> Table:
    """All parts of a node meet in one step, then all nodes' in another, so that both are added by the tree."""
    scatter = _reversed(_nodes_gather(topology, pieces))
    # What has the longest way is written first, so that the network starts early.
    scatter = scatter[np.argsort(scatter[:, 0], kind="stable")]
    inside = topology.domain
    scatter[:, 0] = scatter[:, 1] // inside != scatter[:, 2] // inside
    return scatter


def _switch_gather(topology: Topology, pieces: int) -> Table:
    """Chunks go up in one step and down to all others in the next, as the following go up."""
    n = topology.chips
    chunk, chip = (x.ravel() for x in np.indices((n * pieces, n)))
    every, other = np.arange(n * pieces), chip != chunk // pieces
    up = _rows(every % pieces, every // pieces, n, every)
    down = _rows(chunk[other] % pieces + 1, n, chip[other], chunk[other])
    return np.concatenate([up, down])


def _switch_sums(topology: Topology, pieces: int, *, all_chips: bool) -> Table:
    n = topology.chips
    chunk, chip = (x.ravel() for x in np.indices((n * pieces, n)))
    keep = np.full(len(chip), all_chips) | (chip == chunk // pieces)
    up = _rows(chunk, chip, n, chunk, add=True)
    return np.concatenate([up, _rows(chunk[keep] + 1, n, chip[keep], chunk[keep])])


def _anywhere(topology: Topology) -> str:
    return ""


def _each_to_each(topology: Topology) -> str:
    kinds = ("full", "switch", "nodes")
    return "" if topology.shape.kind in kinds or topology.chips == 1 else "not all chips are linked"


def _round(topology: Topology) -> str:
    n = topology.chips
    at = np.arange(n)
    if topology.shape.kind in ("switch", "nodes", "full") or n == 1:
        return ""
    both = [topology.link(at, (at + 1) % n), topology.link((at + 1) % n, at)]
    return "" if np.all(np.stack(both) >= 0) else "the chips in their order are no ring"


def _powers(topology: Topology) -> str:
    sizes = topology.dims or (topology.chips,)
    if any(size & (size - 1) for size in sizes):
        return "sizes are no powers of two"
    return "" if topology.dims else _each_to_each(topology)


def _grid(topology: Topology) -> str:
    return "" if topology.dims else "it has no dimensions"


def _nodes(topology: Topology) -> str:
    return "" if topology.shape.kind == "nodes" else "it has no nodes"


def _blocks(topology: Topology) -> str:
    inside = topology.domain
    trees = {(int(a), int(b)) for a, b in subtrees(topology.chips)}
    whole = all((at, at + inside) in trees for at in range(0, topology.chips, inside))
    return "" if whole else "the chips of a node are no subtree of the declared tree"


def _in_order(topology: Topology) -> str:
    return "a ring adds in the order of its chips" if topology.chips > 2 else ""


def _adding(topology: Topology) -> str:
    if topology.shape.kind != "switch":
        return "it has no single switch"
    return "" if topology.shape.reduces else "its switch does not reduce"


def _told(topology: Topology) -> str:
    told = topology.shape.reduces == "tree"
    return "" if told else "this switch does not tell the order in which it adds"


TEMPLATES: dict[str, Template] = {
    "direct": Template(
        "each chip sends to all others; sums meet in one step",
        _each_to_each, _anywhere, _direct_gather, exchange=_direct_exchange,
    ),
    "ring": Template(
        "round the chips in their order, halves both ways",
        _round, _in_order, _ring_gather, ways=lambda topology: 2,
    ),
    "halving": Template(
        "recursive halving and doubling, neighbours first",
        _powers, _anywhere, _doubling, _halving, ways=_grid_ways,
    ),
    "dimensions": Template(
        "dimension by dimension, each first for a part of the chunks",
        _grid, _in_order, _grid_gather, ways=_grid_ways,
    ),
    "nodes": Template(
        "inside each node, and between chips of one number",
        _nodes, _blocks, _nodes_gather, _nodes_scatter,
    ),
    "in-switch": Template(
        "the switch adds, and sends to all",
        _adding, _told, _switch_gather,
        partial(_switch_sums, all_chips=False), partial(_switch_sums, all_chips=True),
    ),
}  # fmt: skip
"""By name; `says` is what help tells of them."""
