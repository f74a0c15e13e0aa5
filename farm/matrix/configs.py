# SPDX-License-Identifier: Apache-2.0
"""Plan published configs as they lie, and write down which are accepted, what became of their keys, and why not.

A folder of configs is the input; nothing is asked of transformers, and no weights are made: that is the oracles'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsl.diagnostics import Refused
from farm.matrix.markdown import table
from farm.matrix.registry import family_types
from porting.config.ignored_keys import NEVER_READ
from porting.files.strict_json import shown
from porting.origin.resolve import resolve
from porting.planning.opening import open_to_plan
from porting.planning.plan import plan
from porting.report.model import ConfigKeys

PAGE = Path("docs/published-configs.md")
PLANNED, REFUSED, UNCOVERED, OUTSIDE = "planned", "refused", "no family", "outside"
VERDICTS = {"S404": UNCOVERED, "S549": OUTSIDE}
"""What a refusal means by its code; any other is of a type that a family covers."""
HEADS = ("config", "type", "keys read", "of no consequence", "never read", "class defaults")
NO_EFFECT = NEVER_READ.partition(":")[0]
LONGEST = 200


@dataclass(frozen=True, slots=True)
class Published:
    """What became of one config: the verdict, the reason where it is not planned, and where it is its keys by kind."""

    name: str
    model_type: str
    verdict: str
    reason: str = ""
    read: int = 0
    ignored: int = 0
    never_read: int = 0
    defaults: int = 0


def outcomes(folder: Path) -> Iterator[Published]:
    """Yield the outcome of each `.json` file of a folder, in the order of names."""
    for path in sorted(folder.glob("*.json")):
        yield outcome(path)


def outcome(path: Path) -> Published:
    """Return what becomes of a config when it is planned alone."""
    model_type = ""
    try:
        origin = resolve(str(path))
        config, checkpoint = open_to_plan(origin)
        model_type = config.model_type
        keys = plan(origin, config, checkpoint).config_keys
    except Refused as refused:
        first = refused.diagnostics[0]
        verdict = VERDICTS.get(first.code, REFUSED)
        return Published(path.stem, model_type, verdict, f"{first.code}: {first.message}")
    return _planned(path.stem, model_type, keys)


def _planned(name: str, model_type: str, keys: ConfigKeys) -> Published:
    defaulted = sum(key.defaulted for key in keys.used)
    never = sum(key.reason.startswith(NO_EFFECT) for key in keys.ignored)
    return Published(
        name,
        model_type,
        PLANNED,
        read=len(keys.used) - defaulted,
        ignored=len(keys.ignored) - never,
        never_read=never,
        defaults=defaulted,
    )


def page(rows: Sequence[Published]) -> str:
    """Return the page: how many, those that are not planned with the reason, those that are with their keys."""
    counts = Counter(row.verdict for row in rows)
    covered = [row for row in rows if row.verdict in (PLANNED, REFUSED)]
    types = {row.model_type for row in rows if row.verdict == PLANNED} & family_types().keys()
    first = (
        f"Of {len(rows)} published configs {counts[PLANNED]} are planned as they lie, of {len(types)} of the "
        f"{len(family_types())} covered types; {counts[UNCOVERED]} are of types without a family, and "
        f"{counts[OUTSIDE]} of kinds that are outside. Of the {len(covered)} of covered types {counts[REFUSED]} are "
        "refused."
    )
    refused = [
        (row.name, row.model_type, row.verdict, _cell(row.reason))
        for row in sorted(rows, key=lambda row: (_ORDER.index(row.verdict), row.name))
        if row.verdict != PLANNED
    ]
    planned = [
        (
            row.name, row.model_type,
            *(str(n) for n in (row.read, row.ignored, row.never_read, row.defaults)),
        )
        for row in rows
        if row.verdict == PLANNED
    ]  # fmt: skip
    return "\n".join(
        (
            "# Published configs", "", _INTRODUCTION, "", first, "", "## Not planned", "",
            table(("config", "type", "verdict", "reason"), refused, left=4), "", "## Planned", "",
            _KINDS, "", table(HEADS, planned, left=2), "",
        )
    )  # fmt: skip


_ORDER = (REFUSED, OUTSIDE, UNCOVERED, PLANNED)
_INTRODUCTION = (
    "`config.json` files as their makers published them, planned without weights (`port CONFIG.json --plan`). Written "
    "by `python -m farm configs FOLDER`. That a port of such a config computes what transformers computes is shown by "
    "oracles: [status](status.md) has those that are made of published configs."
)
_KINDS = (
    "Each key of a planned config is read by the family, of no consequence to a forward pass (training, tokens, "
    "sampling, nulls, how weights are stored; the port's report has the reason of each), or never read by any code of "
    "transformers. Class defaults are values that the file leaves to transformers' class or the family."
)


def _cell(text: str) -> str:
    return shown(text, LONGEST).replace("|", "\\|").replace("\n", " ")
