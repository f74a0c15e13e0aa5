# SPDX-License-Identifier: Apache-2.0
"""Which choices of experts are so near a tie that rounding decides them.

A choice is close where the worst that was taken is above the best that was left by no more than the error of that
difference in the numerics that are judged. Scores that are all positive are shares: their errors are relative ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from porting.original.choices import Choice, Picked
from porting.verdict.errors import Flags, Floats

F32_ERROR = 1e-5
"""The error of a score in float32, relative to the token's scores: the rule's own limit."""
TIMES = 2.0
"""The error of one run says how large errors are, not how large that of another is."""


def close_choice(exact: Choice, own: Choice | None) -> Flags:
    """Return for each token whether its choice is close, [S]; `own` is the same choice in the numerics, None in f32."""
    relative = bool((exact.scores >= 0).all())
    scores = _logs(exact.scores) if relative else exact.scores
    worst, best, is_left = _edges(scores, exact.picked)
    margin = np.where(is_left, _taken(scores, worst) - _taken(scores, best), np.inf)
    if own is None:
        size = 1.0 if relative else _spread(scores)
        error = np.broadcast_to(np.asarray(F32_ERROR * size), margin.shape)
    else:
        theirs = _logs(np.maximum(own.scores, 0)) if relative else own.scores
        with np.errstate(invalid="ignore"):
            away = np.abs(_taken(theirs, worst) - _taken(theirs, best) - margin)
        away = np.where(np.isfinite(away), away, 0.0)
        error = np.maximum(away, np.sqrt(np.mean(away**2)))
    # Where all that is left was ruled out before, nothing comes near.
    return np.asarray(np.isfinite(margin) & (margin <= TIMES * error))


def _edges(scores: Floats, picked: Picked) -> tuple[Picked, Picked, Flags]:
    """Return for each token the worst that was taken, the best that was not, and whether there is one."""
    taken = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(taken, picked, True, axis=-1)
    left = np.where(taken, -np.inf, scores)
    worst = np.where(taken, scores, np.inf).argmin(-1)
    return worst, left.argmax(-1), np.asarray(np.isfinite(left.max(-1)))


def _taken(scores: Floats, at: Picked) -> Floats:
    return np.take_along_axis(scores, at[:, None], axis=-1)[:, 0]


def _logs(scores: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(scores))


def _spread(scores: Floats) -> npt.NDArray[np.float64]:
    """Return the root mean square of each token's finite scores."""
    finite = np.where(np.isfinite(scores), scores, 0.0)
    return np.asarray(np.sqrt(np.mean(finite**2, axis=-1)))
