# SPDX-License-Identifier: Apache-2.0
"""Write what the zoo covers and how well: one page as Markdown, the same as HTML, from the farm's results alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.matrix.cells import Result, key_of
from farm.matrix.markdown import table
from farm.matrix.matrix import whole
from farm.matrix.registry import family_types, published_of, spec_lines, uncovered_types
from farm.matrix.store import Store, newest
from farm.oracles.shrink import causal_types
from farm.oracles.shrink import table as table_of_oracles
from porting.pages import frame
from porting.planning.library import families, write_text
from porting.planning.missing_family import lacking
from porting.verdict.rule import SENTENCE

HEADS = (
    "type", "oracle of", "family", "verdict", "f32 error", "bf16 error", "÷ reference's", "PCC f32", "PCC bf16",
    "modes", "tokens", "lengths", "close choices", "weights", "a token of context", "lines",
)  # fmt: skip
RULE = (
    "Tiny random checkpoints of each type, with every kind of layer in them, against transformers in float64, in every "
    "mode: one of the defaults of the type's class, and one of each published config at hand, made smaller; a type "
    f"passes where all of them do. {SENTENCE} The figures are the worst of all modes. Lengths are those at which "
    "something switches, and that rows cross, in brackets where none does; close choices are those of experts near a "
    "tie, judged as the truth chooses. PCC decides nothing: it is what others judge by. Lines are those of the "
    "family's own file, without comments."
)
PASS = "pass"  # noqa: S105 - a verdict, not a password
NOT_RUN = "not run"
OF_DEFAULTS = "defaults"
MISSING = "missing"
VERDICT = HEADS.index("verdict")


@dataclass(frozen=True, slots=True)
class Status:
    """What the page shows; `rows` are in the order of `HEADS`, `apart` are published configs without an oracle."""

    types: int
    passing: int
    facts: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]
    problems: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, tuple[str, ...]], ...]
    apart: tuple[tuple[str, str], ...] = ()

    @property
    def share(self) -> int:
        """Return the share of types that pass, in percent."""
        return 100 * self.passing // self.types if self.types else 0


def write_status(store: Store, directory: Path) -> tuple[Path, Path]:
    """Write `status.md` and `status.html` from the current results of whole cells."""
    known = store.load()
    results = newest(known, [key_of(whole(kind, published=name)) for kind, name in _oracles()])
    status = status_of(results)
    markdown, page = directory / "status.md", directory / "status.html"
    write_text(markdown, as_markdown(status))
    write_text(page, as_html(status))
    return markdown, page


def status_of(results: Mapping[str, Result]) -> Status:
    """Return the status of every type, given the results by their names."""
    covered = family_types()
    named = published_of(covered)
    lines = {path: spec_lines(path) for path in families().values()}
    rows = tuple(
        _row(kind, name, covered[kind].stem, lines[covered[kind]], results.get(f"{kind} {name}".rstrip()))
        for kind, name in _oracles()
    )  # fmt: skip
    passing = len(set(covered) - {row[0] for row in rows if row[VERDICT] != PASS})
    longest = max(lines, key=lambda path: lines[path])
    of_published = [row for row in rows if row[1] != OF_DEFAULTS]
    facts = (
        ("covered", f"{len(covered)}"),
        ("pass", f"{passing}"),
        ("with a published config", f"{len(named)}"),
        ("published configs", f"{len(of_published)}"),
        ("of them pass", f"{sum(row[VERDICT] == PASS for row in of_published)}"),
        ("families", f"{len(lines)}"),
        ("median family", f"{statistics.median(lines.values()):.0f} lines"),
        ("longest family", f"{lines[longest]} lines ({longest.stem})"),
        ("transformers", _version(results)),
    )
    apart = tuple(table_of_oracles()["not_published"].items())
    problems = tuple(
        (name, result.problem or "outside of the limit")
        for name, result in sorted(results.items())
        if not result.passed
    )
    return Status(len(causal_types()), passing, facts, rows, problems, _missing(), apart)


def _oracles() -> list[tuple[str, str]]:
    """Return each type with nothing, for the oracle of its class's defaults, and with its published configs."""
    covered = sorted(family_types())
    named = published_of(covered)
    return [(kind, name) for kind in covered for name in ("", *named.get(kind, ()))]


def as_markdown(status: Status) -> str:
    """Return the page as Markdown."""
    facts = "; ".join(f"{name}: {value}" for name, value in status.facts)
    parts = [f"# {status.passing} of {status.types} causal types pass", RULE, f"{facts}."]
    if status.problems:
        parts.append("## What does not pass")
        parts += [f"### {name}\n\n```\n{text}\n```" for name, text in status.problems]
    missing = [(reason, ", ".join(names)) for reason, names in status.missing]
    parts += ["## Not covered", table(("lacks", "types"), missing, left=2)]
    parts += [
        "## Published configs without an oracle",
        table(("config", "because"), status.apart, left=2),
    ]
    parts += ["## Covered", table(HEADS, status.rows, left=VERDICT + 1)]
    return "\n\n".join(parts) + "\n"


def as_html(status: Status) -> str:
    """Return the page as HTML that needs no other file."""
    rows = sorted(status.rows, key=lambda row: row[VERDICT] == PASS)
    shown = {row[VERDICT] for row in rows} | {MISSING}
    values = {
        "status": status,
        "facts": [_fact(name, value) for name, value in status.facts],
        "rows": rows,
        "verdicts": sorted(shown, key=lambda verdict: (verdict == PASS, verdict)),
        "missing": MISSING,
        "heads": HEADS,
        "words": VERDICT + 1,
        "rule": RULE,
        "anchor": _anchor,
    }
    return frame.render(
        "farm.matrix", "status.html", values, styles=("status.css",), script="status.js"
    )


def _fact(name: str, value: str) -> dict[str, str]:
    """Return a number of the page's head; what stands in brackets is its remark."""
    first, _, remark = value.partition(" (")
    return {"title": name, "value": first, "remark": remark.removesuffix(")")}


def _anchor(row: Sequence[str]) -> str:
    """Return the name that a row is found by: of a type, or of one of its published configs."""
    return f"type-{row[0]}" if row[1] == OF_DEFAULTS else f"config-{row[0]}-{row[1]}"


def _row(
    name: str, published: str, family: str, lines: int, result: Result | None
) -> tuple[str, ...]:
    of = published or OF_DEFAULTS
    if result is None:
        return (name, of, family, NOT_RUN, *("",) * 11, str(lines))
    f32, bf16 = (_of(result.cases, numerics) for numerics in ("f32", "bf16"))
    ratios = [c["error"] / c["reference"] for c in bf16 if c["reference"]]
    modes = {case["mode"] for case in result.cases}
    return (
        name, of, family, result.verdict, _worst(f32, "error", max, ".1e"), _worst(bf16, "error", max, ".1e"),
        f"{max(ratios):.2f}" if ratios else "", _worst(f32, "pcc", min, ".7f"), _worst(bf16, "pcc", min, ".5f"),
        str(len(modes)), f"{result.tokens:,}", _lengths(result), _close(result), f"{result.weights_bytes:,}",
        f"{result.state_bytes_per_token:,}",
        str(lines),
    )  # fmt: skip


def _lengths(result: Result) -> str:
    """Return the lengths that were crossed; those that no row was long enough for are in brackets."""
    shown = [f"{x['length']:,}" if x["crossed"] else f"({x['length']:,})" for x in result.lengths]
    return ", ".join(shown)


def _close(result: Result) -> str:
    """Return the share of choices that were near a tie in bf16, in percent."""
    pins = [p for p in result.pins if p["numerics"] == "bf16" and p["decisions"]]
    return f"{100 * pins[0]['close'] / pins[0]['decisions']:.1f} %" if pins else ""


def _of(cases: Sequence[Mapping[str, Any]], numerics: str) -> list[Mapping[str, Any]]:
    return [case for case in cases if case["numerics"] == numerics]


def _worst(cases: Sequence[Mapping[str, Any]], key: str, pick: Any, form: str) -> str:
    values = [case[key] for case in cases if case[key] is not None]
    return f"{pick(values):{form}}" if values else ""


def _missing() -> tuple[tuple[str, tuple[str, ...]], ...]:
    by_reason: dict[str, list[str]] = {}
    known = lacking()
    for name in uncovered_types():
        by_reason.setdefault(known.get(name, "not looked at yet"), []).append(name)
    return tuple((reason, tuple(names)) for reason, names in by_reason.items())


def _version(results: Mapping[str, Result]) -> str:
    versions = {result.versions.get("transformers", "") for result in results.values()}
    return ", ".join(sorted(versions)) or NOT_RUN
