# SPDX-License-Identifier: Apache-2.0
"""The open texts, each with its state now and the last one that had a tree, so that a text with errors still answers.

Knows no protocol. Checks are made where and when the server has time for them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sohu.language_server.completing import Proposal, Signature, complete, signature
from sohu.language_server.cursor import cursor_at
from sohu.language_server.hinting import Hint, hints
from sohu.language_server.positions import Shift
from sohu.language_server.repairing import Finding, whole_findings
from sohu.language_server.shelf import Shelf
from sohu.language_server.view import View

WHOLE_AT_ONCE_S = 0.4
"""A text whose whole check takes no longer is checked whole on each edit."""


@dataclass(slots=True)
class Document:
    """An open text."""

    uri: str
    view: View
    version: int = 0
    known: View | None = None
    findings: tuple[Finding, ...] = ()
    shown_hints: tuple[Hint, ...] = ()
    hints_text: str = ""
    whole_seconds: float = 0.0

    def answering(self, offset: int) -> tuple[View, int, Shift | None]:
        """Return the view that can answer, and a place in it; with a shift where it is of an earlier text."""
        if self.view.has_tree or self.known is None:
            return self.view, offset, None
        shift = Shift.between(self.known.text, self.view.text)
        return self.known, shift.before(offset), shift

    def complete(self, offset: int) -> tuple[Proposal, ...]:
        """Return what could be written at a place."""
        view, place, _ = self.answering(offset)
        return complete(cursor_at(self.view.text, offset), view, place)

    def signature(self, offset: int) -> Signature | None:
        """Return the signature of the call that a place is in."""
        view, _, _ = self.answering(offset)
        return signature(cursor_at(self.view.text, offset), view)

    def hints(self) -> tuple[Hint, ...]:
        """Return the hints of the last check, where their names are now; there is no wait for another check."""
        if self.view.has_tree and (self.view.is_glanced or not self.hints_text):
            self.shown_hints, self.hints_text = hints(self.view), self.view.text
        if self.hints_text == self.view.text:
            return self.shown_hints
        shift = Shift.between(self.hints_text, self.view.text)
        return tuple(Hint(shift.after(hint.offset), hint.text) for hint in self.shown_hints)


@dataclass(slots=True)
class Desk:
    """Every open text."""

    documents: dict[str, Document] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)

    def put(self, uri: str, text: str, version: int) -> Document:
        """Open a text, or replace it by what it is now."""
        document = self.documents.get(uri)
        view = self._view(uri, text)
        if document is None:
            document = self.documents[uri] = Document(uri, view, version)
        elif document.view.has_tree:
            document.known = document.view
        document.view, document.version = view, version
        if view.path is not None:
            self.shelf.open[view.path] = text
            self._renew_users(view.path)
        return document

    def renew(self, document: Document) -> None:
        """Forget what was read of other files, which may have changed."""
        document.view = self._view(document.uri, document.view.text)

    def close(self, uri: str) -> None:
        """Forget a text; who uses it sees the file again."""
        document = self.documents.pop(uri, None)
        if document is not None and document.view.path is not None:
            self.shelf.open.pop(document.view.path, None)
            self._renew_users(document.view.path)

    def users(self, path: Path) -> list[Document]:
        """Return the open texts that use a file."""
        return [
            d for d in self.documents.values() if d.view.has_tree and path in d.view.linked.used
        ]

    def _renew_users(self, path: Path) -> None:
        for document in self.users(path):
            self.renew(document)

    def _view(self, uri: str, text: str) -> View:
        path = path_of(uri)
        return View(uri if path is None else str(path), text, path, self.shelf)


def whole_check(view: View) -> tuple[tuple[Finding, ...], float]:
    """Return what is wrong on every path, and the processor's seconds that it took to see."""
    start = time.thread_time()
    return whole_findings(view), time.thread_time() - start


def path_of(uri: str) -> Path | None:
    """Return the path of a text, None for one that is in no file of this machine."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    path = unquote(parts.path)
    return Path(path) if path.startswith("/") and "\0" not in path else None
