# SPDX-License-Identifier: Apache-2.0
"""What splits a program besides its types: the batch, and layers in stages; an axis that does so does nothing else.

But an axis that splits the batch may shard what was handed over along it.

Types alone are judged where they are made; whether a mesh divides sizes is settled when there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Label
from dsl.graph import StateArray, Value
from dsl.linking.static import StaticError
from dsl.ops.spec import OpSpec
from dsl.source import Span
from dsl.symbolic import names, quotient, symbol
from dsl.types import TensorType


@dataclass(frozen=True, slots=True)
class MeshSplit:
    """A mesh axis that splits the batch, or the layers, and where the text says so."""

    axis: str
    what: str
    span: Span


BATCH = "the batch"


def handed_over(value: Value, axis: str, batch: str) -> bool:
    """Tell whether a value has the rows of all chips along an axis that splits the batch, or no rows."""
    rows = [a.dim for a in value.type.axes if batch in names(a.dim)]
    return all(quotient(dim, symbol(axis)) is not None for dim in rows)


def sharded(values: Iterable[Value]) -> dict[str, Value]:
    """Return by mesh axis the first value that is sharded, or a partial sum, on it."""
    owners: dict[str, Value] = {}
    for value in values:
        for axis in _axes_of(value):
            owners.setdefault(axis, value)
    return owners


def _axes_of(value: Value) -> Iterator[str]:
    for axis in value.type.axes:
        yield from axis.shards
    yield from value.type.partial


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


def split_twice(
    splits: Sequence[MeshSplit], values: Iterable[Value], batch: str
) -> Iterator[Diagnostic]:
    """Yield a diagnostic (S307) for each axis of a split that splits something else too.

    What was handed over along an axis that splits the batch may be sharded on it.
    """
    if not splits:
        return
    first: dict[str, MeshSplit] = {}
    for split in splits:
        other = first.setdefault(split.axis, split)
        if other.what != split.what:
            message = f"`{split.axis}` splits {split.what} and {other.what}"
            yield Diagnostic("S307", message, split.span, labels=(Label(other.span, other.what),))
    mistaken = _mistaken(first, values, batch)
    for split in (split for split in first.values() if split.axis in mistaken):
        value = mistaken[split.axis]
        what = f"`{split.axis}` splits {split.what}, and `{value.name}` is sharded on it"
        handed = f"; dispatch(…, {split.axis}) hands tokens over" if split.what == BATCH else ""
        yield Diagnostic(
            "S307",
            f"{what}: {value.type}",
            split.span,
            labels=(Label(value.span, "sharded here"),),
            help=f"give the one or the other a mesh axis of its own{handed}",
        )


def _mistaken(
    splits: Mapping[str, MeshSplit], values: Iterable[Value], batch: str
) -> dict[str, Value]:
    """Return by mesh axis the first value that is sharded on it against its split."""
    mistaken: dict[str, Value] = {}
    for value in values:
        for axis in _axes_of(value):
            if axis not in splits or axis in mistaken:
                continue
            if splits[axis].what != BATCH or not handed_over(value, axis, batch):
                mistaken[axis] = value
    return mistaken


def check_alone(spec: OpSpec, types: Iterable[TensorType], batch: str, span: Span) -> None:
    """Refuse (S307) an operation that asks for the sequence of rows which came from other chips."""
    if not spec.needs_sequence:
        return
    for dim in (axis.dim for type_ in types for axis in type_.axes):
        if dim != symbol(batch) and batch in names(dim):
            message = f"`{spec.name}` depends on other tokens of a sequence, or on its position"
            help_ = "rows that were handed over know neither: collect them first"
            raise StaticError(Diagnostic("S307", message, span, help=help_))
