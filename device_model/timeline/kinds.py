# SPDX-License-Identifier: Apache-2.0
"""The kinds of tasks, and the sizes of each that its price depends on: on one chip, as the program says them.

A size is a number, or an array over the points that are asked for. What a format makes of the bits is pricing's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, ClassVar, TypeVar

import numpy as np

from device_model.cost.chip import Number
from device_model.timeline.places import Span
from dsl.ops import OPS
from dsl.ops.spec import Work


class Kind(Enum):
    """What a task is, which says which formula prices it."""

    GEMM = "gemm"
    ATTENTION = "attention"
    EXPERTS = "moe"
    VECTOR = "vector"
    COLLECTIVE = "collective"


KINDS: Mapping[str, Kind] = {
    spec.name: Kind(spec.work.value) for spec in OPS.values() if spec.work is not Work.VECTOR
}
"""The kind of an operation; all others are element-wise work of the vector units."""


@dataclass(frozen=True, slots=True)
class ProductSizes:
    """A product [m, k] x [k, n], or several of one activation side by side."""

    kind: ClassVar[Kind] = Kind.GEMM
    m: Number
    """Rows: new tokens of all sequences."""
    n: Number
    """Columns, of all products and heads together."""
    k: Number
    """Contracted elements."""
    x_bits: float
    """Bits of an element of the activation."""
    w_bits: Number
    """Bits of an element of the weights as they are stored, scales included."""
    y_bits: Number
    """Bits of an element of the result."""


@dataclass(frozen=True, slots=True)
class AttentionSizes:
    """One attention over a cache."""

    kind: ClassVar[Kind] = Kind.ATTENTION
    batch: Number
    """Sequences."""
    new: Number
    """New tokens of each."""
    context: Number
    """Tokens of each that were cached before."""
    heads: Number
    """Query heads on the chip."""
    kv_heads: Number
    """Key-value heads on the chip."""
    head_dim: Number
    """Elements of a query or key."""
    value_dim: Number
    """Elements of a value."""
    window: Number
    """Tokens that a query sees, infinite where it sees all."""
    causal: bool
    """Whether a query sees nothing after itself."""
    bits: float
    """Bits of an element of the cache."""

    @property
    def latent(self) -> bool:
        """Tell whether values are a part of the keys, so that they are read once."""
        return bool(np.all(np.asarray(self.value_dim) < self.head_dim))


@dataclass(frozen=True, slots=True)
class ExpertSizes:
    """One rank's layer of experts: two products with what is between, and the sum behind."""

    kind: ClassVar[Kind] = Kind.EXPERTS
    tokens: Number
    """Tokens that choose experts."""
    experts: Number
    """Experts on all ranks."""
    top_k: Number
    """Experts that a token chooses."""
    hidden: Number
    """Elements of a token."""
    inter: Number
    """Columns of an expert's first product, before it is split."""
    tp: Number
    """Chips that share each expert."""
    ep: Number
    """Ranks that the experts are dealt to."""
    gated: bool
    """Whether the first product has a second half that gates it."""
    w_bits: Number
    """Bits of an element of the weights as they are stored, scales included."""


@dataclass(frozen=True, slots=True)
class VectorSizes:
    """A fused run of element-wise operations."""

    kind: ClassVar[Kind] = Kind.VECTOR
    moved: Number
    """Bytes read and written; what lives inside of the run alone is neither."""
    unfused: Number
    """Bytes that the operations would move one by one."""


@dataclass(frozen=True, slots=True)
class CollectiveSizes:
    """One exchange between chips."""

    kind: ClassVar[Kind] = Kind.COLLECTIVE
    chips: Number
    """Chips that take part."""
    bytes: Number
    """Bytes of the whole buffer."""
    spans: tuple[Span, ...] = ()
    """The axes of the mesh that they lie along; for those of a single send, the axis of all stages."""
    neighbours: bool = False
    """Whether each chip sends to the next one along its only axis, and not all to all of them."""


PLACES = frozenset({"spans", "neighbours"})
"""Fields that say where chips lie, which is told in words."""
Sizes = ProductSizes | AttentionSizes | ExpertSizes | VectorSizes | CollectiveSizes
AnySizes = TypeVar("AnySizes", bound=Sizes)


def at_each(sizes: AnySizes, change: Callable[[Any], Any]) -> AnySizes:
    """Return sizes with every one of them changed."""
    return replace(
        sizes, **{f.name: _changed(getattr(sizes, f.name), change) for f in fields(sizes)}
    )


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a size, or the sizes of every axis of a group, changed."""
    if not isinstance(value, tuple):
        return change(value)
    return tuple(Span(change(span.size), change(span.stride)) for span in value)


def named(sizes: Sizes) -> dict[str, float]:
    """Return the sizes at a single point by name, without places; a statement is 1 where it is true."""
    values = {f.name: getattr(sizes, f.name) for f in fields(sizes) if f.name not in PLACES}
    return {k: float(value) if isinstance(value, bool) else value for k, value in values.items()}
