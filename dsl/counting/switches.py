# SPDX-License-Identifier: Apache-2.0
"""The lengths of a sequence at which something in a program switches: windows, chunks, rotations, rings, tables.

Read off the graph, as the columns of its operations say. What the original's config says of lengths is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dsl.counting.longest import position_tables
from dsl.graph import Attr, Graph, Node
from dsl.ops import OPS
from dsl.symbolic import definition, names

TABLE = "the last row of a table of positions"
RING = "entries of a ring"


@dataclass(frozen=True, slots=True, order=True)
class Switch:
    """A length, in tokens, and what changes there: below it and beyond it something else is computed."""

    length: int
    what: str


def switches(graph: Graph) -> tuple[Switch, ...]:
    """Return the lengths at which a bound program switches, shortest first."""
    return tuple(sorted({s for s in _all(graph) if s.length > 1}))


def _all(graph: Graph) -> Iterator[Switch]:
    for body, _ in graph.bodies():
        for node in (step for step in body.steps if isinstance(step, Node)):
            for name in OPS[node.op].lengths:
                if (length := _whole(node.attrs.get(name))) is not None:
                    yield Switch(length, f"{name} of {node.op}")
        for state in body.states:
            for dim in state.type.dims:
                made = definition(dim)
                if made is None or made.function != "min" or graph.context not in names(dim):
                    continue
                if (length := _whole(made.b)) is not None:
                    yield Switch(length, RING)
    for rows in position_tables(graph):
        yield Switch(rows, TABLE)


def _whole(value: Attr | None) -> int | None:
    """Return a number of tokens, None where the attribute is none or says that there is no such length."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value > 0 else None
