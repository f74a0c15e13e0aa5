# SPDX-License-Identifier: Apache-2.0
"""Logarithms of tokens' probabilities, before temperature and anything else changes them. Chooses nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device_model.sampling.choosing import Ids, Row, sound


def logprobs(logits: npt.ArrayLike) -> Row:
    """Return the natural logarithm of each token's probability, [V], from the logits of a row; raises `Refused` (S617).

    They are of the model itself, whatever is drawn from, as vLLM's `raw_logprobs` are.
    """
    row = sound(logits)
    below = row - row.max()
    return np.asarray(below - np.log(np.exp(below).sum()), np.float64)


def likeliest(row: Row, count: int) -> Ids:
    """Return the ids of the likeliest tokens, [≤ count], the likeliest first, of equals the lowest id."""
    count = min(count, len(row))
    if count == 0:
        return np.zeros(0, np.int64)
    least = np.partition(row, -count)[-count]
    ids = np.flatnonzero(row >= least)
    return ids[np.argsort(-row[ids], kind="stable")][:count]
