# SPDX-License-Identifier: Apache-2.0
"""Which tensors of a checkpoint a resolved source reads, and how many bits they take.

How a source is written and checked is in `sources`; reading bytes is the device model's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dsl.graph import TensorRef, WeightSource
from dsl.symbolic import Dim, Poly
from dsl.types import DType

HOLE = re.compile(r"\{([^{}]*)\}")
"""A hole in a tensor's name, for a layer, a loop variable or a text."""


def tensors(
    source: WeightSource, layer: int, loops: Mapping[str, int] | None = None
) -> Iterator[tuple[str, TensorRef]]:
    """Yield the name of every tensor that a bound source reads for one layer, with its reference."""
    inner = dict(loops or {})
    if isinstance(source, TensorRef):
        yield instance(source.name, layer, inner), source
        return
    if source.function != "stack":
        for part in source.parts:
            yield from tensors(part, layer, inner)
        return
    count, variable = source.attrs["count"], str(source.attrs["variable"])
    if not isinstance(count, int):
        raise TypeError(f"stack of {count} tensors: the program is not bound")
    for index in range(count):
        yield from tensors(source.parts[0], layer, inner | {variable: index})


def stored_bits(source: WeightSource, own: DType) -> Dim:
    """Return the bits that a source occupies as it is stored; `own` is the weight's declared dtype."""
    if isinstance(source, TensorRef):
        bits: Dim = (source.dtype or own).bits
        for size in source.read:
            bits = bits * size
        return bits
    total: Dim = 0
    for part in source.parts:
        total = total + stored_bits(part, own)
    count = source.attrs["count"] if source.function == "stack" else 1
    if not isinstance(count, (int, Poly)):
        raise TypeError(f"stack of {count} tensors")
    return total * count


def instance(name: str, layer: int | None, loops: Mapping[str, int]) -> str:
    """Return a tensor name with its holes filled; holes that are no loop variable are the layer's."""

    def replace_hole(match: re.Match[str]) -> str:
        return str(loops.get(match.group(1), layer))

    return HOLE.sub(replace_hole, name)
