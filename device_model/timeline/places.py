# SPDX-License-Identifier: Apache-2.0
"""Where the chips of a group lie: the axes of a mesh as places in scale-up domains, from the innermost axis out.

Chips are numbered with the first axis of the order fastest. A domain holds whole blocks of the inner axes, as many as
fit, so that a group that fits into a domain is never split over two; what is left of a domain stays empty. Other orders
for single groups, and what lies between domains, are not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from device_model.cost.chip import Array, Number
from device_model.timeline.sizes import larger
from dsl.graph import Graph, Repeat

KNOWN = ("tp", "ep", "pp", "dp")
"""The order of axes by name, the innermost first: what talks most lies nearest."""
OTHER, STAGES, BATCH = KNOWN.index("ep"), KNOWN.index("pp"), KNOWN.index("dp")


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a group: chips along it, and how many chips of the mesh two neighbours are apart."""

    size: Number
    stride: Number


@dataclass(frozen=True, slots=True)
class Spread:
    """How a group lies: chips of it in a domain, and domains that it lies in."""

    inside: Array
    domains: Array


def order(graph: Graph) -> tuple[str, ...]:
    """Return the axes of a program's mesh, the innermost first: by name, others by what they split."""
    repeats = [s for s in graph.body.steps if isinstance(s, Repeat)]
    staged = {s.stages for s in repeats if s.stages}

    def rank(axis: str) -> int:
        if axis in KNOWN:
            return KNOWN.index(axis)
        if axis in staged:
            return STAGES
        return BATCH if axis in graph.batch_shards else OTHER

    return tuple(sorted(graph.mesh, key=rank))


def spans(axes: Sequence[str], group: Sequence[str], point: Mapping[str, Any]) -> tuple[Span, ...]:
    """Return the axes of a group in the order of `axes`, with their strides at a point."""
    sizes = [point.get(axis, 1) for axis in axes]
    return tuple(
        Span(size, prod(sizes[:at]))
        for at, (axis, size) in enumerate(zip(axes, sizes, strict=True))
        if axis in group
    )


def spread(group: Sequence[Span], domain: Number) -> Spread:
    """Return how a group lies in domains of so many chips."""
    inside, domains = np.ones(()), np.ones(())
    for span in group:
        size = np.asarray(span.size, np.float64)
        held = np.clip(np.floor(np.asarray(domain) / span.stride), 1.0, size)
        inside = inside * held
        domains = domains * np.ceil(size / held)
    return Spread(inside, domains)


def extent(group: Sequence[Span]) -> Number:
    """Return how many chips a domain needs to hold the whole group; 1 for a group of one chip."""
    most: Number = 1.0
    for span in group:
        several = np.asarray(span.size) > 1
        most = larger(most, np.where(several, np.asarray(span.size) * span.stride, 1.0))
    return most


def place_words(group: Sequence[Span], domain: float, *, neighbours: bool) -> str:
    """Return in words where a group's chips are, or the sends from neighbour to neighbour along its only axis."""
    lies = spread(group, domain)
    chips, inside, domains = (
        int(n) for n in (prod(s.size for s in group), lies.inside, lies.domains)
    )
    if neighbours:
        leave = "none leaves" if domains == 1 else f"{domains - 1} of {chips - 1} leave"
        return f"sends between {chips} stages, of which {leave} a domain"
    if chips == 1:
        return "one chip"
    if domains == 1:
        return f"{chips} chips inside of one domain"
    each = "one" if inside == 1 else f"{inside}"
    return f"{chips} chips, {each} in each of {domains} domains of {domain:.0f}"
