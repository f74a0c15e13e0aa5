# SPDX-License-Identifier: Apache-2.0
"""What a kernel is given and what a kernel is: the types shared by the executors and the operations.

Values are packed: batch and sequence are one leading axis of tokens. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from device_model.numbers.numerics import Array, Numerics
from device_model.numbers.packed import Packed
from device_model.numbers.precision import Leaves, Product
from dsl.graph import Attr


@dataclass(frozen=True, slots=True)
class Batch:
    """The new tokens of one step: whose they are and where they stand.

    `starts` has one entry more than there are sequences; `lengths` counts the context after the step.
    """

    slots: Array
    positions: Array
    starts: Array
    lengths: Array


Context: TypeAlias = tuple[Array, ...]
"""A state: per sequence an array; a growing one is as after `append`, and its context axis ends with the new tokens."""

Operand: TypeAlias = Array | Context | Packed


@dataclass(frozen=True, slots=True)
class Call:
    """One evaluation of an operation; `operands` names the parameter of each input.

    `product` says how it multiplies in low precision, if it does, and `leaves` how its sums are added where a mesh may
    cut them.
    """

    inputs: tuple[Operand, ...]
    operands: tuple[str, ...]
    attrs: Mapping[str, Attr]
    batch: Batch
    numerics: Numerics
    product: Product | None = None
    leaves: Leaves | None = None

    def array(self, index: int) -> Array:
        """Return an input that is not a state."""
        value = self.inputs[index]
        if isinstance(value, tuple):
            raise TypeError(f"input {index} is a state, not a value per token")
        if isinstance(value, Packed):
            raise TypeError(f"input {index} is a packed weight, which only products read")
        return value

    def weight(self, index: int) -> Array | Packed:
        """Return a weight, which may be packed."""
        value = self.inputs[index]
        return value if isinstance(value, Packed) else self.array(index)

    def optional(self, name: str) -> Array | None:
        """Return the input of a parameter that may be left out."""
        return self.array(self.operands.index(name)) if name in self.operands else None

    def state(self, index: int) -> Context:
        """Return a state, an array per sequence; one of fixed size is replaced by writing to its arrays."""
        value = self.inputs[index]
        if isinstance(value, tuple):
            return value
        raise TypeError(f"input {index} is a value, not a state")

    def number(self, name: str, default: float) -> float:
        """Return a numeric attribute."""
        return number(self.attrs, name, default)

    def word(self, name: str, default: str) -> str:
        """Return a textual attribute."""
        return word(self.attrs, name, default)


Reference: TypeAlias = Callable[[Call], tuple[Array, ...]]


def number(attrs: Mapping[str, Attr], name: str, default: float) -> float:
    """Return a numeric attribute; raises `TypeError` when it is something else."""
    value = attrs.get(name, default)
    if isinstance(value, (int, float)):
        return float(value)
    raise TypeError(f"attribute {name} is not a number: {value!r}")


def integer(attrs: Mapping[str, Attr], name: str, default: int | None = None) -> int:
    """Return an integer attribute; raises `TypeError` when it is missing or something else."""
    value = attrs.get(name, default)
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"attribute {name} is not an integer: {value!r}")


def word(attrs: Mapping[str, Attr], name: str, default: str) -> str:
    """Return a textual attribute; raises `TypeError` when it is something else."""
    value = attrs.get(name, default)
    if isinstance(value, str):
        return value
    raise TypeError(f"attribute {name} is not a word: {value!r}")


def numbers(attrs: Mapping[str, Attr], name: str) -> tuple[float, ...]:
    """Return a tuple of numbers; raises `TypeError` when it is something else."""
    value = attrs.get(name)
    if isinstance(value, tuple) and all(isinstance(part, (int, float)) for part in value):
        return tuple(float(part) for part in value if isinstance(part, (int, float)))
    raise TypeError(f"attribute {name} is not a tuple of numbers: {value!r}")


def integers(attrs: Mapping[str, Attr], name: str) -> tuple[int, ...]:
    """Return a tuple of integers; raises `TypeError` when it is something else."""
    value = attrs.get(name)
    if isinstance(value, int):
        return (int(value),)
    if isinstance(value, tuple) and all(isinstance(part, int) for part in value):
        return tuple(int(part) for part in value if isinstance(part, int))
    raise TypeError(f"attribute {name} is not a tuple of integers: {value!r}")
