# SPDX-License-Identifier: Apache-2.0
"""What a chip's plan refuses, and what it cuts of weights in blocks."""

import ml_dtypes
import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.engine.stage_plan import rank_plan
from device_model.mesh.engine import MeshEngine
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.packed import Packed
from device_model.weights.reading import RandomReader, shapes_of
from dsl.diagnostics import Refused
from dsl.inference.inference import infer
from dsl.linking.program import link
from dsl.mesh.rank import Rank, ranks
from dsl.source import Source
from dsl.text.parser import parse
from tests.device_model.mesh.texts import small


def blocks(rows: int, columns: int, **options: object) -> Packed:
    """A weight [rows, columns] in blocks of 8 x 16."""
    draw = np.random.default_rng(3)
    values = draw.normal(size=(rows, columns)).astype(ml_dtypes.float8_e4m3fn)
    scales = np.exp(draw.normal(size=(-(-rows // 8), -(-columns // 16)))).astype(np.float32)
    return Packed(values, scales, 8, 16, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "span", [((0, 16), None), ((8, 24), (16, 48)), (None, (32, 40)), ((24, 30), (0, 16))]
)
def test_a_cut_weight_in_blocks_has_the_elements_of_the_whole(
    span: tuple[tuple[int, int] | None, tuple[int, int] | None],
) -> None:
    whole = blocks(30, 40)
    part = whole.cut(span)
    at = tuple(slice(None) if one is None else slice(*one) for one in span)
    expected = whole.panel(0, 30)[at]
    assert part.shape == expected.shape
    assert np.array_equal(part.panel(0, len(part)), expected)


@pytest.mark.parametrize("span", [((4, 16), None), (None, (0, 20)), (None, (8, 40))])
def test_a_block_is_not_cut(span: tuple[tuple[int, int] | None, ...]) -> None:
    with pytest.raises(ValueError, match="cuts a block"):
        blocks(30, 40).cut(span)


def test_rows_that_are_quantised_are_not_cut() -> None:
    graph = small("llama-3.1-8b")
    rank = Rank({"tp": 2}, {"tp": 1})
    with pytest.raises(Refused, match="S618"):
        rank_plan(graph, RandomReader(shapes_of(graph), 1), numerics_named("f8e4m3"), rank)


def test_chips_of_a_group_plan_the_same_meetings() -> None:
    graph = small("deepseek-v3-671b")
    sizes = {"tp": 3, "ep": 2}
    plans = [
        rank_plan(graph, RandomReader(shapes_of(graph), 1), numerics_named("f32"), rank)
        for rank in ranks(sizes)
    ]
    met = [[op.meeting for op in plan.operations if op.meeting is not None] for plan in plans]
    assert len({len(meetings) for meetings in met}) == 1
    for at in zip(*met, strict=True):
        for number, meeting in enumerate(at):
            assert number in meeting.group
            assert all(at[peer] == meeting for peer in meeting.group)


def test_no_mesh_exchanges_weights() -> None:
    # The checker accepts it, and rightly: a chip that had all rows of the weight would have all logits.
    late, early = (
        'all_gather(matmul(x, head, dtype="f32"), tp)',
        'matmul(x, all_gather(head, tp), dtype="f32")',
    )
    graph = small("llama-3.1-8b", "B @dp", (late, early))
    reader, numerics = RandomReader(shapes_of(graph), 1), numerics_named("f32")
    with pytest.raises(Refused, match="S618"):
        rank_plan(graph, reader, numerics, Rank({"tp": 2}, {"tp": 1}))
    whole = rank_plan(graph, reader, numerics, Rank({"tp": 1}, {"tp": 0}))
    assert all(operation.meeting is None for operation in whole.operations)


TWICE = """sohu 1.0

family twice for "TwiceForCausalLM" {
  config {
    D = 8
    F = 12
    V = 20
  }
  dims { B: batch, S: seq, C: context }
  mesh { tp, ep }

  input tokens: i32[B, S]
  weight table: bf16[V, D] from "table"
  x = gather(table, tokens)
  weight up: bf16[F @tp @ep, D] from "up"
  weight down: bf16[D, F @tp @ep] from "down"
  output y: bf16[B, S, D] = all_reduce(matmul(matmul(x, up), down), tp, ep)
}
"""


@pytest.mark.parametrize(
    ("sizes", "said"),
    [({"tp": 2, "ep": 2}, "cut one within the other"), ({"tp": 3, "ep": 5}, "not divided by ep=5")],
)
def test_a_sum_that_two_axes_cut_is_refused_unless_one_has_a_single_chip(
    sizes: dict[str, int], said: str
) -> None:
    program = link(parse(Source("twice.sohu", TWICE)), lambda use: None)
    graph = infer(program.family(), program.blocks, None).graph
    assert graph is not None
    reader = RandomReader(shapes_of(graph), 1)
    with pytest.raises(Refused, match="S618") as refused:
        rank_plan(graph, reader, numerics_named("f32"), ranks(sizes)[0])
    assert said in refused.value.diagnostics[0].message


@pytest.mark.parametrize("mesh", [{"tp": 4}, {"ep": 3}])
def test_one_of_two_axes_alone_cuts_a_sum_to_the_same_bits(mesh: dict[str, int]) -> None:
    program = link(parse(Source("twice.sohu", TWICE)), lambda use: None)
    graph = infer(program.family(), program.blocks, None).graph
    assert graph is not None
    reader = RandomReader(shapes_of(graph), 1)
    fed = np.arange(5)
    one = Engine(graph, reader, "f32", "fast", 1).session().step([fed])[0]
    assert np.array_equal(MeshEngine(graph, reader, "f32", mesh).session().step([fed])[0], one)
