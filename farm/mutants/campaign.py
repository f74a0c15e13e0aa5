# SPDX-License-Identifier: Apache-2.0
"""Measure the harness over all covered types and write what it notices: seeded bugs, and flipped config keys.

`python -m farm strength`. A survivor that `survivors.toml` gives no reason for is a gap.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from farm.matrix.markdown import table
from farm.matrix.workers import collected
from farm.mutants.config_flips import Flip, flips
from farm.mutants.detection import CACHE_OFFSET, CORRELATION, Finding, findings
from farm.oracles.shrink import runs_in
from porting.planning.library import write_text

REASONS = Path(__file__).with_name("survivors.toml")
PAGE = Path("docs") / "harness-strength.md"
LEAST_CAUGHT = 0.98
INTRODUCTION = (
    "Every operator is seeded once, at its first place, into every type's tiny port that it applies to. A bug is "
    "caught where some mode fails the rule in f32. Beside it stands what a correlation (PCC) below "
    f"{CORRELATION} would have shown in the same modes, and how often `sohu diff` names the line."
)
FLIPS = (
    "Every key of every tiny config is given other values, on the same weights. *followed*: the original changes, and "
    "the port alike; *refused*: the port says that it does not know this; *dead*: the original does not change. "
    "*silent* and *wrong* are faults."
)
VERDICTS = ("followed", "refused", "dead", "silent", "wrong")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one type's oracle shows of the harness."""

    model_type: str
    findings: tuple[Finding, ...]
    flips: tuple[Flip, ...]


def measure(model_type: str) -> Measured:
    """Seed every bug into a type and flip every key of its config."""
    made = tuple(findings(model_type)) if runs_in(model_type, "f32") else ()
    return Measured(model_type, made, tuple(flips(model_type)))


def run(
    types: Sequence[str], jobs: int, told: Callable[[str, int, int], None]
) -> tuple[list[Measured], dict[str, str]]:
    """Return what each type shows, in the order of the types, and the types that broke with the reason."""
    measured, broken = collected(measure, types, jobs, told)
    return list(measured.values()), broken


def write(measured: Sequence[Measured], broken: Mapping[str, str], page: Path) -> None:
    """Write the page, and beside it every finding as one JSON line."""
    write_text(page, as_markdown(measured, broken))
    rows = [asdict(x) for m in measured for x in m.findings]
    rows += [asdict(x) for m in measured for x in m.flips]
    write_text(Path(".farm") / "strength.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


def gaps(measured: Sequence[Measured]) -> Iterator[str]:
    """Yield what the harness should have noticed: bugs that survive without a reason, and keys ignored in silence."""
    for finding in _findings(measured):
        if not finding.caught and not reason(finding):
            yield f"{finding.model_type}: {finding.operator} is not noticed"
    for m in measured:
        for flip in m.flips:
            if flip.faulty:
                yield f"{m.model_type}: {flip.key} = {flip.value!r}: {flip.verdict}"


def share_caught(measured: Sequence[Measured]) -> float:
    """Return the share of the seeded bugs that the rule notices."""
    seeded = _findings(measured)
    return sum(f.caught for f in seeded) / len(seeded) if seeded else 0.0


def reason(finding: Finding) -> str:
    """Return why a bug cannot be noticed in this type, empty where that is not known."""
    known = _reasons().get(finding.operator, {})
    return known.get(finding.model_type) or known.get("*", "")


@lru_cache(maxsize=1)
def _reasons() -> Mapping[str, Mapping[str, str]]:
    data: dict[str, dict[str, str]] = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    return data


def as_markdown(measured: Sequence[Measured], broken: Mapping[str, str]) -> str:
    """Return the page."""
    seeded = _findings(measured)
    caught = sum(f.caught for f in seeded)
    blamed = [f for f in seeded if f.caught and f.operator != CACHE_OFFSET]
    named = sum(f.right for f in blamed)
    correlated = sum(f.seen_by_correlation for f in seeded)
    operators = dict.fromkeys(f.operator for f in seeded)
    summary = (
        f"{len(operators)} operators, {len(measured)} types, {len(seeded)} bugs: the rule catches {caught} "
        f"({_share(caught, len(seeded))}), a correlation below {CORRELATION} would show {correlated} "
        f"({_share(correlated, len(seeded))}); `sohu diff` names the line of {named} of {len(blamed)} "
        f"({_share(named, len(blamed))})."
    )
    parts = [
        "# How strong the harness is",
        f"{INTRODUCTION}\n\n```\n$ python -m farm strength\n```",
        summary,
        "## Seeded bugs",
        table(
            ("operator", "seeded", "caught", "PCC shows", "diff names"),
            [_row(name, [f for f in seeded if f.operator == name]) for name in operators],
            left=1,
        ),
        "## By row",
        "The first row that is over the limit alone, in the order in which rows are judged; a mode where no row is.",
        _by_row(seeded),
        "## Survivors",
        _survivors(seeded),
        "## Flipped keys",
        FLIPS,
        _flipped(measured),
    ]
    if broken:
        parts += ["## Broken", table(("type", "what"), sorted(broken.items()), left=2)]
    return "\n\n".join(parts) + "\n"


def _findings(measured: Sequence[Measured]) -> list[Finding]:
    return [finding for m in measured for finding in m.findings]


def _row(name: str, seeded: Sequence[Finding]) -> tuple[str, ...]:
    caught = sum(f.caught for f in seeded)
    named = "–" if name == CACHE_OFFSET else str(sum(f.right for f in seeded))
    return (
        name,
        str(len(seeded)),
        str(caught),
        str(sum(f.seen_by_correlation for f in seeded)),
        named,
    )


def _by_row(seeded: Sequence[Finding]) -> str:
    counts = Counter(f.row for f in seeded if f.caught)
    return table(("row", "bugs"), [(row, str(n)) for row, n in counts.most_common()], left=1)


def _survivors(seeded: Sequence[Finding]) -> str:
    rows = [
        (f.operator, f.model_type, f"{f.error:.1e}", reason(f) or "**not explained**")
        for f in sorted(seeded, key=lambda f: (f.operator, f.model_type))
        if not f.caught
    ]
    return table(("operator", "type", "error", "why"), rows, left=2) if rows else "None."


def _flipped(measured: Sequence[Measured]) -> str:
    counts = Counter(flip.verdict for m in measured for flip in m.flips)
    total = table(VERDICTS, [tuple(str(counts[v]) for v in VERDICTS)], left=0)
    faults = [
        (m.model_type, flip.key, json.dumps(flip.value), flip.verdict)
        for m in measured
        for flip in m.flips
        if flip.faulty
    ]
    return (
        f"{total}\n\n{table(('type', 'key', 'value', 'verdict'), faults, left=4)}"
        if faults
        else total
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole if whole else 0.0:.1f} %"
