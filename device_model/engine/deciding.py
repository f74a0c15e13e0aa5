# SPDX-License-Identifier: Apache-2.0
"""Choices that are made elsewhere: what an operation chose for each token is shown, and may be replaced.

The operation itself puts a given choice in order and computes what follows from it. Who decides, and why, is not known
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from device_model.engine.interpreter import Read, Write
from device_model.engine.plan import Plan
from device_model.numbers.numerics import Array, wide
from device_model.program.call import Batch
from device_model.program.places import GIVEN, Buffer, Operation
from dsl.ops import OPS


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What one operation chose in one step.

    `number` counts the operations of the plan that choose, from 0; outside of layers `layer` is -1. Per token of the
    packed step: `sequences` and `positions` [T], `scores` [T, N] float32 as the operation reads them, and `choice`
    [T, k] int32 in the order of rank.
    """

    number: int
    layer: int
    sequences: Array
    positions: Array
    scores: Array
    choice: Array


Decide: TypeAlias = Callable[[Decision], Array | None]
"""Returns what each token takes instead, [T, k] in any order, all of a token different; or None to keep the choice."""


@dataclass(frozen=True, slots=True)
class Choosing:
    """An operation that chooses, and its number among those."""

    number: int
    operation: Operation

    @property
    def given(self) -> Operation:
        """Return the operation that takes the choice as it stands where the first result is."""
        inputs = (*self.operation.inputs, self.operation.outputs[0])
        return replace(self.operation, inputs=inputs, operands=(*self.operation.operands, GIVEN))

    def ask(self, decide: Decide, read: Read, write: Write, batch: Batch, wanted: Array) -> None:
        """Let `decide` look at the choice, and put down what it returns; raises `ValueError` for what is no choice."""
        scores, choice = self.operation.inputs[0], self.operation.outputs[0]
        if not (isinstance(scores, Buffer) and isinstance(choice, Buffer)):
            raise TypeError(f"what {self.operation.op} chooses does not depend on tokens")
        rows = wanted if self.operation.head else np.arange(len(batch.positions))
        shown = np.array(wide(read(scores)), np.float32)
        made = np.array(read(choice), np.int32)
        answer = decide(
            Decision(
                self.number, self.operation.layer, batch.slots[rows], batch.positions[rows],
                shown, made,
            )
        )  # fmt: skip
        if answer is not None:
            write(choice, _checked(np.asarray(answer), made, shown.shape[-1]))


def choosings(plan: Plan) -> dict[int, Choosing]:
    """Return the operations that choose by their place in the plan."""
    at = [
        place
        for place, operation in enumerate(plan.operations)
        if operation.meeting is None and OPS[operation.op].chooses
    ]
    return {place: Choosing(number, plan.operations[place]) for number, place in enumerate(at)}


def _checked(answer: Array, made: Array, count: int) -> Array:
    """Refuse a choice of another shape, of what does not exist, or of one thing twice."""
    if answer.shape != made.shape or answer.dtype.kind not in "iu":
        raise ValueError(
            f"a choice of {answer.dtype}{list(answer.shape)} for int32{list(made.shape)}"
        )
    if answer.size and (answer.min() < 0 or answer.max() >= count):
        raise ValueError(f"a choice outside of 0 to {count - 1}")
    ordered = np.sort(answer, axis=-1)
    if (ordered[..., 1:] == ordered[..., :-1]).any():
        raise ValueError("a token cannot choose one thing twice")
    return answer.astype(np.int32)


__all__ = ["Choosing", "Decide", "Decision", "choosings"]
