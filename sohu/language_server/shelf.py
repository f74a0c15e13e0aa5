# SPDX-License-Identifier: Apache-2.0
"""The texts that a server knows: those that are open, as they are being edited, and the files that they use.

A file is read anew when it has changed. Which files a text may use is `porting.planning.library`'s to say.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused
from dsl.linking.program import Program, link
from dsl.source import Source, Span
from dsl.text import syntax as sx
from dsl.text.parser import parse
from porting.planning.library import ZOO, read_source, roots_of, used_path

MAX_FILES = 256


@dataclass(frozen=True, slots=True)
class Linked:
    """A text with what it uses: of what cannot be linked, as much as can; `faults` say why not."""

    program: Program
    used: tuple[Path, ...]
    faults: tuple[Diagnostic, ...]


@dataclass(slots=True)
class Shelf:
    """Open texts by path, and the trees of files by path, size and time."""

    open: dict[Path, str] = field(default_factory=dict)
    _trees: OrderedDict[tuple[Path, object], sx.File] = field(default_factory=OrderedDict)

    def tree(self, path: Path) -> sx.File:
        """Return the tree of a file, as it is open or as it is stored; raises `Refused`."""
        text = self.open.get(path)
        key = (path, _stamp(path) if text is None else text)
        if key not in self._trees:
            source = read_source(path, str(path)) if text is None else Source(str(path), text)
            self._trees[key] = parse(source)
            if len(self._trees) > MAX_FILES:
                self._trees.popitem(last=False)
        self._trees.move_to_end(key)
        return self._trees[key]

    def linked(self, file: sx.File, path: Path | None) -> Linked:
        """Return the program of a tree, with what can be found of the files that it uses."""
        used: list[Path] = []
        faults: list[Diagnostic] = []
        roots = (ZOO,) if path is None else roots_of(path)

        def load(use: sx.String) -> sx.File:
            try:
                place = used_path(use, roots)[0]
                used.append(place)
                return self.tree(place)
            except Refused as refused:
                faults.extend(_at(use, refused.diagnostics))
                return sx.File(use.span, file.version, (), ())

        try:
            return Linked(link(file, load), tuple(used), tuple(faults))
        except Refused as refused:
            faults.extend(refused.diagnostics)
        return Linked(_alone(file, used, self), tuple(used), tuple(faults))


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def _at(use: sx.String, diagnostics: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Return the faults of a file that is used; those without a place are at the `use`."""
    return [
        d if d.span is not None else Diagnostic(d.code, d.message, use.span, help=d.help)
        for d in diagnostics
    ]


def _alone(file: sx.File, used: Sequence[Path], shelf: Shelf) -> Program:
    """Return a program of all that can be looked up, though it does not link: names twice, parts that are missing."""
    files = [file]
    for path in used:
        try:
            files.append(shelf.tree(path))
        except Refused:
            continue
    blocks = {block.name.id: block for f in reversed(files) for block in f.blocks}
    parts = {part.name.id: part for f in reversed(files) for part in f.parts}
    return Program(file, blocks, tuple(files), file.families, parts)


def first_line(file: sx.File) -> Span:
    """Return the place of a text's first line, for what has no other."""
    source = file.span.source
    return Span(source, 0, len(source.line(0)))
