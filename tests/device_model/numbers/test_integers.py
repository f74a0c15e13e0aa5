# SPDX-License-Identifier: Apache-2.0
"""Four-bit weights of GPTQ and AWQ: repacked nibbles against numbers written one at a time, and their products."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.numbers.integers import awq, gptq
from device_model.numbers.numerics import BF16, F32
from device_model.numbers.packed import Packed, mxfp4
from device_model.weights.reading import ArrayReader, Fill, RandomReader, evaluate, shapes_of
from dsl.diagnostics import Refused
from dsl.graph import Attr, Graph, TensorRef, Transform, Weight
from dsl.types import DTYPES
from tests import four_bits
from tests.device_model.graphs import SPAN, B, Flow, S, tensor
from tests.four_bits import Numbers, drawn

SHAPES = [(8, 8, 8), (8, 8, 1), (16, 24, 3), (40, 56, 7), (24, 120, 5), (264, 64, 64), (8, 264, 33)]
FORMATS = ["gptq", "gptq_v2", "awq"]


def stored(numbers: Numbers, form: str) -> dict[str, np.ndarray]:
    return four_bits.awq(numbers) if form == "awq" else four_bits.gptq(numbers, form == "gptq")


def loaded(numbers: Numbers, form: str) -> Packed:
    tensors = stored(numbers, form)
    if form == "awq":
        return awq(*tensors.values(), numbers.group)
    return gptq(*tensors.values(), numbers.group, int(form == "gptq"))


def source(form: str, group: int, at: str = "") -> Transform:
    names = ["qweight", "qzeros", "scales"] + ["g_idx"] * (form != "awq")
    parts = []
    for name in names:
        dtype = DTYPES["f16" if name == "scales" else "i32"]
        parts.append(TensorRef(f"{at}{name}", SPAN, dtype=dtype))
    attrs: dict[str, Attr] = {"group": group}
    if form != "awq":
        attrs["added"] = int(form == "gptq")
    return Transform("awq" if form == "awq" else "gptq", tuple(parts), attrs, SPAN)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("n", "k", "group"), SHAPES)
def test_every_number_is_where_it_belongs(n: int, k: int, group: int, form: str) -> None:
    numbers = drawn(n, k, group, seed=n + k)
    weight = loaded(numbers, form)
    truth = numbers.weight()
    assert weight.shape == (n, k)
    assert np.array_equal(weight.panel(0, n), truth)
    assert np.array_equal(weight.panel(3, n - 1), truth[3 : n - 1])
    assert np.array_equal(weight.swapped().panel(0, k), truth.T)
    assert np.array_equal(weight.swapped().swapped().values, weight.values)
    rounded = weight.rounded(BF16).panel(0, n)
    assert np.array_equal(rounded, truth.astype(np.float32).astype(ml_dtypes.bfloat16))


def test_awq_of_an_odd_width() -> None:
    numbers = drawn(16, 15, 5)
    assert np.array_equal(loaded(numbers, "awq").panel(0, 16), numbers.weight())


def test_words_are_those_of_the_libraries() -> None:
    """The word of 0 to 7 as AutoGPTQ and AutoAWQ pack it, and a symmetric weight's zero points."""
    along = Numbers(np.arange(8)[None].repeat(8, 0), np.ones((8, 1)), np.full((8, 1), 8), 8)
    tensors = four_bits.gptq(along)
    assert set(tensors["qweight"].view(np.uint32).flat) == {0x76543210}
    assert set(tensors["qzeros"].view(np.uint32).flat) == {0x77777777}
    across = Numbers(along.q.T, along.scales, along.zeros, 8)
    assert set(four_bits.awq(across)["qweight"].view(np.uint32).flat) == {0x75316420}


def test_scales_of_32_bits_round_once() -> None:
    numbers = drawn(8, 8, 8)
    scales = np.exp(np.random.default_rng(0).normal(size=(8, 1))).astype(np.float32)
    exact = Numbers(numbers.q, scales, numbers.zeros, 8).weight()
    tensors = four_bits.gptq(numbers) | {"scales": np.ascontiguousarray(scales.T)}
    assert np.array_equal(gptq(*tensors.values(), 8, 1).panel(0, 8), exact.astype(np.float32))


@pytest.mark.parametrize("columns", [32, 96])
def test_mxfp4_may_be_transposed(columns: int) -> None:
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (2, 7, columns // 32, 16), np.uint8)
    weight = mxfp4(blocks, random.integers(118, 128, (2, 7, columns // 32), np.uint8))
    turned = weight.swapped()
    assert turned.shape == (2, columns, 7)
    for e in range(2):
        assert np.array_equal(turned.part(e).panel(0, columns), weight.part(e).panel(0, 7).T)


def product(numbers: Numbers, rows: int, *, turned: bool = False) -> tuple[Graph, ArrayReader]:
    n, k = numbers.q.shape
    origin = source("gptq", numbers.group)
    if turned:
        origin, n, k = Transform("transpose", (origin,), {}, SPAN), k, n
    f = Flow()
    x = f.op("gather", (f.weight("table", rows, k), f.input()), B, S, k)
    f.output(f.op("matmul", (x, f.weight("w", n, k, source=origin)), B, S, n, dtype=DTYPES["f32"]))
    table = np.random.default_rng(9).normal(size=(rows, k)).astype(ml_dtypes.bfloat16)
    return f.graph(), ArrayReader({**four_bits.gptq(numbers), "table": table})


@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("group", [5, 8, 120])
@pytest.mark.parametrize("turned", [False, True])
def test_products(turned: bool, group: int, rows: int, numerics: str) -> None:
    numbers = drawn(264, 120, group)
    graph, reader = product(numbers, rows, turned=turned)
    fast, reference = (
        Engine(graph, reader, numerics, kernels).session().step([np.arange(rows)])[0]
        for kernels in ("fast", "reference")
    )
    elements = numbers.weight().T if turned else numbers.weight()
    if numerics == "bf16":
        elements = elements.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
    truth = reader.read("table").astype(np.float64) @ elements.T
    assert np.abs(reference - truth).max() < 1e-5 * np.abs(truth).max()
    assert np.array_equal(fast, reference)


def test_a_weight_is_never_widened_as_a_whole() -> None:
    random = np.random.default_rng(0)
    n, k, group = 2048, 2048, 128
    tensors = {
        "qweight": random.integers(-(2**31), 2**31, (k // 8, n)).astype(np.int32),
        "qzeros": np.full((k // group, n // 8), 0x77777777, np.int32),
        "scales": np.full((k // group, n), 0.01, np.float16),
        "g_idx": (np.arange(k) // group).astype(np.int32),
    }
    across = tensors["qweight"].reshape(k, n // 8)
    tracemalloc.start()
    gptq(*tensors.values(), group, 1)
    first = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    awq(across, tensors["qzeros"], tensors["scales"], group)
    second = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first < n * k * 1.5
    assert second < n * k * F32.itemsize * 4


def test_a_stack_of_experts_is_read_in_parts() -> None:
    parts = [drawn(16, 24, 8, seed) for seed in range(3)]
    arrays = {f"{e}.{k}": v for e, p in enumerate(parts) for k, v in stored(p, "awq").items()}
    stack = Transform("stack", (source("awq", 8, "{e}."),), {"variable": "e", "count": 3}, SPAN)
    attrs = {"axis": 1, "start": 8, "stop": 16, "step": 1}
    taken = Transform("part", (stack,), attrs, SPAN)
    weight = Weight(0, "w", tensor("bf16", 3, 8, 24), taken, SPAN)
    found = evaluate(weight, ArrayReader(arrays), 0)
    assert isinstance(found, Packed)
    for e, part in enumerate(parts):
        assert np.array_equal(found.part(e).panel(0, 8), part.weight()[8:])


@pytest.mark.parametrize("form", ["gptq", "awq"])
def test_random_weights(form: str) -> None:
    n, k, group = 32, 64, 16
    shapes = {"qweight": (k // 8, n), "qzeros": (k // group, n // 8), "scales": (k // group, n)}
    if form == "awq":
        shapes["qweight"] = (k, n // 8)
    shapes["g_idx"] = (k,)
    origin = source(form, group)
    sized = tuple(
        TensorRef(p.name, SPAN, shapes[p.name], shapes[p.name], dtype=p.dtype)
        for p in origin.parts
        if isinstance(p, TensorRef)
    )
    f = Flow()
    x = f.op("gather", (f.weight("table", 5, k), f.input()), B, S, k)
    made = f.weight("w", n, k, source=Transform(form, sized, origin.attrs, SPAN))
    f.output(f.op("matmul", (x, made), B, S, n, dtype=DTYPES["f32"]))
    graph = f.graph()
    reader = RandomReader(shapes_of(graph), 3)
    assert reader.shapes["scales"].fill is Fill.STEPS
    weight = next(w for w in graph.body.weights if w.name == "w")
    packed = evaluate(weight, reader, 0)
    assert isinstance(packed, Packed)
    assert 0.7 < packed.panel(0, n).std() * k**0.5 < 1.4
    (out,) = Engine(graph, reader).session().step([np.arange(5)])
    assert np.isfinite(out).all()


def refusal(form: str, group: int = 8, **changed: np.ndarray) -> str:
    tensors = stored(drawn(16, 24, 8), form) | changed
    more = () if form == "awq" else (int(form == "gptq"),)
    with pytest.raises(Refused) as caught:
        (awq if form == "awq" else gptq)(*tensors.values(), group, *more)
    (said,) = caught.value.diagnostics
    return f"{said.code} {said.message}"


def test_a_group_that_there_is_not() -> None:
    index = np.repeat(np.arange(3), 8)
    for wrong in (3, -1):
        index[9] = wrong
        said = refusal("gptq", g_idx=index.astype(np.int32))
        assert said.startswith(f"S565 column 9 belongs to group {wrong} of 3")


def test_columns_out_of_order_are_written_out() -> None:
    numbers = drawn(16, 24, 8)
    order = np.random.default_rng(0).permutation(24)
    mixed = Numbers(numbers.q[:, order], numbers.scales, numbers.zeros, 8)
    tensors = four_bits.gptq(mixed) | {"g_idx": (order // 8).astype(np.int32)}
    written = gptq(*tensors.values(), 8, 1)
    assert isinstance(written, np.ndarray)
    assert np.array_equal(written, numbers.weight()[:, order])


def test_a_zero_point_that_libraries_read_differently() -> None:
    zeros = np.full((3, 2), 0x77777777, np.uint32)
    zeros[1, 1] |= 0xF0
    assert refusal("gptq", qzeros=zeros.view(np.int32)).startswith("S565")
    numbers = drawn(16, 24, 8)
    tensors = four_bits.gptq(numbers, 0) | {"qzeros": zeros.view(np.int32)}
    assert gptq(*tensors.values(), 8, 0).scales[12 - 3, 1, 1] == 15


WORDS = np.zeros((3, 2), np.int32)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "changed",
    [
        {"qweight": np.zeros((3, 2), np.float32)},
        {"qweight": np.zeros(16, np.int32)},
        {"qweight": np.zeros((0, 16), np.int32)},
        {"qzeros": WORDS[:, :1]},
        {"qzeros": WORDS.astype(np.int64)},
        {"scales": np.ones((2, 16), np.float16)},
        {"scales": np.ones(16, np.float16)},
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, np.ndarray], form: str) -> None:
    assert refusal(form, **changed).startswith("S562")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("group", [0, -1, 5, 10**12])
def test_groups_are_whole(group: int, form: str) -> None:
    assert refusal(form, group).startswith("S562")
