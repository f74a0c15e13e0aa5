# SPDX-License-Identifier: Apache-2.0
"""One sequence in chunks, and many in one step: what must not change a bit of a result."""

from __future__ import annotations

import numpy as np

from device_model.engine.engine import Engine

WHOLE = 1
"""The row of a ragged batch that is the whole sequence."""


def tokens(vocabulary: int, length: int, seed: int = 0) -> np.ndarray:
    """Return token ids; a shorter sequence of the same seed is the beginning of a longer one."""
    return np.random.default_rng(seed).integers(0, vocabulary, length)


def ragged(vocabulary: int, lengths: tuple[int, ...]) -> list[np.ndarray]:
    """Return sequences of these lengths, of which one is that of seed 0."""
    seeds = [seed if seed != WHOLE else 0 for seed in range(len(lengths))]
    return [tokens(vocabulary, n, seed) for n, seed in zip(lengths, seeds, strict=True)]


def assert_chunks_equal(device: Engine, ids: np.ndarray, chunk: int, whole: np.ndarray) -> None:
    """Run a sequence in chunks and compare with the results of the whole."""
    session = device.session()
    pieces = [session.step([ids[i : i + chunk]])[0] for i in range(0, len(ids), chunk)]
    assert np.array_equal(np.concatenate(pieces), whole)


def assert_batch_equals(
    device: Engine, other: Engine, rows: list[np.ndarray], whole: np.ndarray
) -> None:
    """Run sequences in one step and compare with another device that runs each alone."""
    results = device.session(len(rows)).step(rows)
    assert np.array_equal(results[WHOLE], whole)
    for row, result in zip(rows, results, strict=True):
        assert np.array_equal(result, other.session().step([row])[0])
