# SPDX-License-Identifier: Apache-2.0
"""The declared accumulator, bit for bit: a million random dot products against whole numbers.

The oracle knows nothing of floats: operands are integers times a common power of two, a product is exact, and after
every addition the sum is rounded to 24 significant bits, half to even. Eight lanes take k, k + 8, … and are then added
4 apart, 2 apart and 1 apart.
"""

import ml_dtypes
import numpy as np
import pytest

from device_model.engine.engine import Engine
from device_model.weights.reading import ArrayReader
from dsl.graph import Graph, TensorRef, Transform
from dsl.types import DTYPES
from tests.device_model.graphs import SPAN, B, Flow, S

ROWS, COLUMNS, K = 1000, 1000, 37
BITS, LANES = 24, 8


def rounded(sums: np.ndarray) -> np.ndarray:
    """Whole numbers to 24 significant bits, nearest even; all are below 2^53, where their length is exact."""
    size = np.abs(sums)
    drop = np.maximum(np.frexp(size.astype(np.float64))[1] - BITS, 0).astype(np.int64)
    kept, rest = size >> drop, size & ((1 << drop) - 1)
    half = np.where(drop > 0, 1 << np.maximum(drop - 1, 0), 1)
    up = (rest > half) | ((rest == half) & (kept & 1 == 1))
    return np.sign(sums) * ((kept + up) << drop)


def oracle(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The dot products of integer rows in the declared order."""
    short = -x.shape[1] % LANES
    x, w = (np.pad(a, ((0, 0), (0, short))).reshape(len(a), -1, LANES) for a in (x, w))
    out = np.empty((len(x), len(w)), np.int64)
    for row in range(len(x)):
        sums = np.zeros((len(w), LANES), np.int64)
        for k in range(x.shape[1]):
            sums = rounded(sums + x[row, k] * w[:, k])
        for distance in (4, 2, 1):
            sums = rounded(sums[:, :distance] + sums[:, distance : 2 * distance])
        out[row] = sums[:, 0]
    return out


def integers(rows: int, significant: int, exponents: int, seed: int) -> np.ndarray:
    """Random integers with few significant bits and many magnitudes."""
    generator = np.random.default_rng(seed)
    lead = generator.integers(-(2**significant) + 1, 2**significant, (rows, K))
    return lead << generator.integers(0, exponents, (rows, K))


def graph(stored: str, block: tuple[int, int] | None) -> Graph:
    f = Flow()
    source = None
    if block is not None:
        parts = (TensorRef("w", SPAN), TensorRef("scales", SPAN))
        attrs = {"dtype": DTYPES[stored], "rows": block[0], "columns": block[1]}
        source = Transform("scaled", parts, attrs, SPAN)
    x = f.op("gather", (f.weight("table", ROWS, K), f.input()), B, S, K)
    w = f.weight("w", COLUMNS, K, source=source)
    f.output(f.op("matmul", (x, w), B, S, COLUMNS, dtype=DTYPES["f32"]))
    return f.graph()


@pytest.mark.parametrize("stored", ["bf16", "f8e4m3", "f8e5m2"])
@pytest.mark.parametrize("rows", [1, 5, ROWS])
def test_a_million_dot_products_have_the_declared_bits(rows: int, stored: str) -> None:
    x = integers(ROWS, 8, 13, 0)
    significant, exponents = {"bf16": (8, 13), "f8e4m3": (4, 5), "f8e5m2": (3, 12)}[stored]
    w = integers(COLUMNS, significant, exponents, 1)
    block = None if stored == "bf16" else (128, 128)
    types = {"f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2}
    kept = w.astype(np.float32).astype(types.get(stored, ml_dtypes.bfloat16))
    assert np.array_equal(kept.astype(np.float64), w)
    arrays = {
        "table": x.astype(np.float32).astype(ml_dtypes.bfloat16),
        "w": kept,
        "scales": np.ones((-(-COLUMNS // 128), 1), np.float32),
    }
    (out,) = Engine(graph(stored, block), ArrayReader(arrays)).session().step([np.arange(rows)])
    assert np.array_equal(out.astype(np.float64), oracle(x[:rows], w).astype(np.float64))
