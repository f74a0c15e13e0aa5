# SPDX-License-Identifier: Apache-2.0
"""What one chip of a mesh has of each value of a bound program: ranges of its axes, and the chips it meets.

Ranks count through the mesh axes as the program lists them, the last fastest. Layers and sequences are split elsewhere:
here every chip has all of them. Nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from dsl.graph import Graph
from dsl.mesh.components import Component, Components
from dsl.mesh.cuts import Run, runs
from dsl.types import Axis


@dataclass(frozen=True, slots=True)
class Rank:
    """One chip: the sizes of the mesh and where along each axis it stands."""

    sizes: Mapping[str, int]
    at: Mapping[str, int]

    @property
    def number(self) -> int:
        """Return the number of the chip."""
        number = 0
        for axis, size in self.sizes.items():
            number = number * size + self.at[axis]
        return number

    def peers(self, axes: Iterable[str]) -> tuple[Rank, ...]:
        """Return the chips that differ from this one along these axes at most, itself among them, in order."""
        wanted = set(axes)
        ranges = [
            range(size) if axis in wanted else (self.at[axis],) for axis, size in self.sizes.items()
        ]
        return tuple(
            Rank(self.sizes, dict(zip(self.sizes, place, strict=True)))
            for place in product(*ranges)
        )


def ranks(sizes: Mapping[str, int]) -> tuple[Rank, ...]:
    """Return all chips of a mesh in order."""
    places = product(*(range(size) for size in sizes.values()))
    return tuple(Rank(sizes, dict(zip(sizes, place, strict=True))) for place in places)


class Shares:
    """What one chip has of a program's values."""

    def __init__(self, graph: Graph, parts: Components, rank: Rank) -> None:
        self._graph, self._parts, self.rank = graph, parts, rank
        self._weights = frozenset(w.value for body, _ in graph.bodies() for w in body.weights)

    def of(self, rank: Rank) -> Shares:
        """Return what another chip has."""
        return Shares(self._graph, self._parts, rank)

    def run(self, part: Component) -> Run:
        """Return the units of a component that the chip has."""
        return runs(self._parts, part, self.rank.sizes[part.mesh])[self.rank.at[part.mesh]]

    def span(self, value: int, axis: Axis) -> tuple[int, int]:
        """Return the range of an axis of a value that the chip has; its size must be a number."""
        if not isinstance(axis.dim, int):
            raise TypeError(f"dimension `{axis.dim}` has no value: bind the program first")
        start, stop = 0, axis.dim
        for depth, mesh in enumerate(mesh for mesh in axis.shards if self.rank.sizes[mesh] > 1):
            part = self._parts.at(value, mesh)
            if part.owned and value not in self._weights:
                continue
            if depth:
                size, chips = stop - start, self.rank.sizes[mesh]
                if size % chips:
                    raise ValueError(f"{size} of {axis} is not divided by {mesh}={chips}")
                start += self.rank.at[mesh] * size // chips
                stop = start + size // chips
                continue
            run, each = self.run(part), axis.dim // part.units
            start, stop = run.start * each, run.stop * each
        return start, stop

    def spans(self, value: int) -> tuple[tuple[int, int] | None, ...]:
        """Return for each axis of a value the range that the chip has, None where the axis is not split."""
        return tuple(
            self.span(value, axis) if axis.shards else None
            for axis in self._graph.values[value].type.axes
        )
