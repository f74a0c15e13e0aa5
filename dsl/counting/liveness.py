# SPDX-License-Identifier: Apache-2.0
"""Peak activation memory: which values are alive at each step, as candidate formulas.

A value lives from the step that makes it to the last one that reads it; an operation in place shares its first
argument's memory. Weights, state and tables that do not depend on tokens are not activations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from dsl.counting.footprint import VIEWS, split_batch
from dsl.graph import Body, Graph, Node, Repeat
from dsl.ops import OPS
from dsl.ops.spec import local_bytes
from dsl.symbolic import Dim, TooComplex, at_least, evaluate, names, substitute, terms

MAX_SUMMED = 200_000
"""Terms of the sums, some microseconds each; the largest text of the zoo has a thousand."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The bytes alive while one operation runs, which operation that is, and whether it follows the last layers."""

    bytes: Dim
    op: str
    place: str
    after: bool = False


def peak_candidates(graph: Graph, *, last_logits: bool = False) -> tuple[Candidate, ...]:
    """Return the candidates for the peak of activation bytes on one chip; none is dominated by another."""
    return undominated(alive(graph, last_logits=last_logits))


def undominated(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates that no other one exceeds everywhere."""
    kept: list[Candidate] = []
    for candidate in candidates:
        if any(at_least(k.bytes, candidate.bytes) for k in kept):
            continue
        kept = [k for k in kept if not at_least(candidate.bytes, k.bytes)]
        kept.append(candidate)
    return tuple(kept)


def alive(graph: Graph, *, last_logits: bool = False) -> tuple[Candidate, ...]:
    """Return the bytes alive at every operation in order: outside of layers, and in the first layer of each class.

    With `last_logits` what follows the last layers is of the last new token of each sequence alone.
    """
    whole = _Walk(graph).candidates()
    if not last_logits:
        return tuple(whole)
    one: Mapping[str, Dim] = {graph.seq: 1}
    return tuple(replace(c, bytes=substitute(c.bytes, one)) if c.after else c for c in whole)


def peak(
    candidates: Sequence[Candidate], values: Mapping[str, int]
) -> tuple[Fraction, Candidate | None]:
    """Return the largest candidate at a point, and which it is."""
    best: tuple[Fraction, Candidate | None] = (Fraction(0), None)
    for candidate in candidates:
        size = evaluate(candidate.bytes, values)
        if size > best[0]:
            best = size, candidate
    return best


class _Walk:
    """One pass over the program in order, with the memory of every value."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.owner: dict[int, int] = {}
        self.size: dict[int, Dim] = {}
        self.fixed = {w.value for b, _ in graph.bodies() for w in b.weights}
        self.fixed |= {s.value for b, _ in graph.bodies() for s in b.states}
        repeats = [n for n, step in enumerate(graph.body.steps) if isinstance(step, Repeat)]
        self.summed = 0
        self.layers_end = repeats[-1] if repeats else len(graph.body.steps)

    def candidates(self) -> list[Candidate]:
        """Return the bytes alive at every operation."""
        self._memories(self.graph.body)
        for value in self.graph.inputs:
            self._own(value.id)
        kept = {self._root(o.value) for o in self.graph.outputs}
        return list(
            self._body(self.graph.body, {self._root(v.id) for v in self.graph.inputs}, kept, "")
        )

    def _root(self, value: int) -> int:
        while value in self.owner:
            value = self.owner[value]
        return value

    def _own(self, value: int) -> None:
        type_ = self.graph.values[value].type
        bytes_ = local_bytes(type_)
        tokens = names(bytes_) & {self.graph.batch, self.graph.seq, self.graph.context}
        bytes_ = split_batch(self.graph, bytes_)
        self.size[value] = bytes_ if tokens and value not in self.fixed else 0

    def _share(self, value: int, with_: int) -> None:
        """Let a value use the memory of another, which becomes as large as the larger of both."""
        root = self._root(with_)
        if root in self.fixed:
            self.fixed.add(value)
            self.size[value] = 0
            return
        self._own(value)
        mine, theirs = self.size.pop(value), self.size[root]
        self.owner[value] = root
        if at_least(theirs, mine) is not True:
            self.size[root] = mine

    def _memories(self, body: Body) -> None:
        """Give every value of a body its own memory, or that of the value it is made in."""
        for step in body.steps:
            if isinstance(step, Node):
                self._node_memory(step)
                continue
            for cls in step.classes:
                for inner in cls.carry_in:
                    self._own(inner)
                self._memories(cls.body)
            for result, initial in zip(step.results, step.initial, strict=True):
                self._own(result)
                root = self._root(initial)
                if root not in self.size:  # an input or a weight, which no operation made
                    self._own(root)
                self.size[result] = self.size[root]

    def _node_memory(self, node: Node) -> None:
        for number, value in enumerate(node.outputs):
            part = node.op in VIEWS and self._root(node.inputs[0]) in self.fixed
            if number == 0 and node.inputs and (part or OPS[node.op].in_place):
                for given in node.inputs:
                    if given not in self.size and given not in self.owner:
                        self._own(given)
                self._share(value, node.inputs[0])
            else:
                self._own(value)

    def _body(self, body: Body, alive: set[int], kept: set[int], place: str) -> Iterator[Candidate]:
        """Yield the bytes alive at each step; `kept` outlives the body."""
        last = self._last_uses(body)
        alive = set(alive)
        for number, step in enumerate(body.steps):
            if isinstance(step, Repeat):
                yield from self._repeat(step, alive, last, number)
                alive = {m for m in alive if m in kept or last.get(m, -1) > number}
                alive |= {self._root(r) for r in step.results}
                continue
            alive |= {self._root(v) for v in step.outputs}
            total = self._total(alive)
            yield Candidate(total, step.op, place, not place and number > self.layers_end)
            alive = {m for m in alive if m in kept or last.get(m, -1) > number}

    def _repeat(
        self, step: Repeat, alive: set[int], last: Mapping[int, int], number: int
    ) -> Iterator[Candidate]:
        entering = {self._root(v) for v in step.initial}
        around = {m for m in alive if m not in entering or last.get(m, -1) > number}
        for cls in step.classes:
            inner = {self._root(v) for v in cls.carry_in}
            leaving = {self._root(v) for v in cls.carry_out}
            place = f"layer {cls.layers[0]}"
            yield from self._body(cls.body, around | inner, around | leaving, place)

    def _total(self, alive: set[int]) -> Dim:
        total: Dim = 0
        for size, times in Counter(self.size.get(memory, 0) for memory in alive).items():
            self.summed += terms(total)
            if self.summed > MAX_SUMMED:
                raise TooComplex("the memory of so many values of different sizes")
            total = total + times * size
        return total

    def _last_uses(self, body: Body) -> dict[int, int]:
        """Return the last step of a body that reads each memory, also from inside of layers."""
        last: dict[int, int] = {}
        for number, step in enumerate(body.steps):
            for value in _reads(step):
                last[self._root(value)] = number
        return last


def _reads(step: Node | Repeat) -> Iterator[int]:
    if isinstance(step, Node):
        yield from step.inputs
        return
    yield from step.initial
    for cls in step.classes:
        for inner in cls.body.steps:
            yield from _reads(inner)
