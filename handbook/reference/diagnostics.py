# SPDX-License-Identifier: Apache-2.0
"""The page of diagnostics: every code with its explanation, and an example where a text can show it.

Examples are the pairs that the tests of the checker hold, as a user sees them.
"""

from __future__ import annotations

from pathlib import Path

from dsl.codes import CODES
from handbook.reference.markdown import page
from handbook.sources.contents import ROOT

EXAMPLES = ROOT / "tests" / "errors"
GROUPS = {
    "S1": "Syntax, files and arguments",
    "S2": "Names, types and shapes",
    "S3": "Sharding",
    "S4": "Config",
    "S5": "Checkpoint and files",
    "S6": "Device",
    "S9": "Faults of ours",
}
ABOUT = (
    "`sohu explain CODE` prints what stands here. A code never changes its meaning. Messages give the place, what was "
    "found there with the values of its dimensions, and what may help; with `--json` all of it is data."
)


def diagnostics() -> str:
    """Return the page."""
    parts = [ABOUT]
    for prefix, title in GROUPS.items():
        parts.append(f"## {prefix}xx: {title}")
        parts += [_code(name) for name in sorted(CODES) if name.startswith(prefix)]
    return page("Diagnostics", *parts)


def _code(name: str) -> str:
    row = CODES[name]
    examples = sorted(EXAMPLES.glob(f"{name}_*.expect"), key=_length)
    shown = f"\n\n```text\n{_read(examples[0])}\n```" if examples else ""
    return f"### {name}\n\n**{row.title}.** {row.explanation}{shown}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("--> errors/", "--> ").rstrip()


def _length(path: Path) -> tuple[int, str]:
    return len(_read(path)), path.name
