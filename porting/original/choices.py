# SPDX-License-Identifier: Apache-2.0
"""Watch and replace what a PyTorch model chooses by `topk`: the experts of each token.

A call counts as a choice where it takes the largest k of n numbers for every token of the row. Works on whatever
`torch` it is handed and imports none itself; what is near a tie is the verdict's question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Picked = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One choice for every token of a row: `scores` [S, n] and what was picked of them, `picked` [S, k]."""

    scores: Scores
    picked: Picked

    @property
    def signature(self) -> tuple[int, int]:
        """Return of how many it chooses how many."""
        return self.scores.shape[1], self.picked.shape[1]


Decide: TypeAlias = Callable[[int, Choice], "Picked | None"]
"""Called with the number of the choice in the row; returns what to pick instead, None to keep it."""


def decider(torch: Any, tokens: int, decide: Decide) -> Any:
    """Return a mode under which `decide` hears of each choice of a row of so many tokens, and may replace it."""
    functions = frozenset({torch.topk, torch.Tensor.topk})

    class Watch(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.number = 0

        def __torch_function__(
            self, func: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if func not in functions:
                return result
            scores, picked = args[0], result[1]
            if picked.numel() != tokens * picked.shape[-1] or picked.shape[-1] >= scores.shape[-1]:
                return result
            choice = Choice(_rows(scores.double()), _rows(picked))
            instead = decide(self.number, choice)
            self.number += 1
            if instead is None:
                return result
            indices = torch.as_tensor(instead, dtype=picked.dtype).reshape(picked.shape)
            return type(result)((scores.gather(-1, indices), indices))

    return Watch()


def _rows(x: Any) -> Any:
    return x.detach().reshape(-1, x.shape[-1]).cpu().numpy().copy()
