# SPDX-License-Identifier: Apache-2.0
"""How the state of one sequence grows on one chip: bytes a token while its windows fill, beyond them, and fixed bytes.

Formulas in the sizes of the mesh alone. What a step holds in all is the device model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dsl.counting.footprint import footprint
from dsl.counting.stages import Pipeline, loads, pipeline
from dsl.graph import Graph
from dsl.ops.spec import local_bytes
from dsl.symbolic import Dim, definition, evaluate, names, ratio, substitute, symbol
from dsl.types import TensorType


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes of the state of one sequence on one chip.

    `per_token` grows with every token, `windows` has bytes a token by the length up to which those grow, `fixed` are
    there from the first token on. Of a pipeline that is a chip's in the mean over the stages, and `layers` is how one
    layer of each class grows.
    """

    per_token: Dim
    windows: Mapping[int, Dim]
    fixed: Dim
    staged: Pipeline | None = None
    layers: tuple[Growth, ...] = ()

    def at(self, mesh: Mapping[str, int]) -> Grown:
        """Return the numbers on a mesh; of a pipeline those of the stage that grows the most."""
        if self.staged is None:
            return Grown(
                int(evaluate(self.per_token, mesh)),
                {length: int(evaluate(size, mesh)) for length, size in self.windows.items()},
                int(evaluate(self.fixed, mesh)),
            )
        each = [layer.at(mesh) for layer in self.layers]
        counts = loads(self.staged.classes, mesh.get(self.staged.axis, 1))
        grown = [_together(each, load.counts) for load in counts]
        return max(grown, key=lambda g: (g.first, g.per_token, g.fixed))


def _together(each: Sequence[Grown], counts: Sequence[int]) -> Grown:
    """Return how so many layers of each class grow."""
    lengths = sorted({length for grown in each for length in grown.windows})
    pairs = list(zip(each, counts, strict=True))
    windows = {n: sum(count * grown.windows.get(n, 0) for grown, count in pairs) for n in lengths}
    return Grown(
        sum(count * grown.per_token for grown, count in pairs),
        {n: size for n, size in windows.items() if size},
        sum(count * grown.fixed for grown, count in pairs),
    )


@dataclass(frozen=True, slots=True)
class Grown:
    """The numbers of a `Growth` on one mesh."""

    per_token: int
    windows: Mapping[int, int]
    fixed: int

    @property
    def first(self) -> int:
        """Return what a token adds while no window is full."""
        return self.per_token + sum(self.windows.values())

    def text(self) -> str:
        """Return in words how the state grows: `512 bytes a token up to 8,191`."""
        rate = self.first
        words: list[str] = []
        for length, size in sorted(self.windows.items()):
            words.append(f"{rate:,} bytes a token up to {length:,}")
            rate -= size
        if rate and words:
            words.append(f"{rate:,} beyond")
        elif rate:
            words.append(f"{rate:,} bytes a token of context")
        if self.fixed:
            words.append(f"{self.fixed:,} bytes a sequence")
        return ", ".join(words) or "no state"

    def as_dict(self) -> dict[str, object]:
        """Return the numbers as JSON data."""
        return {
            "bytes_per_token": self.per_token,
            "windows": [
                {"bytes_per_token": size, "up_to": length}
                for length, size in sorted(self.windows.items())
            ],
            "bytes_per_sequence": self.fixed,
            "text": self.text(),
        }


def growth(graph: Graph) -> Growth:
    """Return how the state of a bound graph grows."""
    whole = _growth(graph, _states(graph))
    staged = pipeline(graph)
    if staged is None or any(state.item is None for state in graph.body.states):
        return whole
    bodies = [cls.body for cls in staged.repeat.classes]
    layers = (_growth(graph, ((1, s.type) for s in b.states if s.item is None)) for b in bodies)
    return replace(whole, staged=staged, layers=tuple(layers))


def _growth(graph: Graph, states: Iterable[tuple[Dim, TensorType]]) -> Growth:
    """Return how so many states of some types grow together."""
    context, per_token, fixed = symbol(graph.context), _ZERO, _ZERO
    windows: dict[int, Dim] = {}
    for count, type_ in states:
        of_batch = _whole(graph, local_bytes(type_))
        lengths = [axis.dim for axis in type_.axes if graph.context in names(axis.dim)]
        each = count * ratio(of_batch, symbol(graph.batch))
        if not lengths:
            fixed = fixed + each
            continue
        rate = ratio(each, lengths[0])
        window = _window(lengths[0], context)
        if window is None:
            per_token = per_token + rate
        elif window > 0:
            windows[window] = windows.get(window, 0) + rate
    return Growth(per_token, windows, fixed)


_ZERO: Dim = 0


def _states(graph: Graph) -> Iterator[tuple[Dim, TensorType]]:
    """Yield the states with how many of each one chip has."""
    for part, (body, _) in zip(footprint(graph).parts, graph.bodies(), strict=True):
        for state in body.states:
            if state.item is None:
                yield part.on_chip, state.type
    for array in graph.arrays:
        yield array.count, array.type


def _whole(graph: Graph, size: Dim) -> Dim:
    """Return bytes without the split of the batch: a sequence lies whole on the chips that hold it."""
    return substitute(size, dict.fromkeys(graph.batch_shards, 1)) if graph.batch_shards else size


def _window(length: Dim, context: Dim) -> int | None:
    """Return where an axis stops to grow, None where it never does."""
    made = definition(length)
    if made is None or made.function != "min":
        return None
    bounds = [side for side in (made.a, made.b) if side != context]
    return bounds[0] if len(bounds) == 1 and isinstance(bounds[0], int) else None
