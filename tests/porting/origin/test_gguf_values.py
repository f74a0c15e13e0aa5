# SPDX-License-Identifier: Apache-2.0
"""Our dequantisation against the gguf package's, on random blocks of every type that it reads."""

from __future__ import annotations

import numpy as np
import pytest

from porting.checkpoint.gguf_header import TYPES, GgufTensor
from porting.origin.gguf_values import BLOCKS, CHUNK, chunks

NUMBERS = {name: number for number, (name, _, _) in TYPES.items()}
PLAIN = {"F32", "F16", "BF16"}


def ours(raw: np.ndarray, name: str, count: int) -> np.ndarray:
    tensor = GgufTensor("t", NUMBERS[name], (count,), 0, raw.size)
    return np.concatenate(list(chunks(raw, tensor)))


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_values_are_those_of_the_gguf_package(name):
    from gguf import GGMLQuantizationType, dequantize

    _, per_block, size = TYPES[NUMBERS[name]]
    blocks = 300
    raw = np.random.default_rng(7).integers(0, 256, blocks * size, np.uint8)
    # Scales that are NaN or infinite say nothing about the arithmetic.
    with np.errstate(all="ignore"):
        theirs = dequantize(raw, GGMLQuantizationType[name]).astype(np.float32).reshape(-1)
        got = ours(raw, name, blocks * per_block)
    finite = np.isfinite(theirs)
    assert finite.mean() > 0.9
    np.testing.assert_array_equal(got[finite], theirs[finite])
    np.testing.assert_array_equal(np.isfinite(got), finite)


def test_every_type_that_the_gguf_package_dequantises_is_read():
    from gguf.quants import _type_traits

    assert {kind.name for kind in _type_traits} | PLAIN == set(BLOCKS)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_blocks_have_the_sizes_of_the_format(name):
    layout, numbers = BLOCKS[name]
    _, per_block, size = TYPES[NUMBERS[name]]
    assert layout.itemsize == size
    assert numbers(np.zeros(size, np.uint8).view(layout)).shape == (1, per_block)


@pytest.mark.parametrize("name", ["Q4_1", "F16", "Q6_K"])
def test_long_tensors_come_in_chunks_of_the_same_values(name):
    _, per_block, size = TYPES[NUMBERS[name]]
    count = CHUNK // per_block + 3
    raw = np.random.default_rng(3).integers(0, 64, count * size, np.uint8)
    tensor = GgufTensor("t", NUMBERS[name], (count * per_block,), 0, raw.size)
    parts = list(chunks(raw, tensor))
    layout, numbers = BLOCKS[name]
    assert len(parts) == 2
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.concatenate(parts), numbers(raw.view(layout)).reshape(-1))
