# SPDX-License-Identifier: Apache-2.0
"""Many chips give one chip's bits: in every mode, where sizes do not divide, and for every choice of experts."""

from collections.abc import Mapping

import numpy as np
import pytest

from device_model.engine.engine import Decision, Engine
from device_model.mesh.engine import MeshEngine, MeshSession
from device_model.numbers.numerics import Array
from device_model.program.places import Fixed, Place
from device_model.weights.reading import RandomReader, shapes_of
from dsl.graph import Graph
from tests.device_model.mesh.texts import small

MESHES = {
    "llama-3.1-8b": ({"tp": 2}, {"tp": 3}, {"tp": 8}),
    "mixtral-8x7b": ({"tp": 4}, {"ep": 4}, {"tp": 2, "ep": 3}, {"tp": 8, "ep": 2}),
    "deepseek-v3-671b": ({"tp": 3}, {"ep": 8}, {"tp": 2, "ep": 2}),
}
CASES = [(name, mesh) for name, meshes in MESHES.items() for mesh in meshes]


def fed(engine: Engine | MeshEngine) -> list[Array]:
    """Return the results of two sequences of unlike lengths, in one go, in chunks and token by token."""
    session = engine.session(2)
    made = session.step([np.arange(1, 12), np.arange(5, 9)])
    made += session.step([np.arange(20, 27), np.arange(3, 4)])
    made += session.step([np.arange(7, 8), np.arange(0)], "last")
    return made + session.step([np.arange(0), np.arange(9, 10)], "last")


def same(left: list[Array], right: list[Array]) -> bool:
    return all(
        np.array_equal(a.view(np.uint32), b.view(np.uint32))
        for a, b in zip(left, right, strict=True)
    )


def reader(graph: Graph) -> RandomReader:
    return RandomReader(shapes_of(graph), 7)


def shape_of(place: Place) -> tuple[int, ...]:
    assert isinstance(place, Fixed)
    return place.array.shape


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize(("name", "mesh"), CASES)
def test_a_mesh_gives_the_bits_of_one_chip(
    name: str, mesh: Mapping[str, int], numerics: str
) -> None:
    graph = small(name)
    weights = reader(graph)
    one = fed(Engine(graph, weights, numerics, "fast", 1))
    assert all(np.isfinite(values).all() for values in one)
    assert same(one, fed(MeshEngine(graph, weights, numerics, mesh)))


def test_the_twins_in_numpy_meet_like_the_compiled_chips() -> None:
    graph = small("mixtral-8x7b")
    mesh = MeshEngine(graph, reader(graph), "bf16", {"tp": 2, "ep": 2}, "reference")
    assert same(fed(Engine(graph, reader(graph), "bf16", "reference")), fed(mesh))
    assert same(fed(MeshEngine(graph, reader(graph), "bf16", {"tp": 2, "ep": 2})), fed(mesh))


def test_every_element_of_a_weight_is_where_its_type_says() -> None:
    graph = small("llama-3.1-8b")
    mesh = MeshEngine(graph, reader(graph), "f32", {"tp": 4})
    products = [
        [op for op in chip.plan.operations if op.op == "matmul" and op.meeting is None]
        for chip in mesh.chips
    ]
    shapes = [[shape_of(op.inputs[1]) for op in chip[:4]] for chip in products]
    # Two of eight heads on each chip, and the one of two keys that they read: wq, wk, wv, wo.
    assert shapes == [[(16, 48), (8, 48), (8, 48), (48, 16)]] * 4


def test_a_choice_that_is_given_is_given_to_every_chip() -> None:
    graph = small("mixtral-8x7b")

    def decide(decision: Decision) -> Array:
        return np.tile(np.array([5, 0, 2], np.int32), (len(decision.choice), 1))

    def decided(engine: Engine | MeshEngine) -> list[Array]:
        return engine.session().step([np.arange(1, 12)], decide=decide)

    one = Engine(graph, reader(graph), "f32", "fast", 1)
    many = MeshEngine(graph, reader(graph), "f32", {"tp": 2, "ep": 4})
    assert same(decided(one), decided(many))
    assert not same(decided(one), one.session().step([np.arange(1, 12)]))


def test_layers_are_observed_once_and_sequences_go_back_on_every_chip() -> None:
    graph = small("llama-3.1-8b")
    seen: dict[str, list[Array]] = {"one": [], "many": []}
    one = Engine(graph, reader(graph), "f32", "fast", 1).session()
    many = MeshEngine(graph, reader(graph), "f32", {"tp": 3}).session()
    for name, session in (("one", one), ("many", many)):
        session.step([np.arange(1, 9)], observe=lambda _, values, to=seen[name]: to.extend(values))
        assert session.rewind(0, 3) == 3
    assert same(seen["one"], seen["many"])
    assert len(seen["one"]) == 2
    assert isinstance(many, MeshSession)
    assert many.lengths == one.lengths == (3,)
    assert same(one.step([np.arange(4, 6)]), many.step([np.arange(4, 6)]))


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3-671b"])
def test_experts_that_tokens_are_handed_to_give_the_same_bits(name: str, numerics: str) -> None:
    whole, spread = small(name), small(name, "B @dp @ep")
    weights = reader(whole)
    one = fed(Engine(whole, weights, numerics, "fast", 1))
    assert same(one, fed(Engine(spread, weights, numerics, "fast", 1)))
    assert same(one, fed(MeshEngine(spread, weights, numerics, {"ep": 2})))
