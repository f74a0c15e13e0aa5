# SPDX-License-Identifier: Apache-2.0
"""Compiled parts of attention and of a bound program, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from device_model.machine import order
from device_model.machine.deferred import compiled
from device_model.machine.weighing import KEYS, softmax, weigh
from device_model.numbers.numerics import Array
from device_model.program.addresses import Addresses
from device_model.program.arena import Segment, Space
from device_model.program.builder import Code
from device_model.program.instruction import Address, Instruction, InstructionSet, invocation

ZERO, ONE = np.float32(0), np.float32(1)


def weights(scores: Array) -> tuple[Array, np.float32]:
    found = scores.copy()
    plain = (found.ctypes.data, len(found), ONE, ZERO, 0, ZERO, ZERO, 0, np.zeros(1, np.float32), 0)
    return found, softmax(*plain)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 130])
def test_weights_add_up_in_the_declared_order(count: int) -> None:
    scores = np.random.default_rng(count).normal(size=count).astype(np.float32) * 4
    found, total = weights(scores)
    assert total == order.total(found[None])[0]
    assert found.max() == 1.0
    assert np.allclose(found, np.exp(scores - scores.max()), rtol=1e-6)


@pytest.mark.parametrize("at", [0, 5, 8, 10])
def test_one_score_that_is_no_number_spoils_its_row(at: int) -> None:
    scores = np.linspace(-1, 1, 11, dtype=np.float32)
    scores[at] = np.nan
    found, total = weights(scores)
    assert np.isnan(found).all()
    assert np.isnan(total)


@pytest.mark.parametrize("keys", [1, KEYS, KEYS + 1, 3 * KEYS - 1])
def test_values_are_added_key_by_key_across_blocks(keys: int) -> None:
    random = np.random.default_rng(keys)
    size, wide = 44, 52
    shares = random.normal(size=(3, keys)).astype(np.float32)
    values = random.normal(size=(keys, size)).astype(np.float32)
    out = np.full((3, wide), 7, np.float32)
    weigh(
        shares.ctypes.data, 4 * keys, values.ctypes.data, 0, 4 * size, size, keys, 3,
        out.ctypes.data, 4 * wide,
    )  # fmt: skip
    expected = np.zeros((3, size), np.float64)
    for share, row in zip(shares.T.astype(np.float64), values.astype(np.float64), strict=True):
        expected = (expected + share[:, None] * row).astype(np.float32).astype(np.float64)
    assert np.array_equal(out[:, :size], expected.astype(np.float32))


@compiled
def _kernel(
    x: int, out: int, count: int, tokens: int, by: float, part: int, parts: int, scratch: int
) -> None:
    """Do nothing."""


def test_a_program_bound_again_is_bound_anew() -> None:
    others = (Instruction.of("first", _kernel), Instruction.of("second", _kernel))
    instructions = InstructionSet((*others, row := Instruction.of("third", _kernel)))
    operands = {
        "x": Address(Segment.BODY, 4, 0), "out": Address(Segment.OUTPUT, 0, 1), "count": 9,
        "tokens": Address(Segment.BODY, count=5), "by": 0.5,
    }  # fmt: skip
    step = invocation(row, operands)
    spaces = {0: Space(Segment.BODY, 8), 1: Space(Segment.OUTPUT, 8)}
    program = Code((step,), {0: 16, 1: 0}, {Segment.BODY: 24}, spaces, (), (), 0, 0, 0)
    bases, counts = np.zeros(len(Segment), np.int64), np.ones(len(Segment), np.int64)
    kept = Addresses(program, instructions)
    for body, output, count in ((1000, 7000, 1), (1000, 9000, 1), (2000, 9000, 1), (2000, 8000, 6)):
        bases[[Segment.BODY, Segment.OUTPUT]], counts[:] = (body, output), count
        code = kept.bind(bases, counts)
        assert code[0, :5].tolist() == [3, body + 4 + 16 * count, output, 9, 5 * count]
        assert np.array_equal(code, Addresses(program, instructions).bind(bases, counts))
