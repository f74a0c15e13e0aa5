# SPDX-License-Identifier: Apache-2.0
"""Where a fault may come from: labels at the declarations behind the values of a diagnostic.

A fault shows where types meet, which may be far from where one of them went wrong. Only places are found here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dsl.diagnostics import Label
from dsl.inference.graph_builder import GraphBuilder
from dsl.source import Span
from dsl.types import TensorType

MAX_STEPS = 400
MAX_LABELS = 4
MAX_DECLARATIONS = 2
MAX_DISTANCE = 3
"""Operations between a fault and a declaration that may be its cause; what lies further has been used soundly since."""


def origins(
    builder: GraphBuilder, values: Sequence[int], declared: Sequence[TensorType], at: Span
) -> tuple[Label, ...]:
    """Return labels at what made values, and at the declarations that brought in what their types do not share."""
    types = [builder.type_of(v) for v in values] + list(declared)
    odd = _odd(types) | {axis for t in types for axis in t.partial}
    labels: list[Label] = []
    for value in values:
        labels += _partial(builder, value)
        labels.append(Label(builder.values[value].span, str(builder.type_of(value))))
    is_one_declared = any(_is_declared(builder, value) for value in values)
    for value in values:
        behind = list(_declarations(builder, value, odd))
        # Where several agree about a value, and the other one stands in the text, they are not what is wrong.
        if not (is_one_declared and len(behind) > 1):
            labels += behind
    return _few(labels, at)


def partial_since(builder: GraphBuilder, value: int, at: Span) -> tuple[Label, ...]:
    """Return a label at the operation that left a partial sum."""
    return _few(list(_partial(builder, value)), at)


def _odd(types: Sequence[TensorType]) -> set[str]:
    """Return the names and numbers in which types differ: axis by axis where they are of one rank."""
    if len(types) == 1:
        return set(re.findall(r"\w+", " ".join(str(a) for a in types[0].axes[-1:])))
    if len(types) == 2 and types[0].rank != types[1].rank and _last(types[0]) != _last(types[1]):
        return set(re.findall(r"\w+", f"{_last(types[0])} {_last(types[1])}"))
    if len(types) == 2 and types[0].rank == types[1].rank:
        pairs = zip(types[0].axes, types[1].axes, strict=True)
        words = [f"{a} {b}" for a, b in pairs if a != b]
        if types[0].dtype != types[1].dtype:
            words += [str(t.dtype) for t in types]
        return set(re.findall(r"\w+", " ".join(words)))
    atoms = [_atoms(t) for t in types]
    shared = set(atoms[0]).intersection(*atoms) if atoms else set()
    return {atom for some in atoms for atom in some - shared}


def _last(type_: TensorType) -> str:
    return str(type_.axes[-1]) if type_.axes else ""


def _atoms(type_: TensorType) -> set[str]:
    return set(re.findall(r"\w+", str(type_)))


def _partial(builder: GraphBuilder, value: int) -> Iterator[Label]:
    """Yield where a partial sum began: the first maker whose own inputs are complete."""
    if not builder.type_of(value).partial:
        return
    for made in _ancestors(builder, value):
        type_ = builder.type_of(made)
        inputs = builder.producers.get(made, ())
        if type_.partial and not any(builder.type_of(i).partial for i in inputs):
            axes = ", ".join(sorted(type_.partial))
            yield Label(builder.values[made].span, f"the sum over {axes} is owed since here")
            return


def _declarations(builder: GraphBuilder, value: int, odd: set[str]) -> Iterator[Label]:
    """Yield the nearest declarations that mention what is odd; a state is checked where it is written."""
    count = 0
    for made in _ancestors(builder, value, MAX_DISTANCE):
        if _is_declared(builder, made) and _atoms(builder.type_of(made)) & odd:
            yield Label(builder.values[made].span, str(builder.type_of(made)))
            count += 1
        if count == MAX_DECLARATIONS:
            return


def _is_declared(builder: GraphBuilder, value: int) -> bool:
    return value not in builder.producers and not builder.is_state(value)


def _ancestors(builder: GraphBuilder, value: int, far: int = MAX_STEPS) -> Iterator[int]:
    """Yield a value and what it was made from, nearest first, up to some operations away."""
    queue, seen = [(value, 0)], {value}
    for _ in range(MAX_STEPS):
        if not queue:
            return
        made, distance = queue.pop(0)
        yield made
        for given in _makers(builder, made) if distance < far else ():
            if given not in seen:
                seen.add(given)
                queue.append((given, distance + 1))


def _makers(builder: GraphBuilder, value: int) -> Iterator[int]:
    """Yield what a value was made from, without what only scales or shifts it: that has no say in its axes."""
    given = builder.producers.get(value, ())
    keeps = value in builder.keepers
    ranks = [builder.type_of(i).rank for i in given]
    return (i for i, rank in zip(given, ranks, strict=True) if not keeps or rank == max(ranks))


def _few(labels: list[Label], at: Span) -> tuple[Label, ...]:
    """Return the first labels that are on lines of their own."""
    kept: dict[tuple[str, int], Label] = {}
    here = (at.source.name, at.source.position(at.start)[0])
    for label in labels:
        span = label.span
        place = (span.source.name, span.source.position(span.start)[0])
        if place != here:
            kept.setdefault(place, label)
    return tuple(list(kept.values())[:MAX_LABELS])
