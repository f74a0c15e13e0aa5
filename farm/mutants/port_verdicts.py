# SPDX-License-Identifier: Apache-2.0
"""Try the verdict as users run it: seed mistakes into ports of models with real lengths, and validate each again.

`python -m farm verdicts` writes which mistakes are noticed, and by which row. A mistake that changes no logit at any
length is told from one that is missed by comparing the two programs over a row that crosses everything.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from device_model.engine.engine import Engine
from farm.matrix.markdown import table
from farm.matrix.workers import collected
from farm.mutants.port_edits import Edit, edits
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.pipeline import port, validate_port
from porting.planning.bound import bound_graph
from porting.planning.library import write_text
from porting.report.model import SPEC_NAME, Report, Verdict
from porting.verdict.errors import compared
from porting.verdict.rows import Draw
from porting.verdict.rule import F32_LIMIT

SUBJECTS = Path(__file__).with_name("subjects.toml")
PAGE = Path("docs") / "verdict-strength.md"
LEAST_CAUGHT = 0.98
DEAD = "changes nothing"
ROUNDING = 1e-6
"""What two ways to compute the same may differ by in f32."""
REFUSED = "the checker"
INTRODUCTION = (
    "Ports of models with lengths as people have them, each with one constant of its text changed, and judged by "
    "`sohu validate`. *caught by* names the rows that are over the limit alone in f32, or what refuses the text before "
    "any row. A change that alters logits by no more than rounding, over a row beyond every length, is no mistake and "
    "listed apart."
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one edit: the verdict, and the rows that show it."""

    subject: str
    kind: str
    constant: str
    was: str
    now: str
    verdict: str
    rows: tuple[str, ...]

    @property
    def is_bug(self) -> bool:
        """Tell whether the edit changes what is computed."""
        return self.rows != (DEAD,)

    @property
    def caught(self) -> bool:
        """Tell whether the verdict is that the port fails."""
        return self.verdict == Verdict.FAIL.value


@lru_cache(maxsize=1)
def subjects() -> Mapping[str, Mapping[str, Any]]:
    """Return the models by name: their type, and keys of their config."""
    data: dict[str, dict[str, Any]] = tomllib.loads(SUBJECTS.read_text(encoding="utf-8"))
    return data


def judge(subject: str) -> tuple[Judged, ...]:
    """Port a subject and judge every edit of its text; raises `ValueError` where the port itself does not pass."""
    entry = subjects()[subject]
    with tempfile.TemporaryDirectory(prefix="farm-") as name:
        folder, out = (
            tiny(Path(name) / "model", entry["type"], **entry["keys"]),
            Path(name) / "port",
        )
        report, _ = port(str(folder), out=out)
        if report.verdict is not Verdict.PASS:
            raise ValueError(f"the port of {subject} itself is judged {report.verdict.value}")
        lengths = {length.length for length in report.validation.lengths}
        text = (out / SPEC_NAME).read_text(encoding="utf-8")
        sound = _logits(out, folder, max(lengths, default=128))
        return tuple(_judged(subject, edit, out, folder, sound) for edit in edits(text, lengths))


def _judged(subject: str, edit: Edit, out: Path, folder: Path, sound: Any) -> Judged:
    (out / SPEC_NAME).write_text(edit.text, encoding="utf-8")
    report = validate_port(out)
    rows = _rows(report)
    if report.verdict is Verdict.PASS:
        changed = _logits(out, folder, 2 * len(sound))[: len(sound)]
        rows = (DEAD,) if compared(changed, sound).rmse <= ROUNDING else ()
    return Judged(subject, edit.kind, edit.name, edit.was, edit.now, report.verdict.value, rows)


def _rows(report: Report) -> tuple[str, ...]:
    """Return what shows a mistake: the kinds of rows that are over the limit, modes, or the checker."""
    validation = report.validation
    if not validation.cases:
        return (REFUSED,)
    over = [r.name.split(",")[0] for r in validation.rows if r.errors.get("f32", 0.0) > F32_LIMIT]
    modes = [c.mode for c in validation.cases if not c.passed and c.mode != "prefill"]
    return tuple(dict.fromkeys(over or modes))


def _logits(out: Path, folder: Path, longest: int) -> Any:
    """Return logits of a random row beyond every length, as far as the program has positions."""
    graph = bound_graph(out)
    engine = Engine(graph, Checkpoint.open(folder), "f32")
    most = engine.plan.longest or 2**31
    row = Draw(97, ()).row("", min(longest + 200, most)).tokens
    return engine.session().step([row])[0]


def run(names: Sequence[str], jobs: int, told: Any) -> tuple[list[Judged], dict[str, str]]:
    """Return what became of every edit, and the subjects that broke with the reason."""
    judged, broken = collected(judge, names, jobs, told)
    return [j for several in judged.values() for j in several], broken


def share_caught(judged: Sequence[Judged]) -> float:
    """Return the share of the mistakes that the verdict notices."""
    bugs = [j for j in judged if j.is_bug]
    return sum(j.caught for j in bugs) / len(bugs) if bugs else 0.0


def write(judged: Sequence[Judged], broken: Mapping[str, str], page: Path) -> None:
    """Write the page, and beside it every edit as one JSON line."""
    write_text(page, as_markdown(judged, broken))
    lines = "".join(f"{json.dumps(asdict(j))}\n" for j in judged)
    write_text(Path(".farm") / "verdicts.jsonl", lines)


def as_markdown(judged: Sequence[Judged], broken: Mapping[str, str]) -> str:
    """Return the page."""
    bugs = [j for j in judged if j.is_bug]
    caught = sum(j.caught for j in bugs)
    models = len({j.subject for j in judged})
    summary = f"{models} models, {len(bugs)} mistakes: {caught} caught ({100 * share_caught(judged):.1f} %)."
    parts = [
        "# How strong the verdict is",
        f"{INTRODUCTION}\n\n```\n$ python -m farm verdicts\n```",
        summary,
    ]
    parts += [
        "## By kind of constant",
        table(("kind", "mistakes", "caught", "by"), list(_kinds(bugs)), left=1),
    ]
    heads = ("model", "constant", "was", "now", "verdict", "caught by")
    rows = [
        (j.subject, j.constant, j.was, j.now, j.verdict, ", ".join(j.rows))
        for j in sorted(bugs, key=lambda j: (j.kind != "length", j.subject))
    ]
    parts += ["## Every mistake", table(heads, _short(rows), left=6)]
    dead = [(j.subject, j.constant, j.was, j.now) for j in judged if not j.is_bug]
    if dead:
        parts += ["## Changes that alter no logit", table(heads[:4], _short(dead), left=4)]
    if broken:
        parts += ["## Broken", table(("model", "what"), sorted(broken.items()), left=2)]
    return "\n\n".join(parts) + "\n"


def _kinds(bugs: Sequence[Judged]) -> Iterator[tuple[str, ...]]:
    for kind in dict.fromkeys(j.kind for j in bugs):
        own = [j for j in bugs if j.kind == kind]
        by: dict[str, int] = {}
        for j in own:
            for row in j.rows[:1]:
                first = row if row == REFUSED else row.split(" ")[0]
                by[first] = by.get(first, 0) + 1
        shown = ", ".join(f"{n} {row}" for row, n in sorted(by.items(), key=lambda x: -x[1]))
        yield kind, str(len(own)), str(sum(j.caught for j in own)), shown


def _short(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(cell if len(cell) < 60 else f"{cell[:56]} …" for cell in row) for row in rows]
