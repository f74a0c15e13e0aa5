# SPDX-License-Identifier: Apache-2.0
"""Which sizes of a program a mesh does not divide, at many points at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_model.memory.meshes import undivided
from device_model.memory.points import FUNCTIONS
from dsl.graph import Graph
from dsl.symbolic import evaluate_over, names


@dataclass(frozen=True, slots=True)
class Split:
    """A size that a mesh must divide, in words, and at which points it does not."""

    text: str
    broken: Any


def splits(graph: Graph, point: Mapping[str, Any]) -> Iterator[Split]:
    """Yield the sizes that some meshes do not divide; those of tokens are not asked."""
    known = set(graph.mesh) | {graph.batch}
    for obligation in graph.obligations:
        a, b = obligation.dividend, obligation.divisor
        if not (names(a) | names(b)) <= known:
            continue
        size, parts = (evaluate_over(d, point, FUNCTIONS) for d in (a, b))
        size, parts = np.asarray(size), np.asarray(parts)
        rest = parts > size if obligation.at_most else FUNCTIONS["mod"](size, parts) != 0
        broken = np.asarray(rest)
        if broken.any():
            yield Split(undivided(obligation), broken)
