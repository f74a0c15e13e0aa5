# SPDX-License-Identifier: Apache-2.0
"""A drawn graph around an operation of the device, and what it computes in float64.

Values come out of tables by token id, so that a kernel is given exactly what its formula is given. A formula takes the
ids of one whole sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from device_model.numbers.numerics import STORAGE, Array
from dsl.graph import Graph
from dsl.types import DTYPES
from tests.device_model.graphs import B, Flow, S

Formula = Callable[[Array], Array]
ROWS = 50
SIZES = (1, 2, 3, 7, 8, 9, 15, 33, 64, 65, 130)
WIDTHS = (*SIZES, 300, 2047, 2049, 4100)


@dataclass(frozen=True, slots=True)
class Case:
    """A graph and its formula.

    `tolerance` is float32's, relative to the largest result. `exact` means that both kernels have the same bits;
    `roundings` counts those to the activations' format. Without `causal` a token also sees later ones. `kept` is the
    state of a sequence after a number of steps.
    """

    graph: Graph
    arrays: dict[str, Array]
    formula: Formula
    tolerance: float = 1e-6
    exact: bool = True
    causal: bool = True
    roundings: int = 1
    kept: Callable[[int], Array] | None = None


@dataclass
class Draw:
    """Draws sizes and weights of one case in one stored format."""

    generator: np.random.Generator
    stored: str
    flow: Flow = field(init=False)
    arrays: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flow = Flow(self.stored)
        self.flow.config["dtype"] = DTYPES[self.stored]
        self.ids = self.flow.input()

    def size(self, *choices: int) -> int:
        """Return one of these, by default one of the small sizes."""
        return int(self.generator.choice(choices or SIZES))

    def chance(self) -> bool:
        """Return either."""
        return bool(self.generator.integers(2))

    def weight(self, *dims: int, scale: float = 1.0, shift: float = 0.0) -> tuple[int, Array]:
        """Add a random weight; returns its value and its numbers."""
        name = f"w{len(self.arrays)}"
        array = (self.generator.normal(size=dims) * scale + shift).astype(STORAGE[self.stored])
        self.arrays[name] = array
        return self.flow.weight(name, *dims), array.astype(np.float64)

    def rows(self, *dims: int, scale: float = 1.0, shift: float = 0.0) -> tuple[int, Array]:
        """Add a value per token, with heads where there are two sizes; returns it and its table."""
        width = math.prod(dims)
        name, table = self.weight(ROWS, width, scale=scale, shift=shift)
        value = self.flow.op("gather", (name, self.ids), B, S, width)
        if len(dims) > 1:
            value = self.heads(value, dims[0], dims[1])
        return value, table.reshape(ROWS, *dims)

    def heads(self, value: int, count: int, width: int) -> int:
        """Split a value into heads."""
        return self.flow.op("heads", (value,), B, count, S, width, count=count)

    def case(self, value: int, formula: Formula, tolerance: float = 1e-6, **rest: bool) -> Case:
        """Return the case whose result is a value."""
        self.flow.output(value)
        return Case(self.flow.graph(), self.arrays, formula, tolerance, **rest)


def sums_are_exact(d: Draw) -> bool:
    """Tell whether products are exact in float32, so that both kernels have the declared bits."""
    return d.stored == "bf16"


def columned(d: Draw, width: int, shift: float = 0.0) -> tuple[int, Array, tuple[int, ...]]:
    """Return a value with or without heads, its table and the axes before its last."""
    if d.chance():
        h = d.size(1, 3)
        return *d.rows(h, width, shift=shift), (B, h, S)
    return *d.rows(width, shift=shift), (B, S)
