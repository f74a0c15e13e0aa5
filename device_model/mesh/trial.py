# SPDX-License-Identifier: Apache-2.0
"""One seed of a campaign: a drill over simulated wires under the faults that the seed means, judged and recovered.

Whatever the faults, a rank ends with the right tokens or says why not, and names who is at fault; what was lost is
made again from the tokens that were kept, on the nodes that are left, with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from device_model.mesh.drill import SIZES, Drill, chosen
from device_model.mesh.endpoint import MeshSession
from device_model.mesh.fabric import Array, Program
from device_model.mesh.faults import Faults, Injector, planned
from device_model.mesh.simulation import LATENCY_S, Course, simulated

PLACES = ((0, 1), (0, 0, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3))
PROMPT, STEPS, DRILL = (3,), 3, 1
SEES = {"crash": {"S643"}, "mismatch": {"S640"}, "frames": {"S642", "S643"}}
"""Codes that an injected fault may end in."""
LOSSY = 0.25
"""Part of its frames from which on a link that works may be called down or silent."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a seed came to: which fault, whether it ended a session, after what time, and what was wrong in it."""

    seed: int
    fault: str
    codes: tuple[str, ...]
    detected_s: float | None
    wrong: tuple[str, ...]
    frames: int


def tried(seed: int) -> Verdict:
    """Return what a seed comes to; `wrong` is empty where it went as it must."""
    places = PLACES[seed % len(PLACES)]
    session = MeshSession(seed, places)
    plan = planned(seed, len(session.nodes()), len(places))
    course = simulated(session, _steps(len(places), ()), Injector(plan))
    outcomes = course.outcomes.values()
    codes = tuple(sorted({d.code for o in outcomes for d in o.failure}))
    fault = _fault(plan, course)
    wrong = [*_wrong(course, codes, fault), *_unnamed(course, plan, fault)]
    if codes and fault != "mismatch":
        wrong += _recovered(session, course, plan)
    ends = [o.ended_at for o in outcomes if o.failure]
    detected = max(ends) - course.crashed_at if fault == "crash" and ends else None
    return Verdict(seed, fault, codes, detected, tuple(wrong), course.frames)


@lru_cache
def truth() -> tuple[int, ...]:
    """Return the tokens of a drill on one rank."""
    course = simulated(MeshSession(0, (0,)), _steps(1, ()), Injector(Faults()))
    return tuple(course.outcomes[0].tokens)


def _fault(plan: Faults, course: Course) -> str:
    if course.crashed is not None:
        return "crash"
    return "mismatch" if plan.mismatch else "frames"


def _wrong(
    course: Course, codes: Sequence[str], fault: str, kept: Sequence[int] = ()
) -> Iterator[str]:
    if course.hangs:
        yield "it hangs"
    if not set(codes) <= SEES[fault] | SEES["frames"]:
        yield f"{fault} is called {', '.join(codes)}"
    for rank, outcome in course.outcomes.items():
        tokens = (*kept, *outcome.tokens)
        if tokens != truth()[: len(tokens)]:
            yield f"rank {rank} has other tokens"
        if not outcome.failure and len(tokens) < STEPS:
            yield f"rank {rank} ends without a word"


def _unnamed(course: Course, plan: Faults, fault: str) -> Iterator[str]:
    """Yield what is not said as it should: a dead node within two heartbeats, and by its number."""
    failures = [o for o in course.outcomes.values() if o.failure]
    if fault == "mismatch" and len(failures) < len(course.outcomes):
        yield "a rank that runs another program goes unsaid"
    if fault != "crash" or not failures:
        return
    first = min(failures, key=lambda outcome: outcome.ended_at)
    text = first.failure[0].message
    # A link that loses much is named by itself, even before: eight pulses in a row may be lost then.
    lost = 1 - (1 - plan.rates.drop) * (1 - plan.rates.corrupt)
    if lost < LOSSY and f"node {course.crashed} " not in text:
        yield f"node {course.crashed} crashed, but: {text}"
    slack = plan.late_s + 4 * LATENCY_S
    if first.ended_at > course.crashed_at + 2 * MeshSession(0, ()).patience.beat_s + slack:
        yield "a crash is noticed late"


def _recovered(session: MeshSession, course: Course, plan: Faults) -> Iterator[str]:
    """Yield what is wrong after a replay from the kept tokens on the nodes that are left."""
    kept = max((o.tokens for o in course.outcomes.values()), key=len)
    left = [place for place in session.places if place != course.crashed]
    size = max(size for size in SIZES if size <= len(left))
    again = MeshSession(session.number + 1, tuple(left[:size]), session.patience)
    calm = Faults(plan.seed, plan.rates, plan.late_s)
    second = simulated(again, _steps(size, kept), Injector(calm))
    codes = sorted({d.code for o in second.outcomes.values() for d in o.failure})
    for text in _wrong(second, codes, "frames", kept):
        yield f"after recovery: {text}"


def _steps(size: int, kept: Sequence[int]) -> _Steps:
    return _Steps(size, tuple(kept))


@dataclass(frozen=True, slots=True)
class _Steps:
    """The steps of each rank of a drill, which begins after tokens that are kept."""

    size: int
    kept: tuple[int, ...]

    def __call__(self, rank: int) -> Iterator[tuple[int, Program[int]]]:
        drill = Drill(DRILL, rank, self.size)
        tokens = [*PROMPT, *self.kept]
        for step in range(len(self.kept), STEPS):
            made: list[int] = []
            yield step, _choosing(drill.step(tokens), made)
            tokens = made


def _choosing(program: Program[Array], made: list[int]) -> Program[int]:
    logits = yield from program
    made.append(chosen(logits))
    return made[0]
