# SPDX-License-Identifier: Apache-2.0
"""Where weights come from, and where values per token live."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device_model.engine.engine import Engine
from device_model.engine.states import Cache
from device_model.numbers.packed import Packed
from device_model.program.arena import Segment, Space, allocate
from device_model.program.call import Batch
from device_model.program.places import StateRef
from device_model.weights.reading import (
    ArrayReader,
    Fill,
    RandomReader,
    Shape,
    evaluate,
    shapes_of,
    source,
)
from dsl.graph import Attr, TensorRef, Transform, WeightSource
from dsl.types import DTYPES
from porting.planning.bound import bound_graph
from tests.conftest import TESTS
from tests.device_model.graphs import SPAN, Llama

A = np.arange(24, dtype=np.float32).reshape(4, 6)
READER = ArrayReader({"a": A, "0.w": A, "1.w": A + 100})


def reference(name: str) -> TensorRef:
    return TensorRef(name, SPAN)


def transformed(function: str, *parts: WeightSource, **attrs: Attr) -> np.ndarray:
    return source(Transform(function, parts, attrs, SPAN), READER, 1, {})


def test_a_plain_tensor_is_not_copied() -> None:
    assert np.shares_memory(source(reference("a"), READER, 0, {}), A)


def test_the_layer_stands_in_the_name() -> None:
    assert np.array_equal(source(reference("{i}.w"), READER, 1, {}), A + 100)


def test_transformations() -> None:
    a, w = reference("a"), reference("{i}.w")
    assert np.array_equal(transformed("transpose", a), A.T)
    assert np.array_equal(transformed("part", a, axis=0, start=1, stop=3), A[1:3])
    assert np.array_equal(transformed("part", a, axis=1, start=1, stop=6, step=3), A[:, [1, 4]])
    assert np.array_equal(transformed("stack", a, w), np.stack([A, A + 100]))
    assert np.array_equal(transformed("join", a, w), np.concatenate([A, A + 100]))
    counted = transformed("stack", reference("{e}.w"), variable="e", count=2)
    assert np.array_equal(counted, np.stack([A, A + 100]))


def test_half_pairs_turns_pairs_into_halves() -> None:
    rows = transformed("half_pairs", reference("a"), heads=1)
    assert np.array_equal(rows, A[[0, 2, 1, 3]])


def test_parts_of_each_group() -> None:
    part = transformed("part", reference("a"), axis=0, start=1, stop=2, groups=2)
    size = len(A) // 2
    assert np.array_equal(part, A[[1, size + 1]])


def test_fold_splits_the_leading_axis() -> None:
    assert np.array_equal(
        transformed("fold", reference("a"), groups=2), A.reshape(2, -1, A.shape[1])
    )


def test_flat_joins_the_leading_axes() -> None:
    assert np.array_equal(transformed("flat", reference("a")), A.reshape(-1))


def test_rows_of_a_tensor_are_not_copied() -> None:
    assert np.shares_memory(transformed("part", reference("a"), axis=0, start=1, stop=3), A)


def test_random_tensors_depend_on_seed_and_name_alone() -> None:
    shape = Shape((300, 100), DTYPES["bf16"])
    one, two = RandomReader({"x": shape, "y": shape}, 7), RandomReader({"y": shape}, 7)
    assert np.array_equal(one.read("y"), two.read("y"))
    assert not np.array_equal(one.read("y"), one.read("x"))
    assert not np.array_equal(one.read("y"), RandomReader({"y": shape}, 8).read("y"))
    assert abs(float(one.read("y").astype(np.float32).std()) - 0.1) < 0.005


def test_shapes_of_a_graph_are_those_of_its_tensors() -> None:
    model = Llama()
    shapes = shapes_of(model.graph())
    expected = {name: dims for name, dims in model.shapes().items() if ".qn" not in name}
    assert {name: shape.dims for name, shape in shapes.items()} == expected


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 9), st.sampled_from([8, 64, 100, 4096])),
        min_size=1,
        max_size=40,
    )
)
def test_buffers_that_live_together_share_no_byte(lives: list[tuple[int, int, int]]) -> None:
    spaces = {i: Space(Segment.BODY, size) for i, (_, _, size) in enumerate(lives)}
    used = {i: [first, first + length] for i, (first, length, _) in enumerate(lives)}
    sizes, offsets = allocate(spaces, used)
    for i, (a, la, sa) in enumerate(lives):
        assert offsets[i] + sa <= sizes[Segment.BODY]
        for j, (b, lb, sb) in enumerate(lives[:i]):
            together = a <= b + lb and b <= a + la
            apart = offsets[i] + sa <= offsets[j] or offsets[j] + sb <= offsets[i]
            assert apart or not together


def test_a_cache_keeps_its_content_when_it_grows() -> None:
    state = StateRef(0, (2,), (3,), np.dtype(np.float32))
    cache = Cache([state], 2)
    written = []
    for count in (5, 60, 200):
        length = int(cache.lengths[1])
        cache.extend(np.array([0, count]))
        new = np.random.default_rng(count).normal(size=(count, 2, 3)).astype(np.float32)
        position = np.arange(length, length + count)
        rows = Batch(np.ones(count, np.int64), position, np.array([0, 0, count]), cache.lengths)
        cache.append(state, new, rows)
        written.append(new)
    empty, kept = cache.context(state)
    assert empty.shape == (2, 0, 3)
    assert np.array_equal(kept, np.concatenate(written).swapaxes(0, 1))


def test_random_weights_fill_what_is_stored_packed() -> None:
    graph = bound_graph(TESTS / "dsl/specs/quantised.sohu")
    shapes = shapes_of(graph)
    assert shapes["gate_up_blocks"].fill is Fill.PATTERNS
    assert shapes["gate_up_scales"].fill is Fill.EXPONENTS
    assert shapes["dense.weight_scale_inv"].fill is Fill.FACTORS
    reader = RandomReader(shapes, 3)
    weight = next(w for w in graph.body.weights if w.name == "gate")
    gate = evaluate(weight, reader, -1)
    assert isinstance(gate, Packed)
    elements = np.stack([gate.part(e).panel(0, 128) for e in range(4)])
    assert 0.5 < elements.std() * 256**0.5 < 2
    (out,) = Engine(graph, reader).session().step([np.arange(9)])
    assert np.isfinite(out).all()
    assert out.std() > 0
