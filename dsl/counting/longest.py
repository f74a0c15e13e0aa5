# SPDX-License-Identifier: Apache-2.0
"""The longest sequence that a program says it is for: by its tables of positions, or by a limit that its config keeps.

A limit that the text does not hold is not known, and none is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator

from dsl.graph import Body, Graph, Node

LIMIT = "_longest"
"""The name under which a port's config keeps the limit where nothing in the program reads it."""
NAMES = (LIMIT, "longest")


def longest(graph: Graph) -> int | None:
    """Return the tokens of the longest sequence, new ones included; None where the program does not say."""
    stated = [graph.config.get(name) for name in NAMES]
    limits = [n for n in stated if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    return min([*limits, *position_tables(graph)], default=None)


def position_tables(graph: Graph) -> list[int]:
    """Return how many tokens have a row in each table that positions look up."""
    return [rows for body, _ in graph.bodies() for rows in _tables(graph, body)]


def _tables(graph: Graph, body: Body) -> Iterator[int]:
    """Yield how many tokens have a row in each table that positions look up."""
    offsets: dict[int, int] = {}
    for node in (step for step in body.steps if isinstance(step, Node)):
        if node.op == "positions":
            offset = node.attrs.get("offset", 0)
            offsets |= dict.fromkeys(node.outputs, offset if isinstance(offset, int) else 0)
        if node.op == "gather":
            table, ids = node.inputs[:2]
            rows = graph.values[table].type.axes[0].dim
            if ids in offsets and isinstance(rows, int):
                yield rows - offsets[ids]
