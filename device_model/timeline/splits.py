# SPDX-License-Identifier: Apache-2.0
"""Which sizes of a program a mesh does not divide, at many points at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_model.memory.points import FUNCTIONS
from dsl.graph import Graph
from dsl.symbolic import evaluate_over, names, text


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
        broken = np.asarray(FUNCTIONS["mod"](np.asarray(size), np.asarray(parts)) != 0)
        if broken.any():
            yield Split(f"{text(a)} is not a multiple of {text(b)}", broken)
