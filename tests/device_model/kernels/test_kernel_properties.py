# SPDX-License-Identifier: Apache-2.0
"""What every operation of the device promises, over drawn shapes: its twin, its formula, and no bit that depends on
how tokens are packed, chunked or dealt out to threads.
"""

import numpy as np
import pytest

from device_model.engine.engine import Engine, Session
from device_model.kernels.table import KERNELS
from device_model.weights.reading import ArrayReader
from dsl.graph import Node
from tests.device_model.kernels.kernel_cases import CASES, drawn
from tests.device_model.kernels.kernel_draw import ROWS, Case

LENGTHS = (1, 2, 3, 8, 40, 90)
FORMATS = ["f32", "bf16", "f32 of bf16"]
"""The numerics, and what is stored where that differs."""
HALF = 2.0**-8
"""Half the last place of bfloat16, relative to its number."""

every = pytest.mark.parametrize("op", CASES)
in_formats = pytest.mark.parametrize("format", FORMATS)
seeded = pytest.mark.parametrize("seed", range(4))


def made(op: str, format: str, seed: int) -> tuple[Case, str]:
    numerics, _, stored = format.partition(" of ")
    return drawn(op, stored or numerics, seed), numerics


def engine(case: Case, numerics: str, kernels: str = "fast", threads: int = 2) -> Engine:
    return Engine(case.graph, ArrayReader(case.arrays), numerics, kernels, threads)


def tokens(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([length, seed]).integers(0, ROWS, length)


def fed(session: Session, *pieces: np.ndarray) -> np.ndarray:
    return np.concatenate([session.step([piece])[0] for piece in pieces])


def test_every_operation_has_a_row_that_runs_it() -> None:
    assert set(CASES) == set(KERNELS)
    for op in CASES:
        steps = drawn(op, "f32", 0).graph.body.steps
        assert op in {step.op for step in steps if isinstance(step, Node)}


@seeded
@in_formats
@every
def test_a_kernel_is_near_its_twin_and_its_formula(op: str, format: str, seed: int) -> None:
    case, numerics = made(op, format, seed)
    ids = tokens(LENGTHS[(seed + len(op)) % len(LENGTHS)])
    fast, plain = (fed(engine(case, numerics, k).session(), ids) for k in ("fast", "reference"))
    truth = case.formula(ids)
    assert fast.shape == plain.shape == truth.shape
    if case.exact:
        assert np.array_equal(fast, plain)
    largest = np.abs(truth).max(initial=0.0)
    rounding = case.roundings * HALF * np.abs(truth) if numerics == "bf16" else 0.0
    margin = rounding * 1.01 + case.tolerance * largest
    if numerics == "bf16" and case.roundings > 1:
        margin = case.roundings * HALF * largest
    for found in (fast, plain):
        assert (np.abs(found - truth) <= margin).all()


@seeded
@in_formats
@every
def test_chunks_and_single_tokens_have_the_bits_of_the_whole(
    op: str, format: str, seed: int
) -> None:
    case, numerics = made(op, format, seed)
    if not case.causal:
        pytest.skip("a token sees later ones")
    ids = tokens(90)
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(ids) + 1, 5))
    device = engine(case, numerics)
    whole = fed(device.session(), ids)
    assert np.array_equal(fed(device.session(), *np.split(ids, cuts)), whole)
    assert np.array_equal(fed(device.session(), *np.split(ids, len(ids))), whole)
    session = device.session()
    fed(session, ids[:-5])
    (last,) = session.step([ids[-5:]], logits="last")
    assert np.array_equal(last, whole[-1:])


@seeded
@in_formats
@every
def test_a_batch_has_the_bits_of_its_sequences(op: str, format: str, seed: int) -> None:
    case, numerics = made(op, format, seed)
    rows = [tokens(length, length) for length in (5, 0, 1, 33, 66, 2)]
    device = engine(case, numerics)
    for threads in (1, 3):
        session = engine(case, numerics, threads=threads).session(len(rows))
        for row, found in zip(rows, session.step(rows), strict=True):
            assert np.array_equal(found, fed(device.session(), row))


@in_formats
@every
def test_a_step_without_tokens_changes_nothing(op: str, format: str) -> None:
    case, numerics = made(op, format, 0)
    none, ids = tokens(0), tokens(7)
    for kernels in ("fast", "reference"):
        session = engine(case, numerics, kernels).session()
        (empty,) = session.step([none])
        found = fed(session, ids, none)
        assert len(empty) == 0
        assert empty.shape[1:] == found.shape[1:]
        assert np.array_equal(found, fed(engine(case, numerics, kernels).session(), ids))
        if case.kept is not None:
            (kept,) = session.cache.context(session.cache.states[0])
            assert np.array_equal(kept, case.kept(1))


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_a_counter_counts_the_steps_of_its_own_sequence(kernels: str) -> None:
    case = drawn("write", "f32", 1)
    session = engine(case, "f32", kernels).session(3)
    for _ in range(4):
        session.step([tokens(3), tokens(0), tokens(1)])
    session.step([tokens(0), tokens(0), tokens(2)])
    assert case.kept is not None
    for kept, steps in zip(session.cache.context(session.cache.states[0]), (4, 0, 5), strict=True):
        assert np.array_equal(kept, case.kept(steps))
