# SPDX-License-Identifier: Apache-2.0
"""How a token is chosen from logits, as a value. Chooses nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: greedily as long as `temperature` is 0, else drawn.

    Names and meanings are those of vLLM (`SamplingParams`) and transformers (`GenerationConfig`): logits are divided by
    `temperature`; then only the `top_k` likeliest are left (0: all), of these the likeliest that make up `top_p`, of
    these the ones at least `min_p` times as likely as the likeliest. `seed` and a token's position decide a draw.
    Raises `ValueError` for a value outside of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature is {self.temperature}; it is 0 or more")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it is 0, for all tokens, or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it is above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; it is between 0 and 1")
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"seed is {self.seed}; it is 0 or more, and below 2^64")

    @property
    def is_greedy(self) -> bool:
        """Tell whether nothing is drawn."""
        return self.temperature == 0


GREEDY = Sampling()
