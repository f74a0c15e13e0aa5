# SPDX-License-Identifier: Apache-2.0
"""The rule of correctness, as one function from errors to a case: no model, mode or format has a tolerance of its own.

float32 isolates mistakes of translation, so every position counts fully there: a root mean square. In a lower precision
the yardstick is what the original itself makes of it, by a mean that no few sensitive positions decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, sqrt

from porting.report.model import Case
from porting.verdict.errors import COUNTED, PositionErrors

F32_LIMIT = 1e-5
F32_MOST = 1e-4
"""No sensitivity of the original's excuses an error beyond this."""
DEVIATIONS = 4
"""How many of the original's own standard deviations an error may be from none."""
FACTOR = 1.2
SENTENCE = (
    f"In f32 the root mean square error of the logits, over all positions, is at most {F32_LIMIT:.0e} of the truth's "
    f"own, or, up to {F32_MOST:.0e}, {DEVIATIONS} times what the original itself in float32 is away, over several runs "
    "that differ by a rounding before its first layer; and the preferred token is the truth's wherever its two best "
    "differ by more than the error. In every lower "
    "precision the geometric mean over positions of each position's root mean square error, a long row counting as "
    f"{COUNTED} of them, is at most {FACTOR} times that of the original itself in that precision; a mode that does not "
    "give the bits of prefill must hold this over its own positions too."
)


def f32_case(
    mode: str, numerics: str, errors: PositionErrors, vocabulary: int,
    hear: Callable[[], Sequence[PositionErrors]] = tuple,
) -> Case:  # fmt: skip
    """Return the case of float32; `hear` gives the original's own errors at the same positions, run by run.

    It is asked only where the answer can decide: of what one position early in a row makes of all that follow, the
    original has as much as the port, but not in the same draw of roundings.
    """
    heard = [own.rmse for own in hear()] if F32_LIMIT < errors.rmse <= F32_MOST else []
    own = sqrt(sum(x * x for x in heard) / len(heard)) if heard else None
    limit = F32_LIMIT
    if own is not None and isfinite(own):
        limit = max(F32_LIMIT, min(F32_MOST, DEVIATIONS * own))
    passed = errors.rmse <= limit and bool(errors.stands.all())
    return Case(
        mode, numerics, errors.rmse, limit, passed, reference_rmse=own,
        rmse=errors.rmse, top1=errors.top1, pcc=errors.correlation(vocabulary), tokens=len(errors.squares),
    )  # fmt: skip


def lower_case(
    mode: str, numerics: str, errors: PositionErrors, own: PositionErrors, vocabulary: int, fed: int, *,
    same_bits: bool,
) -> Case:  # fmt: skip
    """Return the case of a low precision: errors of some positions, and the original's own at the same ones.

    They are those of all judged positions where the mode gave the bits of prefill, else those that it was fed.
    """
    limit = FACTOR * own.typical
    return Case(
        mode, numerics, errors.typical, limit, errors.typical <= limit, own.typical, errors.rmse, own.rmse,
        errors.top1, errors.correlation(vocabulary), fed, same_bits,
    )  # fmt: skip
