# SPDX-License-Identifier: Apache-2.0
"""Packed weights: their elements against independent formulas, and products that never widen a whole weight."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.numbers.numerics import BF16, F32
from device_model.numbers.packed import Packed, mxfp4
from device_model.weights.reading import ArrayReader, evaluate
from dsl.diagnostics import Refused
from dsl.graph import Graph, TensorRef, Transform, Weight
from dsl.types import DTYPES
from tests.device_model.graphs import SPAN, B, Flow, S, tensor

FP4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def scaled(rows: int, columns: int, block: tuple[int, int], seed: int = 0) -> Packed:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, columns)).astype(ml_dtypes.float8_e4m3fn)
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    scales = np.exp(generator.normal(size=grid)).astype(np.float32)
    return Packed(values, scales, *block)


def four_bits(rows: int, columns: int, seed: int = 0) -> Packed:
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (rows, columns // 32, 16), np.uint8)
    scales = generator.integers(118, 128, (rows, columns // 32), np.uint8)
    return mxfp4(blocks, scales)


def by_formula(weight: Packed) -> np.ndarray:
    """Every element on its own, with Python's numbers."""
    rows, columns = weight.shape
    out = np.zeros((rows, columns))
    for n in range(rows):
        for k in range(columns):
            if weight.four_bits:
                byte = int(weight.values[n, k // 2])
                bits = byte >> 4 if k % 2 else byte & 15
                sign = -1.0 if bits & 8 else 1.0
                out[n, k] = sign * FP4[bits & 7] * 2.0 ** (int(weight.scales[n, k // 32]) - 127)
            else:
                scale = weight.scales[n // weight.rows, k // weight.columns]
                out[n, k] = np.float32(float(weight.values[n, k]) * float(scale))
    return out


@pytest.mark.parametrize(
    "weight",
    [scaled(7, 9, (3, 4)), scaled(8, 8, (4, 4)), scaled(5, 3, (128, 128)), four_bits(5, 96)],
    ids=["ragged blocks", "whole blocks", "one block", "mxfp4"],
)
def test_panels_have_the_elements_of_the_formula(weight: Packed) -> None:
    truth = by_formula(weight)
    assert np.array_equal(weight.panel(0, len(weight)), truth)
    for start, stop in ((0, 1), (2, 5), (3, 4), (1, len(weight))):
        assert np.array_equal(weight.panel(start, stop), truth[start:stop])
    rounded = weight.rounded(BF16).panel(0, len(weight))
    assert np.array_equal(rounded, truth.astype(np.float32).astype(ml_dtypes.bfloat16))


def test_every_four_bit_pattern_is_that_of_ml_dtypes() -> None:
    patterns = np.arange(16, dtype=np.uint8)
    blocks = (patterns[:, None] | (patterns[None] << 4)).reshape(16, 1, 16)
    panel = mxfp4(blocks, np.full((16, 1), 127, np.uint8)).panel(0, 16)
    expected = patterns.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert np.array_equal(panel[:, 0::2], np.repeat(expected[:, None], 16, 1))
    assert np.array_equal(panel[:, 1::2], np.repeat(expected[None], 16, 0))


def test_every_power_of_two_is_that_of_ml_dtypes() -> None:
    scales = np.arange(256, dtype=np.uint8)
    ones = np.full((256, 1, 16), 0x22, np.uint8)
    panel = mxfp4(ones, scales[:, None]).panel(0, 256)[:, 0]
    expected = scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float64).astype(np.float32)
    assert np.array_equal(panel, expected, equal_nan=True)


def test_a_transposed_weight_has_transposed_elements() -> None:
    weight = scaled(7, 9, (3, 4))
    assert np.array_equal(weight.swapped().panel(0, 9), by_formula(weight).T)


def source_of(weight: Packed) -> tuple[Transform, dict[str, np.ndarray]]:
    parts = (TensorRef("values", SPAN), TensorRef("scales", SPAN))
    arrays = {"values": weight.values, "scales": weight.scales}
    if weight.four_bits:
        arrays["values"] = weight.values.reshape(len(weight), -1, 16)
        return Transform("mxfp4", parts, {"block": 32}, SPAN), arrays
    attrs = {"dtype": DTYPES["f8e4m3"], "rows": weight.rows, "columns": weight.columns}
    return Transform("scaled", parts, attrs, SPAN), arrays


def product(weight: Packed, rows: int) -> tuple[Graph, ArrayReader]:
    n, k = weight.shape
    origin, arrays = source_of(weight)
    f = Flow()
    x = f.op("gather", (f.weight("table", rows, k), f.input()), B, S, k)
    f.output(f.op("matmul", (x, f.weight("w", n, k, source=origin)), B, S, n, dtype=DTYPES["f32"]))
    table = np.random.default_rng(9).normal(size=(rows, k)).astype(ml_dtypes.bfloat16)
    return f.graph(), ArrayReader({**arrays, "table": table})


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("numerics", ["f32", "bf16"])
@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("kind", ["scaled", "mxfp4"])
def test_products(kind: str, rows: int, numerics: str, kernels: str) -> None:
    weight = scaled(300, 70, (128, 32)) if kind == "scaled" else four_bits(300, 64)
    graph, reader = product(weight, rows)
    (out,) = Engine(graph, reader, numerics, kernels).session().step([np.arange(rows)])
    elements = by_formula(weight)
    if numerics == "bf16":
        elements = elements.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
    truth = reader.read("table").astype(np.float64) @ elements.T
    assert np.abs(out - truth).max() < 1e-5 * np.abs(truth).max()


def test_a_packed_product_has_the_bits_of_the_widened_one() -> None:
    weight = scaled(300, 70, (128, 32))
    graph, reader = product(weight, 5)
    f = Flow()
    x = f.op("gather", (f.weight("table", 5, 70), f.input()), B, S, 70)
    f.output(f.op("matmul", (x, f.weight("w", 300, 70)), B, S, 300, dtype=DTYPES["f32"]))
    plain = {"table": reader.read("table"), "w": weight.rounded(BF16).panel(0, 300)}
    (packed,) = Engine(graph, reader).session().step([np.arange(5)])
    (wide,) = Engine(f.graph(), ArrayReader(plain)).session().step([np.arange(5)])
    assert np.array_equal(packed, wide)


def test_a_stack_of_packed_weights_stays_packed() -> None:
    parts = [scaled(6, 8, (4, 4), seed) for seed in range(3)]
    arrays = {f"{e}.v": p.values for e, p in enumerate(parts)}
    arrays |= {f"{e}.s": p.scales for e, p in enumerate(parts)}
    inner = Transform(
        "scaled",
        (TensorRef("{e}.v", SPAN), TensorRef("{e}.s", SPAN)),
        {"dtype": DTYPES["f8e4m3"], "rows": 4, "columns": 4},
        SPAN,
    )
    origin = Transform("stack", (inner,), {"variable": "e", "count": 3}, SPAN)
    weight = Weight(0, "w", tensor("bf16", 3, 6, 8), origin, SPAN)
    loaded = evaluate(weight, ArrayReader(arrays), 0)
    assert isinstance(loaded, Packed)
    assert loaded.shape == (3, 6, 8)
    assert loaded.values.dtype == ml_dtypes.float8_e4m3fn
    for e, part in enumerate(parts):
        assert np.array_equal(loaded.part(e).panel(0, 6), part.panel(0, 6))


def test_every_other_row_of_a_packed_stack() -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (3, 8, 2, 16), np.uint8)
    scales = np.random.default_rng(1).integers(120, 130, (3, 8, 2), np.uint8)
    parts = (TensorRef("blocks", SPAN), TensorRef("scales", SPAN))
    stored = Transform("mxfp4", parts, {"block": 32}, SPAN)
    attrs = {"axis": 1, "start": 1, "stop": 8, "step": 2}
    weight = Weight(
        0, "w", tensor("bf16", 3, 4, 64), Transform("part", (stored,), attrs, SPAN), SPAN
    )
    loaded = evaluate(weight, ArrayReader({"blocks": blocks, "scales": scales}), 0)
    assert isinstance(loaded, Packed)
    whole = mxfp4(blocks, scales)
    for e in range(3):
        assert np.array_equal(loaded.part(e).panel(0, 4), whole.part(e).panel(0, 8)[1::2])


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_a_packed_weight_is_never_widened_as_a_whole(kernels: str) -> None:
    weight = scaled(4096, 1024, (128, 128))
    graph, reader = product(weight, 1)
    session = Engine(graph, reader, kernels=kernels).session()
    session.step([np.zeros(1, np.int64)])
    tracemalloc.start()
    session.step([np.zeros(1, np.int64)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < weight.values.size * F32.itemsize / 2


def test_moving_the_elements_of_a_packed_weight_is_refused() -> None:
    origin, arrays = source_of(scaled(4, 4, (2, 2)))
    moved = Transform("half_pairs", (origin,), {"heads": 2}, SPAN)
    weight = Weight(0, "w", tensor("bf16", 4, 4), moved, SPAN)
    with pytest.raises(ValueError, match="cannot move the elements"):
        evaluate(weight, ArrayReader(arrays), 0)


def part(start: int, stop: int, groups: int = 1) -> dict[str, int]:
    return {"axis": 0, "start": start, "stop": stop, "step": 1, "groups": groups}


@pytest.mark.parametrize(("start", "stop", "groups"), [(0, 4, 1), (4, 12, 1), (2, 4, 3)])
def test_whole_blocks_of_rows_may_be_read_alone(start: int, stop: int, groups: int) -> None:
    origin, arrays = source_of(scaled(12, 4, (2, 2)))
    whole = evaluate(Weight(0, "w", tensor("bf16", 12, 4), origin, SPAN), ArrayReader(arrays), 0)
    rows = groups * (stop - start)
    taken = Transform("part", (origin,), part(start, stop, groups), SPAN)
    found = evaluate(Weight(0, "w", tensor("bf16", rows, 4), taken, SPAN), ArrayReader(arrays), 0)
    expected = whole.panel(0, 12).reshape(groups, -1, 4)[:, start:stop].reshape(rows, 4)
    assert np.array_equal(found.panel(0, rows), expected)
    folded = Transform("fold", (taken,), {"groups": 2}, SPAN)
    weight = Weight(0, "w", tensor("bf16", 2, rows // 2, 4), folded, SPAN)
    if rows % 4:
        with pytest.raises(Refused, match="cut through its blocks"):
            evaluate(weight, ArrayReader(arrays), 0)
        return
    second = evaluate(weight, ArrayReader(arrays), 0).part(1)
    assert np.array_equal(second.panel(0, rows // 2), expected[rows // 2 :])


@pytest.mark.parametrize(("start", "stop", "groups"), [(0, 3, 1), (1, 4, 1), (0, 2, 4)])
def test_a_block_of_rows_is_not_cut(start: int, stop: int, groups: int) -> None:
    origin, arrays = source_of(scaled(12, 4, (2, 2)))
    taken = Transform("part", (origin,), part(start, stop, groups), SPAN)
    rows = groups * (stop - start)
    with pytest.raises(Refused, match="cut through its blocks"):
        evaluate(Weight(0, "w", tensor("bf16", rows, 4), taken, SPAN), ArrayReader(arrays), 0)
