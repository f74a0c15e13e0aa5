# SPDX-License-Identifier: Apache-2.0
"""What the site holds and where: the chapters of docs/README.md, and the place of each of the repository's pages.

Reads the table of contents alone; pages are written by `staging`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
CONTENTS = "docs/README.md"
DECISIONS = "docs/decisions"
PLACES = {
    CONTENTS: "index.md",
    "README.md": "overview.md",
    "dsl/LANGUAGE.md": "language.md",
    "device_model/chips/README.md": "chips.md",
    "skills/port-a-model/SKILL.md": "port-with-an-agent.md",
    DECISIONS: "decisions/index.md",
    "skills/port-a-model": "port-with-an-agent.md",
}
"""Pages and folders that stand elsewhere than their path says."""

HEADING = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
ENTRY = re.compile(r"^\* \[[^]]+\]\((?P<target>[^)#\s]+)\)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Chapter:
    """A heading of the table of contents, and the paths in the repository that it lists."""

    title: str
    paths: tuple[str, ...]


def chapters(contents: str) -> tuple[Chapter, ...]:
    """Return the chapters of a table of contents, given as text."""
    _, *parts = HEADING.split(contents)
    return tuple(
        Chapter(title, tuple(resolved(CONTENTS, target) for target in ENTRY.findall(listed)))
        for title, listed in zip(parts[::2], parts[1::2], strict=True)
    )


def resolved(page: str, target: str) -> str:
    """Return the path in the repository that a relative link of a page means."""
    parts: list[str] = []
    for part in (PurePosixPath(page).parent / target).parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts)


def place(path: str) -> str:
    """Return where a page of the repository stands in the site; other files lie below `files/`."""
    if path in PLACES:
        return PLACES[path]
    if not path.endswith(".md"):
        return f"files/{path}"
    return path.removeprefix("docs/").lower().replace("_", "-")


def pages(root: Path = ROOT) -> tuple[str, ...]:
    """Return the paths of all pages of the repository that the site holds, decisions last."""
    contents = (root / CONTENTS).read_text(encoding="utf-8")
    listed = [path for section in chapters(contents) for path in section.paths]
    decisions = sorted(p.relative_to(root).as_posix() for p in (root / DECISIONS).glob("*.md"))
    return (CONTENTS, *(path for path in listed if path != DECISIONS), *decisions)
