# SPDX-License-Identifier: Apache-2.0
"""Where a place stands in a text that need not have a syntax: in which section, call, argument, string or comment.

It reads the characters before the place alone, as they are while somebody types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dsl.text.words import language_words

_PIECE = re.compile(
    r'"[^"\n]*"?|#[^\n]*|[A-Za-z_][A-Za-z0-9_]*|\n|->|\?\?|[=!<>]=|//|[^\s]', re.MULTILINE
)
_OPEN, _CLOSE = "([{", ")]}"
SECTIONS = frozenset({"config", "dims", "mesh"})
BODIES = frozenset({"family", "part", "block", "entry", "repeat", "if", "else"})


@dataclass(slots=True)
class Frame:
    """A bracket that is open: what stands before it, and what has been given in it."""

    bracket: str
    head: str
    commas: int = 0
    keywords: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place: the word that it ends, the pieces before that word in its statement, and the brackets around."""

    word: str
    before: tuple[str, ...]
    frames: tuple[Frame, ...]
    string: str | None = None
    is_comment: bool = False

    @property
    def call(self) -> Frame | None:
        """Return the call that the place is an argument of."""
        frame = self.frames[-1] if self.frames else None
        return frame if frame and frame.bracket == "(" and frame.head else None

    @property
    def section(self) -> str:
        """Return the section around: `config`, `dims`, `mesh`, `body` of statements, or nothing outside of all."""
        heads = [frame.head for frame in self.frames if frame.bracket == "{"]
        named = next((head for head in reversed(heads) if head not in ("if", "else")), "")
        return named if named in SECTIONS or not named else "body"

    @property
    def begins(self) -> bool:
        """Tell whether a statement could begin here."""
        return not self.before


def cursor_at(text: str, offset: int) -> Cursor:
    """Return what is around a place."""
    scan = _Scan()
    for match in _PIECE.finditer(text, 0, offset):
        piece = match[0]
        is_last = match.end() == offset
        if piece[0] == "#" and is_last:
            return Cursor("", tuple(scan.before), tuple(scan.frames), is_comment=True)
        if piece[0] == '"' and is_last and (len(piece) == 1 or piece[-1] != '"'):
            return Cursor("", tuple(scan.before), tuple(scan.frames), string=piece[1:])
        if is_last and (piece[0].isalpha() or piece[0] == "_"):
            before = () if scan.starts_anew else tuple(scan.before)
            return Cursor(piece, before, tuple(scan.frames))
        scan.take(piece)
    return Cursor("", () if scan.starts_anew else tuple(scan.before), tuple(scan.frames))


@dataclass(slots=True)
class _Scan:
    """The pieces of a text so far; `starts_anew` where a line has ended that could end a statement."""

    frames: list[Frame] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    head: str = ""
    starts_anew: bool = True

    def take(self, piece: str) -> None:
        if piece[0] == "#":
            return
        if piece == "\n":
            self.starts_anew = self._could_end()
            return
        if self.starts_anew:
            self.before = []
            self.head = piece if piece in language_words().beginnings else self.head
        elif self.before[-1:] == ["}"] and piece == "else":
            self.head = piece
        self.starts_anew = False
        self._bracket(piece)

    def _could_end(self) -> bool:
        inside = bool(self.frames) and self.frames[-1].bracket in "(["
        return self.starts_anew or not inside

    def _bracket(self, piece: str) -> None:
        if piece in _OPEN:
            last = self.before[-1] if self.before else ""
            head = self.head if piece == "{" else last if last.isidentifier() else ""
            self.frames.append(Frame(piece, head))
        elif piece in _CLOSE:
            if self.frames:
                self.frames.pop()
        elif self.frames and piece == ",":
            self.frames[-1].commas += 1
        elif self.frames and piece == "=" and self.before and self.frames[-1].bracket == "(":
            self.frames[-1].keywords.append(self.before[-1])
        self.before.append(piece)
        if piece in "{}":
            self.before, self.starts_anew = [], True
            self.head = "else" if piece == "}" else ""
