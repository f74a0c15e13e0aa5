# SPDX-License-Identifier: Apache-2.0
"""Chips beside one chip: nothing differs where all is right, and what is broken on purpose is named, with its chip."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from device_model.engine.plan import Plan
from device_model.mesh.lockstep import Lockstep, Unlike
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.precision import Leaves
from device_model.program.places import Fixed, Meets, Operation
from device_model.weights.reading import RandomReader, shapes_of
from tests.device_model.mesh.texts import small

ROWS = (np.arange(1, 9), np.arange(20, 25))
STEPS = ((ROWS[0], ROWS[1]), (ROWS[1][:2], ROWS[0][:1]))
CASES: tuple[tuple[str, Mapping[str, int]], ...] = (
    ("llama-3.1-8b", {"tp": 3}),
    ("llama-3.1-8b", {"tp": 8}),
    ("mixtral-8x7b", {"tp": 2, "ep": 3}),
    ("deepseek-v3-671b", {"tp": 2, "ep": 2}),
)


def lockstep(name: str, mesh: Mapping[str, int], numerics: str = "f32") -> Lockstep:
    graph = small(name)
    return Lockstep(graph, RandomReader(shapes_of(graph), 7), numerics_named(numerics), mesh)


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize(("name", "mesh"), CASES)
def test_nothing_differs_where_all_is_right(
    name: str, mesh: Mapping[str, int], numerics: str
) -> None:
    assert lockstep(name, mesh, numerics).first(STEPS) is None


def altered(
    plan: Plan, number: int, wanted: Callable[[Operation], bool],
    change: Callable[[Operation], Operation],
) -> Plan:  # fmt: skip
    """Return a plan whose n-th operation of a kind is another."""
    at = [i for i, operation in enumerate(plan.operations) if wanted(operation)][number]
    operations = list(plan.operations)
    operations[at] = change(operations[at])
    assert operations[at] != plan.operations[at]
    return replace(plan, operations=tuple(operations))


def other_leaves(operation: Operation) -> Operation:
    """Add the same leaves in another order."""
    assert operation.leaves is not None
    count = len(operation.leaves.borders) - 1
    in_a_row = (0, *(1 for _ in range(count - 1)))
    return replace(operation, leaves=Leaves(operation.leaves.borders, in_a_row))


def stale(operation: Operation) -> Operation:
    """Multiply by a weight with one element from elsewhere."""
    inputs = list(operation.inputs)
    weight = inputs[1]
    assert isinstance(weight, Fixed)
    array = np.array(weight.array)
    array[0, 0] += 1
    inputs[1] = Fixed(array)
    return replace(operation, inputs=tuple(inputs))


def moved(name: str, by: int) -> Callable[[Operation], Operation]:
    def change(operation: Operation) -> Operation:
        value = operation.attrs[name]
        assert isinstance(value, int)
        return replace(operation, attrs={**operation.attrs, name: value + by})

    return change


def exchanged(operation: Operation) -> Operation:
    """Take the parts of a meeting for each other's."""
    meeting = operation.meeting
    assert meeting is not None
    return replace(operation, meeting=replace(meeting, spans=meeting.spans[::-1]))


def is_sum(operation: Operation) -> bool:
    return operation.op == "matmul" and operation.leaves is not None and operation.meeting is None


def is_op(op: str) -> Callable[[Operation], bool]:
    return lambda operation: operation.op == op and operation.meeting is None


BROKEN = {
    "leaves": ("llama-3.1-8b", {"tp": 2}, 1, is_sum, 2, other_leaves, "matmul", 1),
    "stale weight": ("llama-3.1-8b", {"tp": 3}, 2, is_op("matmul"), 9, stale, "matmul", 1),
    "stale row of a sum": ("llama-3.1-8b", {"tp": 2}, 1, is_sum, 0, stale, "matmul", 0),
    "look-up": ("llama-3.1-8b", {"tp": 2}, 0, is_op("gather"), 0, moved("first", 1), "gather", -1),
    "parts": (
        "llama-3.1-8b", {"tp": 2}, 0,
        lambda o: o.meeting is not None and o.meeting.kind is Meets.JOIN, 0, exchanged,
        "all_gather", -1,
    ),
    "expert": (
        "mixtral-8x7b", {"ep": 2}, 1, is_op("expert_matmul"), 0, moved("first", -1),
        "expert_matmul", 0,
    ),
    "experts added": (
        "mixtral-8x7b", {"ep": 2}, 1, is_op("combine"), 1, moved("stop", -1), "combine", 1,
    ),
}  # fmt: skip


def first(case: str) -> Unlike:
    name, mesh, chip, wanted, number, change, *_ = BROKEN[case]
    walk = lockstep(name, mesh)
    walk.plans[chip] = altered(walk.plans[chip], number, wanted, change)
    unlike = walk.first(STEPS)
    assert unlike is not None
    return unlike


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_named_with_its_chip(case: str) -> None:
    _, mesh, chip, *_, op, layer = BROKEN[case]
    unlike = first(case)
    (axis,) = mesh
    assert (unlike.node.op, unlike.layer, unlike.step) == (op, layer, 0)
    assert [at[axis] for at in unlike.chips] == [chip]
    assert unlike.away > 0


def test_a_weight_that_is_not_the_chips_part_is_named() -> None:
    assert first("stale weight").weight is not None
    assert first("leaves").weight is None


def test_states_are_compared_where_they_are_written() -> None:
    walk = lockstep("llama-3.1-8b", {"tp": 2})

    def elsewhere(operation: Operation) -> Operation:
        state, new = operation.inputs
        others = [p for o in walk.plans[1].operations if o.op == "append" for p in o.inputs[1:]]
        other = next(p for p in others if p != new)
        return replace(operation, inputs=(state, other))

    walk.plans[1] = altered(walk.plans[1], 1, is_op("append"), elsewhere)
    unlike = walk.first(STEPS)
    assert unlike is not None
    assert unlike.node.op == "append"
    assert unlike.what.startswith("state ")
    assert [at["tp"] for at in unlike.chips] == [1]
