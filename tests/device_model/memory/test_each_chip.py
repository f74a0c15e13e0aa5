# SPDX-License-Identifier: Apache-2.0
"""Bytes of every chip: those that its plan holds, to the byte, and of which the largest is what a question hears."""

from collections.abc import Mapping

import pytest

from device_model.engine.stage_plan import StagePlanner
from device_model.memory.each_chip import chip_bytes
from device_model.memory.use import MemoryFormulas, Question
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.packed import Packed
from device_model.program.places import Fixed
from device_model.weights.reading import RandomReader, shapes_of
from dsl.graph import Weight
from dsl.mesh.rank import ranks
from tests.device_model.mesh.texts import small

CASES = [
    ("llama-3.1-8b", {"tp": 2}),
    ("llama-3.1-8b", {"tp": 3}),
    ("llama-3.1-8b", {"tp": 8}),
    ("llama-3.1-8b", {"tp": 3, "pp": 2}),
    ("mixtral-8x7b", {"tp": 4, "ep": 4}),
    ("mixtral-8x7b", {"tp": 2, "ep": 3, "pp": 2}),
    ("deepseek-v3-671b", {"tp": 3, "ep": 2, "pp": 3}),
]


class Counting(StagePlanner):
    """A planner that counts the bytes of the weights that it keeps."""

    held = 0

    def _weight(self, weight: Weight, layer: int, *, low: bool) -> Fixed | Packed:
        made = super()._weight(weight, layer, low=low)
        self.held += made.array.nbytes if isinstance(made, Fixed) else made.nbytes
        return made


@pytest.mark.parametrize(("name", "mesh"), CASES)
def test_a_chip_holds_the_bytes_that_are_counted(name: str, mesh: Mapping[str, int]) -> None:
    graph = small(name)
    counted = chip_bytes(graph, mesh, batch=1, context=64)
    sizes = dict.fromkeys(graph.mesh, 1) | dict(mesh)
    held = []
    for rank in ranks(sizes):
        planner = Counting(
            graph, RandomReader(shapes_of(graph), 1), numerics_named("bf16"), rank=rank
        )
        plan = planner.plan()
        states = sum(64 * state.entry_bytes for state in plan.states)
        held.append((planner.held, states))
    assert [(chip.weights, chip.state) for chip in counted] == held
    use = MemoryFormulas(graph).use(Question(sizes, 1, 1, 63))
    assert use.stored == max(weights for weights, _ in held)


def test_copies_of_keys_are_counted_where_they_lie() -> None:
    graph = small("llama-3.1-8b")
    # Two keys on eight chips: each has one of them, as on two.
    assert {chip.state for chip in chip_bytes(graph, {"tp": 8}, 1, 64)} == {
        chip.state for chip in chip_bytes(graph, {"tp": 2}, 1, 64)
    }
