# SPDX-License-Identifier: Apache-2.0
"""The source tree that Sphinx builds from: pages of the repository with their links, and the pages made from tables.

Writes into an empty folder; what pages link to beside pages is copied below `files/`, where it is small.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from handbook.reference.language import without_tables
from handbook.reference.pages import REFERENCE, reference
from handbook.sources.contents import CONTENTS, DECISIONS, ROOT, chapters, pages, place
from handbook.sources.links import for_sphinx, relinked, targets

LARGEST_FILE = 2 << 20


def stage(folder: Path, root: Path = ROOT) -> Mapping[str, str]:
    """Write the tree into a folder; returns the text of every page by its place, in the order of reading."""
    paths = pages(root)
    texts = {path: _said(path, (root / path).read_text(encoding="utf-8")) for path in paths}
    linked = {target for path, text in texts.items() for target in targets(text, path)}
    files = {target for target in linked - set(paths) if _is_copied(root / target)}
    made = reference()
    held = {*map(place, paths), *made, place(DECISIONS)}
    known = {*files, *(path for path in linked if place(path) in held)}
    for target in sorted(files):
        copy = folder / place(target)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / target, copy)
    written = {
        place(path): for_sphinx(relinked(text, path, known.__contains__))
        for path, text in texts.items()
    }
    written[place(CONTENTS)] += _trees(root, made)
    written[place(DECISIONS)] = _decisions(paths, texts)
    for name, text in {**written, **made}.items():
        page = folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    return {**written, **made}


def _is_copied(path: Path) -> bool:
    return path.is_file() and path.suffix != ".md" and path.stat().st_size <= LARGEST_FILE


def _said(path: str, text: str) -> str:
    return without_tables(text) if path == "dsl/LANGUAGE.md" else text


def _trees(root: Path, made: Mapping[str, str]) -> str:
    """Return the navigation: a tree for each section of the contents, then the pages of reference."""
    contents = (root / CONTENTS).read_text(encoding="utf-8")
    listed = {s.title: [place(path) for path in s.paths] for s in chapters(contents)}
    project = listed.popitem()
    trees = {**listed, "Reference": list(REFERENCE), project[0]: project[1]}
    shown = "\n".join(f"* [{title_of(made[page])}]({page})" for page in REFERENCE)
    return f"\n## Reference\n\n{shown}\n\n" + "\n".join(
        tree(names, caption) for caption, names in trees.items()
    )


def tree(names: list[str], caption: str = "") -> str:
    """Return the directive that puts pages into the navigation."""
    head = f":caption: {caption}\n" if caption else ""
    lines = "\n".join(name.removesuffix(".md") for name in names)
    return f"```{{toctree}}\n:hidden:\n{head}\n{lines}\n```\n"


def _decisions(paths: tuple[str, ...], texts: Mapping[str, str]) -> str:
    names = [path for path in paths if path.startswith(f"{DECISIONS}/")]
    files = [path.rsplit("/", 1)[-1] for path in names]
    lines = [
        f"* [{file[:4]}: {title_of(texts[path])}]({file})"
        for path, file in zip(names, files, strict=True)
    ]
    about = "Each says what was decided, why, and what else was considered."
    return "\n".join(["# Decisions", "", about, "", *lines, "", tree(files)])


def title_of(page: str) -> str:
    """Return the first heading of a page."""
    return next(line[2:].strip() for line in page.splitlines() if line.startswith("# "))
