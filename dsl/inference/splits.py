# SPDX-License-Identifier: Apache-2.0
"""What splits a program besides its types: the batch, and layers in stages; an axis that does so may do nothing else.

Types alone are judged where they are made; whether a mesh divides sizes is settled when there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dsl.diagnostics import Diagnostic, Label
from dsl.graph import Value
from dsl.source import Span


@dataclass(frozen=True, slots=True)
class MeshSplit:
    """A mesh axis that splits the batch, or the layers, and where the text says so."""

    axis: str
    what: str
    span: Span


def split_twice(splits: Sequence[MeshSplit], values: Iterable[Value]) -> Iterator[Diagnostic]:
    """Yield a diagnostic (S307) for each axis of a split that splits something else too."""
    if not splits:
        return
    sharded: dict[str, Value] = {}
    for value in values:
        for axis in (*(s for a in value.type.axes for s in a.shards), *value.type.partial):
            sharded.setdefault(axis, value)
    first: dict[str, MeshSplit] = {}
    for split in splits:
        other = first.setdefault(split.axis, split)
        if other.what != split.what:
            message = f"`{split.axis}` splits {split.what} and {other.what}"
            yield Diagnostic("S307", message, split.span, labels=(Label(other.span, other.what),))
        elif split.axis in sharded:
            value = sharded[split.axis]
            message = f"`{split.axis}` splits {split.what}, and `{value.name}` is sharded on it: {value.type}"
            help_ = "give the one or the other a mesh axis of its own"
            yield Diagnostic(
                "S307", message, split.span, labels=(Label(value.span, "sharded here"),), help=help_
            )
