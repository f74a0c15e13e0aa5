"""Bytes on one chip at many points at once: weights, state, activations, and whether a mesh divides the sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_model.memory.capacity import Capacity
from device_model.timeline.sizes import FUNCTIONS, size_at
from device_model.timeline.weights import Weights
from dsl.graph import Graph
from dsl.symbolic import evaluate_over, names, text


@dataclass(frozen=True, slots=True)
class Split:
    """A size that a mesh must divide, in words, and at which points it does not."""

    text: str
    broken: Any


class Loads:
    """The formulas of one graph, evaluated over points."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.capacity = Capacity(graph)
        self._weights = Weights(graph, self.capacity.footprint.parts)

    def weights(self, mesh: Mapping[str, Any], numerics: str) -> Any:
        """Return the bytes of the weights on one chip where products compute in a format."""
        return self._weights.held(mesh, numerics)

    def state(self, point: Mapping[str, Any]) -> Any:
        """Return the bytes of all state on one chip."""
        return np.ceil(size_at(self.capacity.state, point))

    def activations(self, point: Mapping[str, Any]) -> Any:
        """Return the most bytes of activations alive at once."""
        sizes = (size_at(c.bytes, point) for c in self.capacity.candidates)
        most: Any = 0.0
        for size in sizes:
            most = np.maximum(most, size)
        return np.ceil(most)

    def splits(self, point: Mapping[str, Any]) -> Iterator[Split]:
        """Yield the sizes that some meshes do not divide; those of tokens are not asked."""
        known = set(self.graph.mesh) | {self.graph.batch}
        for obligation in self.graph.obligations:
            a, b = obligation.dividend, obligation.divisor
            if not (names(a) | names(b)) <= known:
                continue
            size, parts = (evaluate_over(d, point, FUNCTIONS) for d in (a, b))
            broken = np.asarray(FUNCTIONS["mod"](np.asarray(size), np.asarray(parts)) != 0)
            if broken.any():
                yield Split(f"{text(a)} is not a multiple of {text(b)}", broken)
