# SPDX-License-Identifier: Apache-2.0
"""What splits a program besides its types: the batch, and layers in stages; an axis that does so may do nothing else.

Types alone are judged where they are made; whether a mesh divides sizes is settled when there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Label
from dsl.graph import StateArray, Value
from dsl.source import Span


@dataclass(frozen=True, slots=True)
class MeshSplit:
    """A mesh axis that splits the batch, or the layers, and where the text says so."""

    axis: str
    what: str
    span: Span


def sharded(values: Iterable[Value]) -> dict[str, Value]:
    """Return by mesh axis the first value that is sharded, or a partial sum, on it."""
    owners: dict[str, Value] = {}
    for value in values:
        for axis in (*(s for a in value.type.axes for s in a.shards), *value.type.partial):
            owners.setdefault(axis, value)
    return owners


def not_cut(stages: Sequence[MeshSplit], arrays: Iterable[StateArray]) -> Iterator[Diagnostic]:
    """Yield a diagnostic (S308) for each reason why layers that are dealt to stages do not come apart."""
    if not stages:
        return
    first, *others = stages
    for other in others:
        message = "a second sequence of layers is dealt to the stages of a pipeline"
        labels = (Label(first.span, "the first"),)
        yield Diagnostic("S308", message, other.span, labels=labels, help=WHOLE)
    for array in arrays:
        message = (
            f"layers share the states of `{array.name}`, and a stage holds those of its own layers"
        )
        labels = (Label(array.span, "shared"),)
        yield Diagnostic("S308", message, first.span, labels=labels, help=WHOLE)


WHOLE = "leave the mesh axis out of `repeat`: its layers then stay together"


def split_twice(splits: Sequence[MeshSplit], values: Iterable[Value]) -> Iterator[Diagnostic]:
    """Yield a diagnostic (S307) for each axis of a split that splits something else too."""
    if not splits:
        return
    owners = sharded(values)
    first: dict[str, MeshSplit] = {}
    for split in splits:
        other = first.setdefault(split.axis, split)
        if other.what != split.what:
            message = f"`{split.axis}` splits {split.what} and {other.what}"
            yield Diagnostic("S307", message, split.span, labels=(Label(other.span, other.what),))
        elif split.axis in owners:
            value = owners[split.axis]
            message = f"`{split.axis}` splits {split.what}, and `{value.name}` is sharded on it: {value.type}"
            help_ = "give the one or the other a mesh axis of its own"
            yield Diagnostic(
                "S307", message, split.span, labels=(Label(value.span, "sharded here"),), help=help_
            )
