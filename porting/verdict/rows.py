# SPDX-License-Identifier: Apache-2.0
"""The rows that a port is judged on: random ones, text, one that crosses every length that it can, and the user's own.

Chosen from sizes and lengths alone; the lengths come from the program and from the original's own config. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dsl.counting.footprint import footprint
from dsl.counting.switches import TABLE, switches
from dsl.graph import Graph, Node
from dsl.symbolic import evaluate, names
from porting.verdict.errors import COUNTED
from porting.verdict.feeding import RAGGED_LENGTHS, Tokens

SEED = 20240229
ROW = COUNTED
"""Tokens of the rows that make up the number: many short rows depend less on luck than few long ones."""
TOKENS = 1000
"""Positions that are judged where the model is small enough."""
BUDGET = 4e12
"""Multiplications and additions that the float64 original may take over all rows: about a minute on two cores."""
SCORES_BYTES = 3e9
LOGITS_BYTES = 4e9
RING_SLACK = 16
BEHIND = 24


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of tokens, and what it is for."""

    name: str
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Length:
    """A length at which something switches; `what` says where it was read, `reach` the tokens that a row needs."""

    length: int
    what: str
    reach: int


@dataclass(frozen=True, slots=True)
class Size:
    """What judging costs: parameters, attention heads, and the vocabulary."""

    parameters: int
    heads: int
    vocabulary: int

    @property
    def affordable(self) -> int:
        """Return the tokens that may be judged in all."""
        by_work = BUDGET / (2 * max(self.parameters, 1))
        return int(min(by_work, LOGITS_BYTES / (8 * self.vocabulary)))

    @property
    def longest(self) -> int:
        """Return the tokens of the longest row whose scores and logits fit in memory, in float64."""
        by_scores = (SCORES_BYTES / (24 * self.heads)) ** 0.5
        return int(min(by_scores, LOGITS_BYTES / (8 * self.vocabulary)))

    def allows(self, length: int) -> bool:
        """Tell whether one row of this length may be judged."""
        return length <= min(self.affordable, self.longest)


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows with the lengths that they cross, and those that are too dear for this model."""

    rows: tuple[Row, ...]
    crossed: tuple[Length, ...] = ()
    dear: tuple[Length, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller adds or changes: rows of its own by name, and the draw of the random ones.

    With `alone` no others are judged: nobody knows what the original makes of them.
    """

    own: tuple[Row, ...] = ()
    texts: tuple[Sequence[int], ...] = ()
    seed: int = SEED
    special: frozenset[int] = field(default_factory=frozenset)
    alone: bool = False


class Draw:
    """A seeded draw of random rows over the vocabulary without its special tokens."""

    def __init__(
        self, vocabulary: int, special: Collection[int], seed: int = SEED, longest: int = 2**31
    ) -> None:
        left = sorted(set(range(vocabulary)) - set(special)) or [0]
        self._tokens, self._longest = np.array(left, np.int64), longest
        self._rng = np.random.default_rng(seed)

    def row(self, name: str, length: int) -> Row:
        """Return the next row, cut where the model has no more positions."""
        return Row(name, self._rng.choice(self._tokens, min(length, self._longest)))


def sample_rows(vocabulary: int, special: Collection[int] = ()) -> tuple[Tokens, ...]:
    """Return the short rows that every port is judged on first: those of the ragged batch."""
    draw = Draw(vocabulary, special)
    return tuple(draw.row("", length).tokens for length in RAGGED_LENGTHS)


def size_of(graph: Graph, vocabulary: int) -> Size:
    """Return the size of a bound program."""
    parameters = footprint(graph).parameters
    heads = [1]
    for body, _ in graph.bodies():
        for node in (s for s in body.steps if isinstance(s, Node) and s.op == "attention"):
            axis = graph.values[node.inputs[0]].type.axes[1].dim
            heads.append(axis if isinstance(axis, int) else 1)
    point = dict.fromkeys(names(parameters), 1)
    return Size(int(evaluate(parameters, point)), max(heads), vocabulary)


def lengths_of(graph: Graph, named: Mapping[int, str]) -> tuple[Length, ...]:
    """Return every length at which the program switches, or that the original's config names, shortest first."""
    known = {s.length: Length(s.length, s.what, _reach(s.length, s.what)) for s in switches(graph)}
    for length, key in named.items():
        known.setdefault(length, Length(length, f"{key} of the config", _reach(length, key)))
    return tuple(sorted(known.values(), key=lambda length: length.length))


def select(size: Size, lengths: Sequence[Length], longest: int | None, wanted: Wanted) -> Selection:
    """Return the rows to judge a model of some size on; none is longer than `longest`."""
    most = longest or 2**31
    rows = list(wanted.own) if wanted.alone else _drawn(size, lengths, most, wanted)
    reached = max(map(len, rows))
    crossed = tuple(x for x in lengths if x.reach <= reached)
    dear = tuple(x for x in lengths if x.reach > reached)
    return Selection(tuple(rows), crossed, dear)


def _drawn(size: Size, lengths: Sequence[Length], most: int, wanted: Wanted) -> list[Row]:
    """Return random rows and text beside the caller's own, and one that crosses what one row can."""
    draw = Draw(size.vocabulary, wanted.special, wanted.seed, most)
    rows = [draw.row(f"random {n}", n) for n in RAGGED_LENGTHS]
    rows += wanted.own
    rows += [_text(f"text {n}", ids, size, most) for n, ids in enumerate(wanted.texts, 1)]
    reachable = [x for x in lengths if x.reach <= most and size.allows(x.reach)]
    longer = max((x.reach for x in reachable), default=0)
    if longer > ROW:
        rows.append(draw.row(f"crossing {longer}", longer))
    room = min(TOKENS, size.affordable) - sum(min(len(row), ROW) for row in rows)
    number = max(0, -(-room // ROW)) if room >= ROW // 2 else 0
    # No more than it takes: tokens of large models are dear.
    each = -(-room // number) if number else 0
    return rows + [draw.row(f"random {each}, {n}", each) for n in range(1, number + 1)]


def _text(name: str, ids: Sequence[int], size: Size, most: int) -> Row:
    """Return a row of text; a tokenizer may know tokens that the model does not."""
    known = [token for token in ids if 0 <= token < size.vocabulary]
    return Row(name, np.array((known or [0])[:most], np.int64))


def _reach(length: int, what: str) -> int:
    """Return the tokens of a row that shows a switch: beyond it, and once around a ring of that size."""
    return length if what == TABLE else length + length // RING_SLACK + BEHIND


def common(special: Collection[int], vocabulary: int) -> frozenset[int]:
    """Return the special tokens that random rows leave out: none where nothing else would be left."""
    kept = frozenset(i for i in special if 0 <= i < vocabulary)
    return kept if len(kept) < vocabulary else frozenset()
