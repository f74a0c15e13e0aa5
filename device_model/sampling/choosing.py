# SPDX-License-Identifier: Apache-2.0
"""Choose a token from the logits of one row: greedily, or by a draw from what temperature, top-k, top-p, min-p leave.

In float64, a row at a time, so that no other row of a batch has a part in it. Knows no session and no text.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device_model.sampling.draws import uniform
from device_model.sampling.policy import Sampling
from dsl.diagnostics import refuse

Row = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
UNSOUND = {np.inf: "a logit is infinite", -np.inf: "every token is excluded"}
WAY_OUT = "sohu diff names the first operation that departs; wider numerics may do, such as f32"


def choose(logits: npt.ArrayLike, sampling: Sampling, position: int) -> int:
    """Return the token that stands at a position, from the logits [V] before it.

    The greedy choice among equals is the lowest id. Raises `Refused` (S617) for logits that nothing can be chosen from.
    """
    row = sound(logits)
    if sampling.is_greedy:
        return int(row.argmax())
    ids, weights = candidates(row, sampling)
    heights = weights.cumsum()
    place = heights.searchsorted(uniform(sampling.seed, position) * heights[-1], side="right")
    return int(ids[min(int(place), len(ids) - 1)])


def candidates(row: Row, sampling: Sampling) -> tuple[Ids, Row]:
    """Return the tokens that may be drawn, by id, and their weights; the likeliest weighs 1.

    The order is that of transformers (generation/utils.py, `_get_logits_processor`): temperature, top-k, top-p, min-p.
    Where the last of top-k are equal, all of them stay; where the last of top-p are, those of the lowest ids.
    """
    # Less the largest before it is divided: no temperature is too small.
    with np.errstate(over="ignore"):
        weights = np.exp((row - row.max()) / sampling.temperature)
    ids = np.flatnonzero(weights)
    if 0 < sampling.top_k < len(ids):
        least = np.partition(row[ids], -sampling.top_k)[-sampling.top_k]
        ids = ids[row[ids] >= least]
    if sampling.top_p < 1:
        ids = _nucleus(ids, weights[ids], sampling.top_p)
    ids = ids[weights[ids] >= sampling.min_p]
    return ids, weights[ids]


def _nucleus(ids: Ids, weights: Row, share: float) -> Ids:
    """Return the fewest tokens that have this share of the weight, the likeliest first taken."""
    # What weighs less than this weighs together less than what is cut: it need not be sorted.
    cut = (1 - share) * weights.sum()
    likely = weights >= min(cut / len(weights), 1.0)
    beneath = weights[~likely].sum()
    ids, weights = ids[likely], weights[likely]
    order = np.argsort(-weights, kind="stable")
    # Summed from the least likely, as transformers does: the sum that decides is a small one, and exact.
    rest = beneath + weights[order][::-1].cumsum()
    kept = max(1, int(np.count_nonzero(rest > cut)))
    return np.sort(ids[order[:kept]])


def sound(logits: npt.ArrayLike) -> Row:
    """Return logits [V] in float64; raises `Refused` (S617) where they are no numbers, or exclude every token.

    Minus infinity excludes a token; plus infinity would exclude all the others, and is what an overflow leaves.
    """
    row = np.asarray(logits, np.float64)
    highest = float(row.max())
    if np.isfinite(highest):
        return row
    wrong = UNSOUND.get(highest, "a logit is no number")
    raise refuse("S617", f"no token can be chosen: {wrong}", help=WAY_OUT)
