# SPDX-License-Identifier: Apache-2.0
"""What a chip brings to a meeting of a mesh, and what it makes of what all have brought.

Sums are added in their declared tree, whoever had which part of it. How arrays reach other chips is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from device_model.engine.interpreter import Read, Write
from device_model.numbers.numerics import Array, cast
from device_model.program.places import Buffer, Meeting, Meets, Operation
from dsl.mesh.trees import added

Meet: TypeAlias = Callable[[int, Operation, Array], Sequence[Array]]
"""Hands a chip's part to the others of a meeting, which is the n-th of a step; returns the parts of all, in order."""


def hold(number: int, operation: Operation, read: Read, write: Write, meet: Meet) -> None:
    """Hold a planned meeting, and write what comes of it."""
    if operation.meeting is None:
        raise TypeError(f"{operation.op} is no meeting")
    values = [read(place) for place in operation.inputs if isinstance(place, Buffer)]
    shapes = [read(place).shape for place in operation.outputs if isinstance(place, Buffer)]
    parts = meet(number, operation, _brought(operation.meeting, values, shapes))
    for out in operation.outputs:
        if isinstance(out, Buffer):
            made = MADE[operation.meeting.kind](operation.meeting, parts, values)
            write(out, cast(made, out.dtype))


def _brought(meeting: Meeting, values: Sequence[Array], shapes: Sequence[tuple[int, ...]]) -> Array:
    """Return one array of all that a chip brings; what others read must not be written to again."""
    if values and meeting.kind is Meets.ADD:
        return np.stack(values)
    if values:
        return np.array(np.moveaxis(values[0], meeting.axis, 0))
    return np.zeros((0, *shapes[0]), np.float32)


def _sum(meeting: Meeting, parts: Sequence[Array], values: Sequence[Array]) -> Array:
    """Return the sum of all leaves, float32."""
    held = {
        subtree: part[place]
        for subtrees, part in zip(meeting.nodes, parts, strict=True)
        for place, subtree in enumerate(subtrees)
    }
    with np.errstate(invalid="ignore", over="ignore"):
        return added(meeting.leaves, held, lambda a, b: np.asarray(a + b))


def _picked(meeting: Meeting, parts: Sequence[Array], values: Sequence[Array]) -> Array:
    """Return each row from the chip whose range of ids has its id; an id that none has gives zeros."""
    ids = values[1].astype(np.int64)
    made = np.zeros_like(parts[0])
    for (start, stop), part in zip(meeting.spans, parts, strict=True):
        here = (ids >= start) & (ids < stop)
        made[here] = part[here]
    return made


def _joined(meeting: Meeting, parts: Sequence[Array], values: Sequence[Array]) -> Array:
    """Return the parts of an axis in their places; what several chips have is the same on each."""
    size = max(stop for _, stop in meeting.spans)
    made = np.zeros((size, *parts[0].shape[1:]), parts[0].dtype)
    for (start, stop), part in zip(meeting.spans, parts, strict=True):
        made[start:stop] = part
    return np.moveaxis(made, 0, meeting.axis)


def _received(meeting: Meeting, parts: Sequence[Array], values: Sequence[Array]) -> Array:
    """Return what one chip sent."""
    (part,) = parts
    return part


MADE: dict[Meets, Callable[[Meeting, Sequence[Array], Sequence[Array]], Array]] = {
    Meets.ADD: _sum, Meets.PICK: _picked, Meets.JOIN: _joined, Meets.RECEIVE: _received,
}  # fmt: skip
