# SPDX-License-Identifier: Apache-2.0
"""Chips of a mesh beside one chip, node by node of the program: the first whose bits differ, and on which chips.

Every operation runs in plain numpy, all chips before the next one. What a chip has is compared with its range of the
whole; of experts the rows of its own; states after each node that changes them. Compiled kernels, stages of a pipeline
and copies of the whole are compared by their results (`mesh/comparing.py`), not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from device_model.engine import interpreter
from device_model.engine.meetings import hold
from device_model.engine.owing import Owing
from device_model.engine.plan import Plan
from device_model.engine.states import Cache
from device_model.mesh.tracing import Traced, Visit, traced
from device_model.numbers.numerics import Array, Numerics, wide
from device_model.program.call import Batch
from device_model.program.places import Buffer, Fixed, Operation, Place, StateRef
from device_model.weights.reading import TensorReader
from dsl.counting.stages import pipeline
from dsl.graph import Graph, Node
from dsl.mesh.rank import Shares, ranks
from dsl.symbolic import symbol
from dsl.types import Axis

Steps = Sequence[Sequence[Array]]
"""Tokens of each sequence, step by step."""


@dataclass(frozen=True, slots=True)
class Unlike:
    """The first node whose bits differ from one chip's.

    `chips` are those at fault: of a meeting those that brought something else than their plan says, where there are
    such, else all whose result differs. `row` is the first packed token, `away` the largest distance; `what` is the
    value, and `weight` an operand that is not the chip's part of the whole one, None where all are.
    """

    node: Node
    layer: int
    step: int
    chips: tuple[Mapping[str, int], ...]
    what: str
    row: int
    away: float
    weight: str | None = None


@dataclass(slots=True)
class _Chip:
    """A plan as far as it has run in a step."""

    traced: Traced
    plan: Plan
    numerics: Numerics
    cache: Cache
    batch: Batch
    values: dict[int, Array] = field(default_factory=dict)
    brought: Array | None = None

    def begin(self, tokens: Array, counts: Array) -> None:
        """Begin a step with new tokens, packed."""
        self.cache.extend(counts)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        slots = np.repeat(np.arange(len(counts)), counts)
        before = self.cache.lengths - counts
        positions = np.arange(starts[-1]) - starts[slots] + before[slots]
        self.batch = Batch(slots, positions, starts, self.cache.lengths)
        self.values = {p.index: tokens.astype(p.dtype) for p in self.plan.inputs}

    def read(self, place: Buffer) -> Array:
        """Return what is at a place; what a chip has nothing of is never computed."""
        if place.index not in self.values:
            return np.zeros((len(self.batch.positions), *place.shape), place.dtype)
        return self.values[place.index].reshape(-1, *place.shape)

    def run(self, visit: Visit) -> Operation | None:
        """Run a node's operations up to a meeting, and return that."""
        for at in range(visit.start, visit.stop):
            if at == self.plan.body:
                for selection in self.plan.selections:
                    self.values[selection.target.index] = self.read(selection.source)
            operation = self.plan.operations[at]
            if operation.meeting is not None:
                self.brought = _brought(operation, self.read)
                return operation
            interpreter.run(operation, self.read, self.write, self.cache, self.batch, self.numerics)
        return None

    def write(self, place: Buffer, array: Array) -> None:
        """Keep what an operation made."""
        self.values[place.index] = array

    def planned(self, visit: Visit) -> Array | None:
        """Return what the chip would bring to a node's meeting by the plan that was made for it."""
        made: dict[int, Array] = {}

        def read(place: Buffer) -> Array:
            given = made.get(place.index)
            return self.read(place) if given is None else given.reshape(-1, *place.shape)

        def write(place: Buffer, array: Array) -> None:
            made[place.index] = array

        for operation in self.traced.plan.operations[visit.start : visit.stop]:
            if operation.meeting is not None:
                return _brought(operation, read)
            interpreter.run(operation, read, write, self.cache, self.batch, self.numerics)
        return None


class _Met(Exception):
    """What a chip brings is known."""


def _brought(operation: Operation, read: interpreter.Read) -> Array:
    """Return what a chip brings to a meeting."""
    parts: list[Array] = []

    def meet(number: int, operation: Operation, part: Array) -> Sequence[Array]:
        parts.append(part)
        raise _Met

    with suppress(_Met):
        hold(0, operation, read, lambda place, array: None, meet)
    return parts[0]


class Lockstep:
    """A program on the chips of a mesh and on one; `plans` are the chips' own, in the order of `ranks`."""

    def __init__(
        self, graph: Graph, reader: TensorReader, numerics: Numerics, mesh: Mapping[str, int]
    ) -> None:
        self._graph, self._numerics, self._owing = graph, numerics, Owing(graph)
        staged = pipeline(graph)
        alike = {*graph.batch_shards, *(() if staged is None else (staged.axis,))}
        self.ranks = ranks({a: 1 if a in alike else mesh.get(a, 1) for a in graph.mesh})
        self._whole = traced(graph, reader, numerics)
        self._parts = tuple(traced(graph, reader, numerics, rank) for rank in self.ranks)
        self.plans = [part.plan for part in self._parts]

    @property
    def nodes(self) -> int:
        """Return how many nodes are compared, layer by layer."""
        return len(self._whole.visits)

    @property
    def longest(self) -> int | None:
        """Return how many tokens a sequence may have, None for any."""
        return self._whole.plan.longest

    def first(self, steps: Steps) -> Unlike | None:
        """Return the first node whose bits differ over some steps, None where all chips have one chip's."""
        sequences = len(steps[0])
        one = self._chip(self._whole, self._whole.plan, sequences)
        pairs = zip(self._parts, self.plans, strict=True)
        chips = [self._chip(part, plan, sequences) for part, plan in pairs]
        for number, rows in enumerate(steps):
            counts = np.array([len(row) for row in rows], np.int64)
            tokens = np.concatenate([np.asarray(row, np.int64) for row in rows])
            for chip in (one, *chips):
                chip.begin(tokens, counts)
            values: dict[int, Place] = {}
            for at, visit in enumerate(self._whole.visits):
                one.run(visit)
                values.update(zip(visit.node.inputs, visit.inputs, strict=True))
                unlike = self._visit(at, number, one, chips, values)
                if unlike is not None:
                    return unlike
        return None

    def _chip(self, part: Traced, plan: Plan, sequences: int) -> _Chip:
        none = np.zeros(0, np.int64)
        batch = Batch(none, none, none, none)
        return _Chip(part, plan, self._numerics, Cache(plan.states, sequences), batch)

    def _visit(
        self, at: int, step: int, one: _Chip, chips: Sequence[_Chip], values: Mapping[int, Place]
    ) -> Unlike | None:
        """Run a node on every chip and compare what it made."""
        whole = self._whole.visits[at]
        meetings = [chip.run(chip.traced.visits[at]) for chip in chips]
        wrong: dict[int, tuple[str, int, float]] = {}
        for number, operation in enumerate(meetings):
            if operation is not None and not _held(operation, number, chips):
                wrong[number] = (operation.op, 0, float("inf"))
        for number, chip in enumerate(chips):
            apart = next(self._apart(whole, chip.traced.visits[at], one, chip, values), None)
            if apart is not None:
                wrong.setdefault(number, apart)
        if not wrong:
            return None
        what, row, away = wrong[min(wrong)]
        own = [n for n in wrong if self._brings_another(chips[n], chips[n].traced.visits[at])]
        blamed = own or list(wrong)
        weight = self._weight(whole, chips[blamed[0]], chips[blamed[0]].traced.visits[at])
        places = tuple(self.ranks[n].at for n in blamed)
        return Unlike(whole.node, whole.layer, step, places, what, row, away, weight)

    @staticmethod
    def _brings_another(chip: _Chip, visit: Visit) -> bool:
        """Tell whether a chip brings something else to a node's meeting than the plan that was made for it says."""
        planned = chip.planned(visit)
        return planned is not None and chip.brought is not None and not _same(planned, chip.brought)

    def _apart(
        self, whole: Visit, own: Visit, one: _Chip, chip: _Chip, values: Mapping[int, Place]
    ) -> Iterator[tuple[str, int, float]]:
        """Yield what of a node a chip has otherwise than one chip: its name, the first token and the distance."""
        shares = _shares(chip)
        node = whole.node
        for value, place, theirs in zip(node.outputs, whole.outputs, own.outputs, strict=False):
            made = self._pair(value, one, place, chip, theirs)
            if made is None:
                continue
            rows = self._own_rows(value, shares, one, values)
            apart = _differ(*made, rows)
            if apart is not None:
                yield self._graph.values[value].name or node.op, *apart
        for value, place, theirs in zip(node.inputs, whole.inputs, own.inputs, strict=True):
            if isinstance(place, StateRef) and isinstance(theirs, StateRef):
                yield from self._states(
                    value, one.cache.context(place), chip.cache.context(theirs), shares
                )

    def _pair(
        self, value: int, one: _Chip, place: Place, chip: _Chip, theirs: Place
    ) -> tuple[Array, Array] | None:
        """Return a chip's range of the whole value and what it has, None where there is nothing to be compared."""
        if isinstance(place, Buffer) and isinstance(theirs, Buffer):
            whole, part = one.read(place), chip.read(theirs)
            at = (slice(None), *self._range(value, _shares(chip), per_token=True))
        elif isinstance(place, Fixed) and isinstance(theirs, Fixed):
            whole, part = place.array, theirs.array
            at = self._range(value, _shares(chip))
        else:
            return None
        return (whole[at], part) if part.size else None

    def _range(self, value: int, shares: Shares, *, per_token: bool = False) -> tuple[slice, ...]:
        """Return the range that a chip has of each axis; per token without those that tokens are packed in."""
        packed = (symbol(self._graph.batch), symbol(self._graph.seq)) if per_token else ()
        axes = self._graph.values[value].type.axes
        return tuple(
            slice(None) if span is None else slice(*span)
            for axis, span in zip(axes, shares.spans(value), strict=True)
            if axis.dim not in packed
        )

    def _states(
        self, value: int, whole: Sequence[Array], part: Sequence[Array], shares: Shares
    ) -> Iterator[tuple[str, int, float]]:
        """Yield what a chip keeps otherwise than one chip, by the number of the sequence."""
        axes = self._graph.values[value].type.axes
        batch = symbol(self._graph.batch)
        at = tuple(
            slice(None) if span is None else slice(*span)
            for axis, span in zip(axes, shares.spans(value), strict=True)
            if axis.dim != batch
        )
        for sequence, (mine, theirs) in enumerate(zip(whole, part, strict=True)):
            cut = mine[at] if mine.ndim == len(at) else mine
            if theirs.size and _differ(cut[None], theirs[None], None) is not None:
                name = self._graph.values[value].name
                yield f"state {name}", sequence, _distance(cut, theirs)

    def _own_rows(
        self, value: int, shares: Shares, one: _Chip, values: Mapping[int, Place]
    ) -> Array | None:
        """Return which choices of tokens are of a chip's experts, [T, k]; None where a chip has every row."""
        if not any(self._is_owned(value, axis) for axis in self._graph.values[value].type.axes):
            return None
        product = self._owing.product(value)
        choice = None if product is None else values.get(product.inputs[2])
        if product is None or not isinstance(choice, Buffer):
            return None
        experts = self._graph.values[product.inputs[1]].type.axes[0]
        start, stop = shares.span(product.inputs[1], experts)
        chosen = one.read(choice)
        return np.asarray((chosen >= start) & (chosen < stop))

    def _is_owned(self, value: int, axis: Axis) -> bool:
        return any(self._owing.parts.at(value, mesh).owned for mesh in axis.shards)

    def _weight(self, whole: Visit, chip: _Chip, own: Visit) -> str | None:
        """Return the operand of a node that is not the chip's range of the whole one."""
        mine = chip.plan.operations[own.start : own.stop]
        for number, (value, place) in enumerate(zip(whole.node.inputs, whole.inputs, strict=True)):
            if not isinstance(place, Fixed):
                continue
            part = place.array[self._range(value, _shares(chip))]
            for operation in mine:
                held = operation.inputs[number] if number < len(operation.inputs) else None
                if isinstance(held, Fixed) and not _same(part, held.array):
                    return self._graph.values[value].name
        return None


def _held(operation: Operation, number: int, chips: Sequence[_Chip]) -> bool:
    """Hold a meeting on one chip; False where what the others bring does not fit its plan."""
    chip, group = chips[number], () if operation.meeting is None else operation.meeting.group
    parts = [part for n in group if (part := chips[n].brought) is not None]
    try:
        hold(0, operation, chip.read, chip.write, lambda *_: parts)
    except (IndexError, KeyError, ValueError):
        return False
    return True


def _shares(chip: _Chip) -> Shares:
    if chip.traced.shares is None:
        raise TypeError("one chip has all of everything")
    return chip.traced.shares


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(_bits(a), _bits(b)))


def _bits(array: Array) -> Array:
    whole = np.ascontiguousarray(array)
    return whole.view(f"u{whole.itemsize}")


def _differ(whole: Array, part: Array, rows: Array | None) -> tuple[int, float] | None:
    """Return the first row with other bits and the largest distance, None where all bits are the same."""
    if whole.shape != part.shape or whole.dtype != part.dtype:
        return 0, float("inf")
    apart = _bits(whole) != _bits(part)
    if rows is not None:
        apart &= rows.reshape(*rows.shape, *(1,) * (apart.ndim - rows.ndim))
    if not apart.any():
        return None
    row = int(np.flatnonzero(apart.reshape(len(apart), -1).any(axis=1))[0])
    return row, _distance(whole[apart], part[apart])


def _distance(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        return float("inf")
    gap = np.abs(np.asarray(wide(a), np.float64) - np.asarray(wide(b), np.float64))
    return float(gap.max()) if np.isfinite(gap).all() else float("inf")
