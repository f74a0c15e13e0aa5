# SPDX-License-Identifier: Apache-2.0
"""What a report proves and what it does not, in sentences: modes, numerics, tokens and lengths.

Says what the cases say, and judges nothing again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from porting.report.model import Case, CrossedLength, MeshCase, Report, Validation, Verdict

NEVER = (
    "that the original is a good model",
    "how fast it runs on a device: times are the cost model's",
)
UNJUDGED = {
    Verdict.PLANNED: "anything of the results: nothing was judged",
    Verdict.REFUSED: "anything: the input was refused",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What is proven and what is not, a sentence each."""

    proven: tuple[str, ...]
    not_proven: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON data."""
        return {"proven": list(self.proven), "not_proven": list(self.not_proven)}


def proof(report: Report) -> Proof:
    """Return what a report proves; a port that fails has proven parts too."""
    validation = report.validation
    if not validation.cases:
        why = UNJUDGED.get(report.verdict, "anything of the results: nothing was judged")
        return Proof((), (why, *NEVER))
    return Proof(tuple(_proven(validation)), (*_not_proven(validation), *NEVER))


def with_proof(report: Report) -> dict[str, object]:
    """Return a report as JSON data with its proof: what commands print, and agents are told."""
    return report.to_dict() | {"proof": proof(report).as_dict()}


def _proven(validation: Validation) -> Iterator[str]:
    truth = validation.original or "the original"
    for numerics, cases in _by_numerics(validation.cases).items():
        passed = [case for case in cases if case.passed]
        if passed:
            modes = ", ".join(case.mode for case in passed)
            tokens = max(case.tokens for case in passed)
            own = any(case.reference is not None for case in passed)
            limit = (
                f"the rule's limit, set by the original's own error in {numerics}"
                if own
                else "the rule's limit"
            )
            yield (
                f"in {numerics} the logits agree with {truth} in float64, within {limit}, in these modes: {modes}; on "
                f"{tokens:,} tokens"
            )
    for mesh, ways in _same_bits(validation.meshes).items():
        yield f"on a mesh of {mesh} the logits have the same bits as on one chip, in {', '.join(ways)}"
    for where, lengths in _by_place(validation.lengths).items():
        if where:
            yield f"across the lengths {lengths}, on {where}"


def _not_proven(validation: Validation) -> Iterator[str]:
    for case in validation.cases:
        if not case.passed:
            yield (
                f"{case.mode} in {case.numerics}: FAILS, its error is {case.error:.2e} and the limit {case.limit:.2e}"
            )
    for other in validation.meshes:
        if not other.same_bits:
            yield (
                f"{other.mode} in {other.numerics} on a mesh of {other.mesh}: FAILS, other bits than one chip: "
                f"{other.differs}"
            )
    for where, lengths in _by_place(validation.lengths).items():
        if not where:
            yield f"across the lengths {lengths}: no row is as long"
    longest = max((row.tokens for row in validation.rows), default=0)
    if longest:
        yield f"contexts of more than {longest:,} tokens, which is the longest row"
    judged = ", ".join(_by_numerics(validation.cases))
    yield f"numerics other than {judged}"
    for pins in validation.pins:
        if pins.close:
            yield (
                f"{pins.close:,} of {pins.decisions:,} choices in {pins.numerics}: near a tie, taken as the truth has "
                "them"
            )


def _same_bits(cases: tuple[MeshCase, ...]) -> dict[str, list[str]]:
    """Return by mesh the modes, in some numerics, that have one chip's bits."""
    named: dict[str, list[str]] = {}
    for case in cases:
        if case.same_bits:
            named.setdefault(case.mesh, []).append(f"{case.mode} in {case.numerics}")
    return named


def _by_numerics(cases: tuple[Case, ...]) -> dict[str, list[Case]]:
    named: dict[str, list[Case]] = {}
    for case in cases:
        named.setdefault(case.numerics, []).append(case)
    return named


def _by_place(lengths: tuple[CrossedLength, ...]) -> dict[str, str]:
    places: dict[str, list[str]] = {}
    for length in lengths:
        places.setdefault(length.crossed, []).append(f"{length.length:,} ({length.what})")
    return {where: ", ".join(words) for where, words in places.items()}
