# SPDX-License-Identifier: Apache-2.0
"""Run a port beside the reference, layer by layer, and name the first operation that departs.

Every layer gets the reference's own input, so that a fault in one is not seen in the next: a layer that departs all the
same is a source, the others only pass errors on. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from device_model.engine import interpreter
from device_model.engine.plan import Constant, Mark, Plan
from device_model.engine.states import Cache
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import wide
from device_model.numbers.packed import Packed
from device_model.program.call import Batch, Operand
from device_model.program.places import Buffer, Fixed, Operation, Place, StateRef
from dsl.ops import OPS
from dsl.source import Span
from porting.diff.matching import TOLERANCES, Golden
from porting.original.reference import Stretch

Array = npt.NDArray[Any]


AGREES = 3e-6
"""Relative error of a part that got the reference's own values: ten times what float32 makes of a layer."""
MOVING = frozenset(s.name for s in OPS.values() if s.passes and not s.in_place) | {"gather"}
"""Operations that only move values: what they move is right or wrong before them. What is in place moves nothing."""
ABSORBED = frozenset({"head_matmul"})
"""Products with weights that the reference multiplies elsewhere: it has no such value even where all is right."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One evaluation of an operation: its operands, a state as of one sequence, and its first result."""

    operation: Operation
    operands: tuple[Operand, ...]
    batch: Batch
    result: Array


@dataclass(frozen=True, slots=True)
class Guilty:
    """An operation whose operands agree with the reference and whose result does not.

    `nearest` is the distance to the reference's nearest value of that size. `last` is what it saw in the last step,
    None for a constant.
    """

    op: str
    span: Span
    layer: int
    nearest: float
    last: Seen | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One stretch of the program with the reference's input.

    `error` is that of its result, relative; `guilty` is None where it agrees.
    """

    number: int
    name: str
    steps: str
    error: float
    guilty: Guilty | None


@dataclass(slots=True)
class _Flow:
    """The results of a run of some operations, of all tokens, and what each of them saw last."""

    results: dict[int, list[Array]] = field(default_factory=dict)
    last: dict[int, Seen] = field(default_factory=dict)


class Search:
    """Compares the parts of one plan with the stretches of the reference over one row of tokens."""

    def __init__(self, plan: Plan, tokens: Sequence[int]) -> None:
        self._plan = plan
        self._tokens = np.asarray(tokens, np.int64)
        self._entering: dict[int, Array] = {}
        self._bounds = _bounds(plan)

    @property
    def parts(self) -> int:
        """Return the number of parts: the layers, what is before them and what is behind."""
        return len(self._bounds)

    def compare(self, stretch: Stretch, chunk: int = 0) -> Comparison:
        """Return how the port's part of the same number does: fed at once, or `chunk` tokens a step."""
        number = stretch.number
        if stretch.entering is not None:
            self._entering[number] = stretch.entering
        golden = Golden(stretch.values)
        steps = f"{chunk} a step" if chunk else "at once"
        flow = self._run(number, chunk or len(self._tokens))
        out = self._result(number)
        got = self._held(flow, out, number)
        error = np.inf
        if got is None and stretch.leaving is not None and isinstance(out, Buffer):
            got = self._entering.get(number)
        if got is not None and stretch.leaving is not None and got.size == stretch.leaving.size:
            error = _distance(got.reshape(stretch.leaving.shape), stretch.leaving)
        name = self._name(number)
        if error <= AGREES:
            return Comparison(number, name, steps, error, None)
        return Comparison(number, name, steps, error, self._guilty(number, flow, golden))

    def _name(self, number: int) -> str:
        if number == 0:
            return "before the layers"
        if number == self.parts - 1:
            return "behind the layers"
        return f"layer {number - 1}"

    def _result(self, number: int) -> Place | None:
        if number == self.parts - 1:
            return self._plan.outputs.get("logits") or next(iter(self._plan.outputs.values()))
        mark = self._mark(number)
        places = mark.entering if number == 0 else mark.carried
        return places[0]

    def _held(self, flow: _Flow, place: Place | None, number: int) -> Array | None:
        """Return what a place held after a part, None where the part did not write it."""
        if not isinstance(place, Buffer):
            return None
        first, last = self._bounds[number]
        for at in range(last - 1, first - 1, -1):
            made = [p.index for p in self._plan.operations[at].outputs if isinstance(p, Buffer)]
            if place.index in made:
                return flow.results[at][made.index(place.index)]
        return None

    def _mark(self, number: int) -> Mark:
        return self._plan.marks[min(max(number - 1, 0), len(self._plan.marks) - 1)]

    # Running

    def _run(self, number: int, size: int) -> _Flow:
        """Run one part on the reference's input, `size` tokens at a time."""
        flow = _Flow()
        cache = Cache(self._plan.states, 1)
        needed = [*self._writers(number), number]
        for start in range(0, len(self._tokens), size):
            stop = min(len(self._tokens), start + size)
            cache.extend(np.array([stop - start]))
            batch = Batch(
                np.zeros(stop - start, np.int64),
                np.arange(start, stop),
                np.array([0, stop - start]),
                cache.lengths,
            )
            for part in needed:
                self._step(part, batch, cache, flow if part == number else None)
        return flow

    def _step(self, number: int, batch: Batch, cache: Cache, flow: _Flow | None) -> None:
        values: dict[int, Array] = {}

        def read(place: Buffer) -> Array:
            if place.index not in values:
                self._early(place.index, values, batch, cache)
            return values[place.index].reshape(-1, *place.shape)

        def write(place: Buffer, array: Array) -> None:
            values[place.index] = array

        self._given(number, batch, write)
        first, last = self._bounds[number]
        for at in range(first, last):
            if at == self._plan.body:
                self._narrow(read, values)
            operation = self._plan.operations[at]
            operands = () if flow is None else _copies(operation, read, cache)
            interpreter.run(operation, read, write, cache, batch, numerics_named("f32"))
            made = [read(p) for p in operation.outputs if isinstance(p, Buffer)]
            if flow is not None and made:
                _keep(flow, at, Seen(operation, operands, batch, np.array(made[0])), made)
        if number == self.parts - 1 and self._plan.body == len(self._plan.operations):
            self._narrow(read, values)

    def _given(self, number: int, batch: Batch, write: interpreter.Write) -> None:
        """Write the tokens and, for a layer, the reference's hidden states."""
        here = slice(int(batch.positions[0]), int(batch.positions[-1]) + 1)
        for given in self._plan.inputs:
            write(given, self._tokens[here].astype(given.dtype))
        golden = self._entering.get(number)
        if number == 0 or golden is None:
            return
        mark = self._mark(number)
        carried = mark.carried if number == self.parts - 1 else mark.entering
        place: Place = carried[0]
        if isinstance(place, Buffer):
            write(place, golden[here].astype(place.dtype).reshape(-1, *place.shape))

    def _early(self, index: int, values: dict[int, Array], batch: Batch, cache: Cache) -> None:
        """Compute what an earlier part made and this one reads besides the hidden states."""
        makers = (i for i in self._plan.operations if index in {_memory(p)[1] for p in i.outputs})
        maker = next(makers)

        def read(place: Buffer) -> Array:
            if place.index not in values:
                self._early(place.index, values, batch, cache)
            return values[place.index].reshape(-1, *place.shape)

        def write(place: Buffer, array: Array) -> None:
            values[place.index] = array

        interpreter.run(maker, read, write, cache, batch, numerics_named("f32"))

    def _narrow(self, read: interpreter.Read, values: dict[int, Array]) -> None:
        for selection in self._plan.selections:
            values[selection.target.index] = read(selection.source)

    def _writers(self, number: int) -> list[int]:
        """Return the earlier parts that fill a state which this one reads."""
        states = {s.index for s in self._states(number)}
        return [n for n in range(number) if states & {s.index for s in self._states(n)}]

    def _states(self, number: int) -> list[StateRef]:
        first, last = self._bounds[number]
        return [
            p
            for i in self._plan.operations[first:last]
            for p in i.inputs
            if isinstance(p, StateRef)
        ]

    # Blame

    def _guilty(self, number: int, flow: _Flow, golden: Golden) -> Guilty | None:
        first, last = self._bounds[number]
        ran = [at for at in range(first, last) if flow.results.get(at)]
        for tolerance in TOLERANCES:
            suspects = self._suspects(number, flow, golden, tolerance)
            if suspects:
                return self._named(suspects[0], flow, golden)
        # Every value is one of the reference's, so the last one is in the wrong place.
        return self._named(ran[-1], flow, golden) if ran else None

    def _suspects(
        self, number: int, flow: _Flow, golden: Golden, tolerance: float
    ) -> Sequence[int]:
        """Return the operations whose results the reference does not have, the likely ones if there are such."""
        first, last = self._bounds[number]
        known = {
            at: all(golden.holds(result, tolerance) for result in flow.results.get(at, ()))
            for at in range(first, last)
        }
        # What is the same for every token was made from no token: finding it says nothing about its operands.
        plain = {at for at, made in flow.results.items() if not any(map(_varies, made))}
        sound = self._upstream_of_known(number, known, plain)
        wrong = [at for at in range(first, last) if flow.results.get(at) and at not in sound]
        ops = self._plan.operations
        return (
            [at for at in wrong if ops[at].op not in MOVING | ABSORBED]
            or [at for at in wrong if ops[at].op not in MOVING]
            or wrong
        )

    def _upstream_of_known(
        self, number: int, known: Mapping[int, bool], plain: Collection[int]
    ) -> set[int]:
        """Return the operations whose result the reference has, or something made from it; and the plain ones."""
        first, last = self._bounds[number]
        sound = set(plain)
        wanted: set[object] = set()
        for at in range(last - 1, first - 1, -1):
            if at in plain:
                continue
            operation = self._plan.operations[at]
            makes = {_memory(p) for p in _made(operation)}
            if (
                known[at] and any(isinstance(p, Buffer) for p in operation.outputs)
            ) or makes & wanted:
                sound.add(at)
                wanted |= {_memory(p) for p in operation.inputs if isinstance(p, Buffer | StateRef)}
        return sound

    def _named(self, at: int, flow: _Flow, golden: Golden) -> Guilty | None:
        operation = self._plan.operations[at]
        if operation.span is None:
            return None
        constant = self._unknown_constant(operation, golden)
        if constant is not None:
            distance = golden.nearest(wide(constant.array))
            return Guilty(constant.op, constant.span, constant.layer, distance, None)
        distance = golden.nearest(flow.results[at][0])
        return Guilty(operation.op, operation.span, operation.layer, distance, flow.last[at])

    def _unknown_constant(self, operation: Operation, golden: Golden) -> Constant | None:
        """Return a constant among the operands that the reference does not have."""
        held = [p.array for p in operation.inputs if isinstance(p, Fixed)]
        for constant in self._plan.constants:
            if any(constant.array is array for array in held):
                array = np.atleast_1d(np.asarray(wide(constant.array), np.float64))
                if not golden.holds(array[None]):
                    return constant
        return None


def _bounds(plan: Plan) -> list[tuple[int, int]]:
    """Return the first and last operation of every part."""
    ends = [mark.operations for mark in plan.marks]
    start = next(
        (n for n, operation in enumerate(plan.operations) if operation.layer >= 0),
        len(plan.operations),
    )
    if not ends:
        return [(0, 0), (0, len(plan.operations))]
    starts = [start, *ends]
    return [(0, start), *zip(starts[:-1], ends, strict=True), (ends[-1], len(plan.operations))]


def _made(operation: Operation) -> tuple[Place, ...]:
    """Return what an operation changes: its results, and the state that it writes."""
    states = tuple(p for p in operation.inputs if isinstance(p, StateRef))
    return (*operation.outputs, *states) if not operation.outputs else operation.outputs


def _memory(place: Place) -> tuple[str, int]:
    """Return what tells two places' memory apart."""
    if isinstance(place, StateRef):
        return "state", place.index
    return "buffer", place.index if isinstance(place, Buffer) else id(place)


def _copies(operation: Operation, read: interpreter.Read, cache: Cache) -> tuple[Operand, ...]:
    """Return an operation's operands, those copied that may change."""

    def copied(place: Place) -> Operand:
        match place:
            case Fixed(array):
                return array
            case Packed():
                return place
            case StateRef():
                return tuple(np.array(array) for array in cache.context(place))
            case Buffer():
                return np.array(read(place))

    return tuple(map(copied, operation.inputs))


def _keep(flow: _Flow, at: int, seen: Seen, made: Sequence[Array]) -> None:
    before = flow.results.get(at, [])
    new = [np.array(wide(array)) for array in made]
    pairs = zip(before, new, strict=True)
    flow.results[at] = [np.concatenate(pair) for pair in pairs] if before else new
    flow.last[at] = seen


def _varies(result: Array) -> bool:
    return bool(np.ptp(result, axis=0).any())


def _distance(got: Array, wanted: Array) -> float:
    scale = float(np.sqrt(np.mean(wanted**2)))
    if not np.isfinite(got).all() or not scale:
        return float("inf")
    return float(np.sqrt(np.mean((got - wanted) ** 2))) / scale
