# SPDX-License-Identifier: Apache-2.0
"""Products in registers of sixteen lanes: the bits of the narrow ones and of the numpy twin, whatever the numbers.

Where the processor lacks such registers there is nothing to compare, and the tests say so.
"""

import ml_dtypes
import numpy as np
import pytest
from numba import njit

from device_model.machine import order, product, wide
from device_model.machine.leaves import table
from device_model.machine.vectors import BF16, F32
from device_model.numbers.numerics import Array
from device_model.numbers.precision import F32_SUMS, Leaves
from dsl.mesh.trees import merges

_has_wide = wide.has_wide.made
KINDS = {F32: np.float32, BF16: ml_dtypes.bfloat16}


@njit
def _is_there() -> bool:
    return _has_wide()


@pytest.fixture(autouse=True)
def _needs_the_registers() -> None:
    if not _is_there():
        pytest.skip("this processor has no registers of sixteen lanes")


def tree(k: int, count: int) -> Leaves | None:
    """Return a tree of so many leaves of unlike lengths, none for none."""
    if not count:
        return None
    inner = np.random.default_rng(count).choice(np.arange(1, k), count - 1, replace=False)
    borders = (0, *sorted(int(border) for border in inner), k)
    return Leaves(borders, merges(0, count))


def by(
    path: object, x: Array, w: Array, kind: int, first: int = 0, leaves: Leaves | None = None
) -> Array:
    """Return the columns from `first` of the product of rows, in reversed places, computed on one path."""
    followed = None if leaves is None else table(leaves)
    rows, k = x.shape
    n = len(w)
    out = np.zeros((rows, n), np.float32)
    numbers, scratch = (
        np.arange(rows)[::-1].copy(),
        np.zeros(product.working_bytes(rows, k), np.uint8),
    )
    path.made(  # type: ignore[attr-defined]
        x.ctypes.data, rows, numbers.ctypes.data, w.ctypes.data, kind, 0, 1, 1, 0, 0,
        0 if followed is None else followed.ctypes.data,
        out.ctypes.data, F32, n, k, first, n, scratch.ctypes.data,
    )  # fmt: skip
    return out[::-1]


def equal(a: Array, b: Array) -> bool:
    """Tell whether results have the same bits, where any NaN is a NaN."""
    lacking = np.isnan(a) & np.isnan(b)
    return bool(np.all((a.view(np.uint32) == b.view(np.uint32)) | lacking))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 7, 8, 9, 64, 301])
@pytest.mark.parametrize("rows", [1, 3, 5, 6, 32, 35])
def test_bits_are_those_of_the_narrow_path_and_the_twin(rows: int, k: int, kind: int) -> None:
    generator = np.random.default_rng(rows * k)
    x = generator.normal(size=(rows, k)).astype(np.float32)
    for n in (1, 4, 8, 16, 37):
        w = generator.normal(size=(n, k)).astype(KINDS[kind])
        here = by(product._many_rows_wide, x, w, kind)
        assert equal(here, by(product._many_rows, x, w, kind))
        assert equal(here, order.dot(x, w.astype(np.float32)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 13])
def test_trees_of_leaves_have_the_same_bits_on_every_path(count: int, kind: int) -> None:
    generator = np.random.default_rng(count)
    for rows, n, k in ((33, 37, 301), (1, 5, 14), (6, 16, 96), (7, 9, 16)):
        x = generator.normal(size=(rows, k)).astype(np.float32)
        w = generator.normal(size=(n, k)).astype(KINDS[kind])
        leaves = tree(k, count)
        here = by(product._many_rows_wide, x, w, kind, leaves=leaves)
        assert equal(here, by(product._many_rows, x, w, kind, leaves=leaves))
        wide_w = w.astype(np.float32)
        assert equal(here, order.sums(x, wide_w, F32_SUMS, exact=False, leaves=leaves))
        if count > 2 and k > 100:
            assert not equal(here, by(product._many_rows_wide, x, w, kind))


def test_a_part_of_the_columns_leaves_the_others_alone() -> None:
    generator = np.random.default_rng(5)
    x, w = (generator.normal(size=(n, 40)).astype(np.float32) for n in (33, 29))
    here = by(product._many_rows_wide, x, w, F32, first=11)
    assert equal(here, by(product._many_rows, x, w, F32, first=11))
    assert not here[:, :11].any()


@pytest.mark.parametrize("strange", [np.inf, -np.inf, np.nan, 1e-45, 1e-38, 3e38, -0.0])
def test_strange_numbers(strange: float) -> None:
    generator = np.random.default_rng(1)
    for place in (2, 19):
        x, w = (generator.normal(size=(n, 21)).astype(np.float32) for n in (33, 19))
        x[5, place], w[7, place], w[3] = strange, strange, -0.0
        assert equal(by(product._many_rows_wide, x, w, F32), by(product._many_rows, x, w, F32))


def test_what_lies_behind_a_row_has_no_part_in_it() -> None:
    whole = np.full((34, 24), np.nan, np.float32)
    ones = np.ones((8, 13), np.float32)
    x = whole.reshape(-1)[: 33 * 13].reshape(33, 13)
    x[...] = 1.0
    assert (by(product._many_rows_wide, x, ones, F32) == 13).all()
