# SPDX-License-Identifier: Apache-2.0
"""Links of a page as they must be where it stands in the site; a link to what the site lacks becomes its words.

Only Markdown's inline links are known, as `[words](target)`; blocks of code are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from handbook.sources.contents import place, resolved

FENCE = re.compile(r"^\s*(```+|~~~+)")
LINK = re.compile(r"\[(?P<words>(?:`[^`]*`|[^][`])+)\]\((?P<path>[^)#\s:]*)(?P<anchor>#[^)\s]*)?\)")
STATEMENTS = re.compile(r"^```python\n(?=>>> )", re.MULTILINE)


def relinked(text: str, page: str, known: Callable[[str], bool]) -> str:
    """Return a page of the repository with the links of the site; `known` tells which paths the site has."""

    def link(match: re.Match[str]) -> str:
        path, anchor, words = match["path"], match["anchor"] or "", match["words"]
        if not path:
            return match[0]
        target = resolved(page, path)
        if not known(target):
            return words
        return f"[{words}]({relative(place(page), place(target))}{anchor})"

    return "".join(line if inside else LINK.sub(link, line) for line, inside in with_fences(text))


def with_fences(text: str) -> list[tuple[str, bool]]:
    """Return the lines of a text, each with whether it belongs to a block of code."""
    lines, open_fence = [], ""
    for line in text.splitlines(keepends=True):
        fence = FENCE.match(line)
        if fence and not open_fence:
            open_fence = fence[1]
            lines.append((line, True))
        elif fence and line.strip() == open_fence:
            open_fence = ""
            lines.append((line, True))
        else:
            lines.append((line, bool(open_fence)))
    return lines


def targets(text: str, page: str) -> set[str]:
    """Return the paths in the repository that a page links to."""
    return {
        resolved(page, match["path"])
        for line, inside in with_fences(text)
        if not inside
        for match in LINK.finditer(line)
        if match["path"]
    }


def relative(page: str, target: str) -> str:
    """Return the relative link from one place to another."""
    here, there = PurePosixPath(page).parent.parts, PurePosixPath(target).parts
    shared = 0
    while shared < min(len(here), len(there) - 1) and here[shared] == there[shared]:
        shared += 1
    return "/".join([".."] * (len(here) - shared) + list(there[shared:]))


def for_sphinx(text: str) -> str:
    """Return a page whose snippets at a Python prompt are called so, as Pygments wants it."""
    return STATEMENTS.sub("```pycon\n", text)
