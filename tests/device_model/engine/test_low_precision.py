# SPDX-License-Identifier: Apache-2.0
"""Runs in low precision: every choice of the table against exact arithmetic, and the promise on bits.

The oracle rounds with fractions to the nearest of all numbers of a format, ties to the even pattern, and adds exactly;
what a device may differ by is what its accumulator may lose.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.numbers.catalogue import known_numerics, numerics_named
from device_model.numbers.numerics import BF16, Array, Numerics
from device_model.numbers.packed import Packed
from device_model.numbers.precision import Accumulator, Operand, Overflow, Product, Rounding, Scale
from device_model.numbers.quantise import weight as packed
from device_model.weights.reading import ArrayReader
from dsl.diagnostics import Refused
from dsl.graph import Graph
from dsl.types import DTYPES
from tests.device_model.graphs import B, Flow, Llama, S, tensor

LOW = [name for name, numerics in known_numerics().items() if numerics.product is not None]
ROWS, N, K = 9, 21, 75
"""K is a multiple of no group."""


def in_a_layer(rows: int, n: int, k: int, dtype: str = "f32") -> Graph:
    """Return one layer that is one product."""
    f = Flow()
    x = f.op("gather", (f.weight("table", rows, k), f.input()), B, S, k)
    f.open()
    entering = f.value(tensor("bf16", B, S, k))
    made = f.op("matmul", (entering, f.weight("w", n, k)), B, S, n, dtype=DTYPES[dtype])
    body = f.close()
    f.output(f.repeat(((body, entering, made, (0,)),), x, tensor("bf16", B, S, n)))
    return f.graph()


def operands(rows: int = ROWS, n: int = N, k: int = K, seed: int = 0) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    spread = np.exp(generator.normal(size=(rows, 1)) * 2)
    table = (generator.normal(size=(rows, k)) * spread).astype(ml_dtypes.bfloat16)
    return {"table": table, "w": generator.normal(size=(n, k)).astype(ml_dtypes.bfloat16)}


def run(
    numerics: str | Numerics, arrays: dict[str, Array], kernels: str = "fast", threads: int = 2
) -> Array:
    (rows, k), n = arrays["table"].shape, len(arrays["w"])
    graph = in_a_layer(rows, n, k)
    engine = Engine(graph, ArrayReader(arrays), numerics, kernels, threads)
    (out,) = engine.session().step([np.arange(rows)])
    return out


@cache
def numbers(format_: str) -> tuple[Fraction, ...]:
    """Every number of a format that is not negative, in the order of its patterns."""
    if format_ in ("i8", "i4"):
        return tuple(map(Fraction, range(128 if format_ == "i8" else 8)))
    exponent, mantissa, count = {
        "f8e4m3": (4, 3, 127), "f8e5m2": (5, 2, 124), "f4e2m1": (2, 1, 8)
    }[format_]  # fmt: skip
    bias = 2 ** (exponent - 1) - 1
    found = []
    for pattern in range(count):
        field, fraction = pattern >> mantissa, pattern % 2**mantissa
        lead = fraction + (2**mantissa if field else 0)
        found.append(Fraction(lead) * Fraction(2) ** (max(field, 1) - bias - mantissa))
    return tuple(found)


def nearest(value: Fraction, format_: str) -> Fraction:
    """Round to the nearest number, of two the one with the even pattern; beyond the largest to it."""
    known = numbers(format_)
    size = min(abs(value), known[-1])
    low = max(i for i, number in enumerate(known) if number <= size)
    high = min(low + 1, len(known) - 1)
    down, up = size - known[low], known[high] - size
    chosen = known[low] if down < up or (down == up and low % 2 == 0) else known[high]
    return -chosen if value < 0 else chosen


def power_of_two_below(value: Fraction) -> int:
    exponent = 0
    while Fraction(2) ** exponent > value:
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= value:
        exponent += 1
    return exponent


def scale_of(values: list[Fraction], operand: Operand) -> Fraction:
    top, most = max(map(abs, values)), numbers(operand.format)[-1]
    if operand.scale is Scale.NONE or top == 0:
        return Fraction(1)
    if operand.scale is Scale.BLOCK:
        shared = power_of_two_below(top) - power_of_two_below(most)
        if operand.name.endswith("_up") and top > most * Fraction(2) ** shared:
            shared += 1
        return Fraction(2) ** shared
    return Fraction(float(np.float32(float(top)) / np.float32(float(most))))


def oracle_rows(array: Array, operand: Operand | None) -> list[list[Fraction]]:
    """Return what an operand makes of rows, with their scales; a scaled number is rounded to float32 first."""
    exact = [[Fraction(float(v)) for v in row] for row in array]
    if operand is None:
        return exact
    found = []
    for row in exact:
        size = {Scale.BLOCK: 32, Scale.GROUP: operand.group}.get(operand.scale, len(row))
        low: list[Fraction] = []
        for start in range(0, len(row), size):
            group = row[start : start + size]
            scale = scale_of(group, operand)
            scaled = [
                Fraction(float(np.float32(float(v)) / np.float32(float(scale)))) for v in group
            ]
            low += [nearest(v, operand.format) * scale for v in scaled]
        found.append(low)
    return found


def bound(product: Product) -> float:
    """Return the relative error, of the sum of all sizes, that rounding points allow: sums, scales, elements."""
    lost = 2.0**-23 if product.accumulator.is_narrow is False else 2.0**-13
    elements = 2.0**-9 if product.weight.scale is Scale.GROUP else 0.0
    return lost * K + 4 * 2.0**-24 + elements


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", LOW)
def test_products_are_those_of_exact_arithmetic(name: str, kernels: str) -> None:
    arrays, product = operands(), numerics_named(name).product
    assert product is not None
    out = run(name, arrays, kernels)
    x = oracle_rows(arrays["table"], product.activation)
    w = oracle_rows(arrays["w"], product.weight)
    limit = bound(product)
    for r in range(ROWS):
        for c in range(N):
            terms = [a * b for a, b in zip(x[r], w[c], strict=True)]
            assert abs(float(Fraction(float(out[r, c])) - sum(terms))) <= limit * float(
                sum(map(abs, terms))
            )


def test_whole_numbers_are_added_exactly() -> None:
    arrays, product = operands(k=3000), numerics_named("int8").product
    assert product is not None
    x, w = (oracle_codes(arrays[name]) for name in ("table", "w"))
    whole = x[0].astype(object) @ w[0].astype(object).T
    expected = whole.astype(np.float64).astype(np.float32) * x[1][:, None] * w[1][None]
    for kernels in ("fast", "reference"):
        assert np.array_equal(run("int8", arrays, kernels), expected)


def oracle_codes(array: Array) -> tuple[Array, Array]:
    scales = np.abs(array.astype(np.float32)).max(axis=1) / np.float32(127)
    codes = np.rint(array.astype(np.float32) / scales[:, None])
    return codes.astype(np.int64), scales


@pytest.mark.parametrize("name", [*LOW, "f16"])
def test_the_compiled_product_is_its_twin(name: str) -> None:
    for k in (1, 31, 75, 300):
        arrays = operands(k=k, seed=k)
        assert np.array_equal(run(name, arrays), run(name, arrays, "reference"))


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", LOW)
def test_rows_of_zeros_and_rows_that_are_not_finite(name: str, kernels: str) -> None:
    arrays, product = operands(), numerics_named(name).product
    assert product is not None
    clean = run(name, arrays, kernels)
    arrays["table"][1] = 0
    arrays["table"][3, 40], arrays["table"][5, 2] = np.nan, np.inf
    arrays["w"][4], arrays["w"][7, 70] = 0, np.nan
    out = run(name, arrays, kernels)
    assert not out[1, [c for c in range(N) if c != 7]].any()
    assert not out[[r for r in range(ROWS) if r not in (3, 5)], 4].any()
    assert np.isnan(out[3]).all()
    assert np.isnan(out[:, 7]).all()
    kept = product.activation
    clipped = kept is not None and (kept.scale, kept.overflow) == (Scale.NONE, Overflow.SATURATE)
    assert np.isfinite(np.delete(out[5], 7)).all() == clipped
    same = np.ix_([0, 2, 4, 6, 7, 8], [c for c in range(N) if c not in (4, 7)])
    assert np.array_equal(out[same], clean[same])


def test_beyond_the_largest_number() -> None:
    arrays = {"table": np.full((1, 8), 1000, BF16), "w": np.full((2, 8), 1, BF16)}
    assert (run("f8e4m3_cast", arrays) == 8 * 448).all()
    assert np.isnan(run("f8e4m3_cast_nonfinite", arrays)).all()
    # Where the scale follows the row nothing lies beyond, whichever the mode.
    assert (run("f8e4m3_nonfinite", arrays) == run("f8e4m3", arrays)).all()


def test_floors_and_rounded_up_exponents() -> None:
    values = np.zeros((1, 32), BF16)
    values[0, 0], values[0, 1] = 7.5, 0.25
    down = packed(values, operand("mxfp4"), BF16)
    up = packed(values, operand("mxfp4_up"), BF16)
    assert (down.scales.item(), up.scales.item()) == (127, 128)
    assert down.panel(0, 1)[0, :2].tolist() == [6.0, 0.0]  # clipped; 1/4 is half a step
    assert up.panel(0, 1)[0, :2].tolist() == [8.0, 0.0]


def operand(name: str) -> Operand:
    product = numerics_named(name).product
    assert product is not None
    return product.weight


@pytest.mark.parametrize(
    ("name", "bits"),
    [("f8e4m3", 8.5), ("int8", 8.5), ("mxfp8", 8.25), ("mxfp4", 4.25), ("int4", 5.0)],
)
def test_weights_are_held_packed(name: str, bits: float) -> None:
    held = packed(np.ones((3, 64, 64), BF16), operand(name), BF16)
    assert held.shape == (3, 64, 64)
    assert held.nbytes * 8 <= bits * 3 * 64 * 64


BITS, LANES = 14, 8


def accumulate(products: Array, rounded, chunk: int) -> Array:
    """Return sums [N] of integer products [N, K] in the declared order."""
    total = np.zeros(len(products), np.int64)
    for start in range(0, products.shape[1], chunk):
        part = products[:, start : start + chunk]
        padded = np.pad(part, ((0, 0), (0, -part.shape[1] % LANES))).reshape(len(part), -1, LANES)
        sums = np.zeros((len(part), LANES), np.int64)
        for k in range(padded.shape[1]):
            sums = rounded(sums + padded[:, k])
        for distance in (4, 2, 1):
            sums = rounded(sums[:, :distance] + sums[:, distance : 2 * distance])
        total = total + sums[:, 0]
    assert np.abs(total).max() < 2**24  # so that the sum of chunks is exact in float32
    return total


def truncated(sums: Array) -> Array:
    size = np.abs(sums)
    drop = np.maximum(np.frexp(size.astype(np.float64))[1] - BITS, 0).astype(np.int64)
    return np.sign(sums) * (size >> drop << drop)


def to_nearest(sums: Array) -> Array:
    size = np.abs(sums)
    drop = np.maximum(np.frexp(size.astype(np.float64))[1] - BITS, 0).astype(np.int64)
    kept, rest = size >> drop, size & ((1 << drop) - 1)
    half = np.where(drop > 0, 1 << np.maximum(drop - 1, 0), 1)
    up = (rest > half) | ((rest == half) & (kept & 1 == 1))
    return np.sign(sums) * ((kept + up) << drop)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("chunk", [0, 48])
def test_a_narrow_accumulator_has_the_declared_bits(
    chunk: int, rounding: Rounding, kernels: str
) -> None:
    generator = np.random.default_rng(3)
    x, w = (
        generator.integers(-15, 16, (rows, 200)) << generator.integers(0, 4, (rows, 200))
        for rows in (7, 90)
    )
    arrays = {"table": x.astype(np.float32).astype(BF16), "w": w.astype(np.float32).astype(BF16)}
    base = numerics_named("f8e4m3_cast")
    assert base.product is not None
    sums = Accumulator("own", DTYPES["f32"], BITS, rounding, chunk)
    out = run(replace(base, product=replace(base.product, accumulator=sums)), arrays, kernels)
    rounded = truncated if rounding is Rounding.TRUNCATE else to_nearest
    expected = [accumulate(w * row, rounded, chunk or 200) for row in x]
    assert np.array_equal(out, np.array(expected, np.float64))
    assert not np.array_equal(out, x @ w.T)


@pytest.fixture(scope="module", params=["f16", "f8e4m3", "int8", "mxfp8", "mxfp4", "int4"])
def devices(request: pytest.FixtureRequest) -> dict[int, Engine]:
    model = Llama()
    reader = ArrayReader(model.weights())
    return {t: Engine(model.graph(), reader, request.param, threads=t) for t in (1, 2, 3)}


def test_chunks_batches_and_threads_change_no_bit(devices: dict[int, Engine]) -> None:
    ids = np.random.default_rng(1).integers(0, Llama().V, 41)
    (whole,) = devices[1].session().step([ids])
    assert np.isfinite(whole).all()
    for engine in devices.values():
        for chunk in (1, 7, 41):
            session = engine.session()
            parts = [session.step([ids[i : i + chunk]])[0] for i in range(0, 41, chunk)]
            assert np.array_equal(np.concatenate(parts), whole)
        batch = engine.session(3).step([ids[:5], ids, ids[::-1]])
        assert np.array_equal(batch[1], whole)


@pytest.mark.parametrize("name", ["f8e4m3", "mxfp4"])
def test_the_head_keeps_its_weights(name: str) -> None:
    model = Llama()
    engine = Engine(model.graph(), ArrayReader(model.weights()), name)
    by_item = [
        (item.head, isinstance(item.inputs[1], Packed))
        for item in engine.plan.operations
        if item.op == "matmul"
    ]
    assert by_item == [(False, True)] * 7 * model.L + [(True, False)]


def test_a_long_sum_of_whole_numbers_is_refused() -> None:
    arrays = {"table": np.ones((1, 140_000), BF16), "w": np.ones((1, 140_000), BF16)}
    with pytest.raises(Refused, match=r"S604: a sum over 140000"):
        run("int8", arrays)
