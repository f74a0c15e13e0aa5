# SPDX-License-Identifier: Apache-2.0
"""Into which leaves a cut sum falls, and which run of a component's units each chip of a mesh axis has.

Leaves follow from sizes alone, so that a sum is the same tree on every mesh. Chips get runs of whole leaves, as even as
they can be. Of heads that share keys each chip has whole groups, or a part of one: never parts of two. A component that
is never contracted is cut anywhere between its units. Which meshes a program allows is told, not decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from dsl.mesh.components import Component, Components

FEW_LEAVES, MANY_LEAVES = 8, 16
"""Leaves of a shorter and of a longer sum: meshes go as far as there are leaves, and each leaf costs an addition."""
LONG = 2048
"""Elements from which a sum is longer."""
SHORT, LEAST = 512, 128
"""Elements below which a sum is cut as finely as it can be, and those that a part of a group of heads has else."""
QUANTUM = 128
"""The largest power of two that leaves are whole multiples of, where sizes allow: what blocks of scales have."""


@dataclass(frozen=True, slots=True)
class Run:
    """The units, and the leaves where there are some, that one chip has."""

    start: int
    stop: int
    first_leaf: int = 0
    last_leaf: int = 0

    @property
    def units(self) -> int:
        """Return how many units there are."""
        return self.stop - self.start


def leaf_borders(part: Component) -> tuple[int, ...]:
    """Return the borders in units of the leaves of a component, none where it is never contracted."""
    if not part.summed or part.owned:
        return ()
    wanted = MANY_LEAVES if part.summed >= LONG else FEW_LEAVES
    if part.groups < part.units:
        return _of_groups(part, wanted)
    size = _quantum(part.units, wanted) if part.units == part.summed else 1
    count = part.units // size
    leaves = min(wanted, count)
    return tuple(leaf * count // leaves * size for leaf in range(leaves + 1))


def _of_groups(part: Component, wanted: int) -> tuple[int, ...]:
    """Return borders at whole groups, or at parts of groups where there are fewer than the leaves wanted."""
    units, groups = part.units, part.groups
    each, size = units // groups, part.summed // groups
    if groups >= wanted:
        return tuple(leaf * groups // wanted * each for leaf in range(wanted + 1))
    parts = 1
    while groups * parts < wanted and (part.summed < SHORT or size >= 2 * parts * LEAST):
        parts *= 2
    parts = min(parts, each)
    inside = [number * each // parts for number in range(parts)]
    return (*(group * each + start for group in range(groups) for start in inside), units)


def _quantum(size: int, wanted: int) -> int:
    """Return how many elements leaves are multiples of: such that all are alike, else of nearly the same length."""
    sizes = [QUANTUM >> i for i in range(QUANTUM.bit_length())]
    even = [q for q in sizes if size % (q * wanted) == 0]
    near = [q for q in sizes if size % q == 0 and size // q >= 4 * wanted]
    return max(even, default=max(near, default=1))


def most_parts(part: Component) -> int:
    """Return among how many chips a component can be cut at most."""
    borders = leaf_borders(part)
    return len(borders) - 1 if borders else part.units


def runs(parts: Components, part: Component, chips: int) -> tuple[Run, ...]:
    """Return the run of each chip along a mesh axis of so many; chips beyond `most_parts` would have none.

    Keys and values go with the heads that read them: a chip has every group that one of its heads reads.
    """
    if part.reads_from is not None:
        return _read_by(
            part, parts.all[part.reads_from], runs(parts, parts.all[part.reads_from], chips)
        )
    borders = leaf_borders(part)
    if not borders:
        at = [rank * part.units // chips for rank in range(chips + 1)]
        return tuple(Run(at[rank], at[rank + 1]) for rank in range(chips))
    leaves = len(borders) - 1
    groups = part.groups if part.groups < part.units else leaves
    if groups >= leaves:
        starts = [rank * leaves // chips for rank in range(chips + 1)]
    else:
        starts = _leaves_of_groups(leaves, groups, chips)
    return tuple(
        Run(borders[first], borders[last], first, last) for first, last in pairwise(starts)
    )


def _leaves_of_groups(leaves: int, groups: int, chips: int) -> list[int]:
    """Return the first leaf of each chip: whole groups, or, of fewer groups than chips, parts of a single one."""
    each = leaves // groups
    if chips <= groups:
        return [rank * groups // chips * each for rank in range(chips + 1)]
    starts = []
    for group in range(groups):
        several = (group + 1) * chips // groups - group * chips // groups
        starts += [group * each + rank * each // several for rank in range(several)]
    return [*starts, leaves]


def _read_by(part: Component, readers: Component, cut: tuple[Run, ...]) -> tuple[Run, ...]:
    """Return the groups that the heads of each chip read."""
    each = readers.units // part.units
    return tuple(
        Run(run.start // each, -(-run.stop // each) if run.units else run.start // each)
        for run in cut
    )
