# SPDX-License-Identifier: Apache-2.0
"""One state of one text, and what can be asked of it: its tree, its program, its names, what its places stand for.

All of it is made when it is first asked for, and never changes; an edit makes another view.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from dsl.diagnostics import Diagnostic
from dsl.inference.inference import glance
from dsl.inference.sightings import Sightings
from dsl.linking.program import Program
from dsl.source import Source, Span
from dsl.text import syntax as sx
from sohu.language_server.mending import Mended, mended
from sohu.language_server.scopes import Mention, ScopeWalk, path_at
from sohu.language_server.shelf import Linked, Shelf

Glance: TypeAlias = tuple[Sightings, tuple[Diagnostic, ...]]
GLANCED_PATHS = 16
"""In a pause of typing; a family with more conditions is checked whole when it is saved."""
GLIMPSED_PATHS = 3
"""Where somebody hovers before that pause is over."""
EMPTY = sx.File(Span(Source("", ""), 0, 0), "1.0", (), ())


@dataclass(frozen=True)
class View:
    """A text at one moment; `name` is the path or address by which its places are called."""

    name: str
    text: str
    path: Path | None = None
    shelf: Shelf = field(default_factory=Shelf, repr=False)

    @cached_property
    def source(self) -> Source:
        """Return the text as a source."""
        return Source(self.name, self.text)

    @cached_property
    def mended(self) -> Mended:
        """Return what there is of a tree."""
        return mended(self.source)

    @property
    def file(self) -> sx.File:
        """Return the tree, an empty one where there is none."""
        return self.mended.file or EMPTY

    @property
    def has_tree(self) -> bool:
        """Tell whether there is any tree to ask."""
        return self.mended.file is not None

    @cached_property
    def linked(self) -> Linked:
        """Return the text with what it uses."""
        return self.shelf.linked(self.file, self.path)

    @property
    def program(self) -> Program:
        """Return the program, as far as it links."""
        return self.linked.program

    @cached_property
    def glanced(self) -> Glance:
        """Return what places stand for, and what is wrong on the first paths."""
        return self._walked(GLANCED_PATHS)

    @cached_property
    def glimpsed(self) -> Glance:
        """Return what can be seen while somebody waits."""
        return self._walked(GLIMPSED_PATHS)

    def _walked(self, most: int) -> Glance:
        program = self.program
        families = tuple(f for f in program.families if not _is_partial(f))
        parts: tuple[sx.Family | sx.Block, ...] = families or program.file.blocks
        seen, diagnostics = Sightings(), list[Diagnostic]()
        for part in parts:
            one, faults = glance(part, program.blocks, most)
            seen.shown |= one.shown
            diagnostics += faults
        # With a file missing, every further fault may follow from that.
        return seen, () if self.linked.faults else tuple(diagnostics)

    @property
    def is_glanced(self) -> bool:
        """Tell whether it is known already what places stand for."""
        return "glanced" in self.__dict__

    def sightings(self, span: Span) -> tuple[str, ...]:
        """Return what a place was seen to stand for, on one path or another."""
        seen, _ = self.glanced if self.is_glanced else self.glimpsed
        return seen.shown.get(span, ())

    def nodes_at(self, offset: int) -> tuple[sx.Syntax, ...]:
        """Return the nodes that a place is in, outermost first."""
        return path_at(self.file, offset)

    def declaration_at(self, offset: int) -> sx.Declaration | None:
        """Return the declaration that a place is in."""
        around = (d for d in self.file.declarations if d.span.start <= offset <= d.span.end)
        return next(around, None)

    def mentions(self, declaration: sx.Declaration) -> tuple[Mention, ...]:
        """Return every name of a declaration, with those of the parts that a family includes."""
        walk = ScopeWalk()
        walk.declaration(self._whole(declaration))
        return tuple(walk.mentions)

    def mention_at(self, offset: int) -> Mention | None:
        """Return the name that stands at a place."""
        declaration = self.declaration_at(offset)
        for mention in () if declaration is None else self.mentions(declaration):
            span = mention.span
            if span.source is self.file.span.source and span.start <= offset <= span.end:
                return mention
        return None

    def names_at(self, offset: int) -> dict[str, Mention]:
        """Return the names in scope at a place, each as it would be mentioned there."""
        declaration = self.declaration_at(offset)
        if declaration is None:
            return {}
        source = self.file.span.source
        walk = ScopeWalk((source, offset))
        walk.declaration(self._whole(declaration))
        place = Span(source, offset, offset)
        return {n: Mention(n, place, bindings) for n, bindings in walk.names.items() if bindings}

    def shown(self, mention: Mention) -> str:
        """Return what a name stands for at a place: types or values, `or` between those of several paths."""
        words = [w for b in mention.bindings for w in self.sightings(b.name.span)]
        return " or ".join(dict.fromkeys(words))

    def _whole(self, declaration: sx.Declaration) -> sx.Declaration:
        if not isinstance(declaration, sx.Family):
            return declaration
        same = (f for f in self.program.families if f.span == declaration.span)
        return next(same, declaration)


def _is_partial(family: sx.Family) -> bool:
    """Tell whether a family's parts could not be put in place."""
    return any(isinstance(item, sx.Include) for item in family.items)
