# SPDX-License-Identifier: Apache-2.0
"""Choosing tokens: the kept ones against transformers, draws against their definition, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from device_model.sampling.choosing import candidates, choose, sound
from device_model.sampling.draws import uniform
from device_model.sampling.likelihood import likeliest, logprobs
from device_model.sampling.policy import GREEDY, Sampling
from dsl.diagnostics import Refused

ROWS = np.random.default_rng(5).normal(0, 3, (4, 211))
# Equal logits, excluded ones, one that outweighs all, and no choice at all.
ODD = {
    "equal": [0.0] * 8,
    "pairs": [1.0, 0.0, 1.0, 0.0, 2.0, 2.0],
    "excluded": [-np.inf, 1.0, -np.inf, 0.5, 0.0],
    "sharp": [0.0, 800.0, 1.0, -700.0],
    "single": [3.0],
}
POLICIES = (
    Sampling(1.0),
    Sampling(0.3),
    Sampling(1.7, top_k=7),
    Sampling(1.0, top_k=1),
    Sampling(1.0, top_k=999),
    Sampling(0.8, top_p=0.9),
    Sampling(1.0, top_p=0.05),
    Sampling(1.0, top_p=1e-20),
    Sampling(1.0, top_p=0.5),
    Sampling(1.3, min_p=0.1),
    Sampling(1.0, min_p=1.0),
    Sampling(0.7, top_k=40, top_p=0.8),
    Sampling(2.0, top_k=20, top_p=0.7, min_p=0.2),
    Sampling(2.0, top_p=0.97, min_p=0.02),
)


def of_transformers(row: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Return the probabilities [V] that transformers draws from, in float64."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers(None, torch.tensor(row[None])).softmax(-1)[0].numpy()


def probabilities(row: np.ndarray, sampling: Sampling) -> np.ndarray:
    ids, weights = candidates(sound(row), sampling)
    spread = np.zeros(len(row))
    spread[ids] = weights / weights.sum()
    return spread


@pytest.mark.parametrize("sampling", POLICIES, ids=str)
def test_what_may_be_drawn_is_what_transformers_leaves(sampling: Sampling) -> None:
    for row in ROWS:
        expected, made = of_transformers(row, sampling), probabilities(row, sampling)
        np.testing.assert_array_equal(made > 0, expected > 0)
        np.testing.assert_allclose(made, expected, rtol=1e-12)


@pytest.mark.parametrize("sampling", POLICIES, ids=str)
@pytest.mark.parametrize("row", ODD.values(), ids=ODD)
def test_equals_and_exclusions_are_as_in_transformers(row: list[float], sampling: Sampling) -> None:
    # Of equals at the edge of top-p, transformers' unstable order keeps any: as many, and as likely.
    expected, made = (np.sort(f(np.array(row), sampling)) for f in (of_transformers, probabilities))
    np.testing.assert_allclose(made, expected, rtol=1e-12)


def test_of_equals_the_lowest_ids_stay() -> None:
    assert candidates(np.zeros(8), Sampling(1.0, top_p=0.5))[0].tolist() == [0, 1, 2, 3]
    assert choose([1.0, 2.0, 2.0], GREEDY, 0) == 1


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-5])
def test_a_small_temperature_is_greedy(temperature: float) -> None:
    for row in ROWS:
        assert choose(row, Sampling(temperature), 3) == row.argmax()


def test_a_draw_is_philox_of_seed_and_position() -> None:
    """The known answers of Random123 (kat_vectors, philox4x64 10)."""
    assert uniform(0, 0) == (0x16554D9ECA36314C >> 11) / 2**53
    ones = 2**256 - 1
    block = np.random.Philox(counter=ones - 1, key=2**128 - 1).random_raw(4).tolist()
    assert block == [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]


def test_draws_are_spread_evenly_over_seeds_and_positions() -> None:
    """Chi-squared of 64 cells, 63 degrees of freedom: 1 in 1,000 is above 103.4."""
    many = {
        "positions": [uniform(11, position) for position in range(6400)],
        "seeds": [uniform(seed, 40) for seed in range(6400)],
    }
    for name, draws in many.items():
        counts = np.bincount((np.array(draws) * 64).astype(int), minlength=64)
        assert ((counts - 100) ** 2 / 100).sum() < 103.4, name


def test_tokens_come_as_often_as_they_are_likely() -> None:
    """Each draw is the token in whose share of [0, 1) the number lies, and the counts agree with the shares."""
    row, sampling, count = ROWS[0][:24], Sampling(1.5, top_k=12, top_p=0.95, seed=3), 6000
    shares = of_transformers(row, sampling)
    edges = shares.cumsum()
    drawn = [choose(row, sampling, position) for position in range(count)]
    for position, token in enumerate(drawn):
        number = uniform(3, position)
        assert edges[token] - shares[token] - 1e-12 <= number <= edges[token] + 1e-12
    likely = shares > 0
    counts = np.bincount(drawn, minlength=24)
    assert counts[~likely].sum() == 0
    expected = count * shares[likely]
    degrees = likely.sum() - 1  # mean of chi-squared; its deviation is the root of twice that
    assert ((counts[likely] - expected) ** 2 / expected).sum() < degrees + 4 * np.sqrt(2 * degrees)


def test_seeds_differ_and_repeat() -> None:
    def drawn(seed: int) -> list[int]:
        return [choose(ROWS[1], Sampling(1.0, seed=seed), position) for position in range(40)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(2**64 - 1) != drawn(0)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(1.0), Sampling(1.0, top_p=0.5)], ids=str)
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([0.0, np.nan, 1.0], "no number"),
        ([np.nan] * 3, "no number"),
        ([np.nan, np.inf, 0.0], "no number"),
        ([np.inf, 1.0], "infinite"),
        ([-np.inf, -np.inf], "excluded"),
    ],
)
def test_logits_that_are_no_numbers_are_refused(
    row: list[float], reason: str, sampling: Sampling
) -> None:
    for call in (lambda: choose(row, sampling, 0), lambda: logprobs(row)):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.diagnostics[0].code == "S617"
        assert reason in refused.value.diagnostics[0].message


def test_logprobs_are_those_of_torch() -> None:
    for row in ROWS:
        expected = torch.tensor(row).log_softmax(-1).numpy()
        np.testing.assert_allclose(logprobs(row), expected, rtol=1e-13)
        top = torch.tensor(expected).topk(9).indices.tolist()
        assert likeliest(logprobs(row), 9).tolist() == top
    assert likeliest(np.array([0.0, 1.0, 1.0, 0.0]), 3).tolist() == [1, 2, 0]
    assert likeliest(np.zeros(3), 0).tolist() == []
    assert likeliest(np.array([0.0, 2.0]), 9).tolist() == [1, 0]


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1}, {"temperature": np.nan}, {"temperature": np.inf}, {"top_k": -1},
        {"top_p": 0.0}, {"top_p": 1.1}, {"top_p": np.nan}, {"min_p": -0.1}, {"min_p": 1.1}, {"seed": -1},
        {"seed": 2**64},
    ],
    ids=str,
)  # fmt: skip
def test_values_outside_of_their_range_fail_at_once(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Sampling(**values)
