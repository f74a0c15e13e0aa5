# SPDX-License-Identifier: Apache-2.0
"""The language server: requests of the protocol to questions about texts, and the answers back.

It speaks on standard input and output, executes nothing, and reads the files that texts `use` alone. A fault in a
request is that request's answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from dsl.diagnostics import refuse
from sohu.api.version import version
from sohu.language_server import answers
from sohu.language_server.desk import Document
from sohu.language_server.hovering import hover
from sohu.language_server.logs import log_in_lines
from sohu.language_server.navigating import (
    NameKept,
    definition,
    references,
    rename,
    renameable,
    symbols,
)
from sohu.language_server.protocol import AnsweringProtocol
from sohu.language_server.repairing import formatted, repairs
from sohu.language_server.session import Session

NAME = "sohu"
REQUEST_FAILED = -32803


def serve() -> None:
    """Answer an editor on standard input and output, until it goes; raises `Refused` where one of them is closed."""
    if sys.stdin is None or sys.stdout is None:
        raise refuse("S108", "standard input or output is closed", help="an editor starts this")
    log_in_lines()
    # Its own copy of the output: it is closed at the end, and what a library prints must not get between messages.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output, redirect_stdout(sys.stderr):
        made().start_io(sys.stdin.buffer, output)


def made() -> LanguageServer:
    """Return a server with every feature."""
    # Whole texts: pygls has lines end where Python does, so that a change after some characters is misplaced.
    full = lsp.TextDocumentSyncKind.Full
    server = LanguageServer(NAME, version(), full, protocol_cls=AnsweringProtocol)
    session = Session(server)
    notices: Mapping[str, Callable[[Any], None]] = {
        lsp.TEXT_DOCUMENT_DID_OPEN: session.opened,
        lsp.TEXT_DOCUMENT_DID_CHANGE: session.changed,
        lsp.TEXT_DOCUMENT_DID_SAVE: session.saved,
        lsp.TEXT_DOCUMENT_DID_CLOSE: session.closed,
        lsp.SHUTDOWN: session.ended,
    }
    for name, notice in notices.items():
        server.feature(name)(partial(notice))
    for name, answer in _ANSWERS.items():
        server.feature(name, _OPTIONS.get(name))(partial(_answered, session, answer))
    return server


class Question:
    """A request about an open text: its state, and the place where there is one."""

    def __init__(self, session: Session, document: Document, params: Any) -> None:
        self.session, self.document, self.params = session, document, params
        self.encoding = session.encoding
        position = getattr(params, "position", None)
        self.offset = 0 if position is None else self.offset_of(position)
        self.view, self.place, self.shift = document.answering(self.offset)

    def offset_of(self, position: lsp.Position) -> int:
        """Return the offset of a position in the text as it is now."""
        places = answers.positions(self.document.view.text, self.encoding)
        return places.offset(position.line, position.character)

    def own_range(self, start: int, end: int) -> lsp.Range:
        """Return the range of a stretch of the answering view in the text as it is now."""
        if self.shift is not None:
            start, end = self.shift.after(start), self.shift.after(end)
        return answers.place_range(self.document.view.text, start, end, self.encoding)


def _answered(session: Session, answer: Callable[[Question], Any], params: Any) -> Any:
    """Answer a request about a text; there is nothing to say of one that is not open."""
    document = session.desk.documents.get(params.text_document.uri)
    if document is None:
        return None
    try:
        return answer(Question(session, document, params))
    except NameKept as kept:
        raise JsonRpcException(str(kept), REQUEST_FAILED) from None


def _hover(asked: Question) -> lsp.Hover | None:
    told = hover(asked.view, asked.place)
    if told is None:
        return None
    return answers.hover(told, asked.own_range(told.span.start, told.span.end))


def _located(asked: Question, spans: tuple[Any, ...]) -> list[lsp.Location]:
    """Return spans with their addresses, those of this text in its present state."""
    return [
        lsp.Location(asked.document.uri, asked.own_range(span.start, span.end))
        if span.source.name == asked.view.name
        else answers.location(span, asked.encoding)
        for span in spans
    ]


def _definition(asked: Question) -> list[lsp.Location]:
    return _located(asked, definition(asked.view, asked.place))


def _references(asked: Question) -> list[lsp.Location]:
    return _located(asked, references(asked.view, asked.place))


def _highlights(asked: Question) -> list[lsp.DocumentHighlight]:
    own = (place for place in _references(asked) if place.uri == asked.document.uri)
    return [lsp.DocumentHighlight(place.range) for place in own]


def _completion(asked: Question) -> lsp.CompletionList:
    return answers.completions(asked.document.complete(asked.offset))


def _signature(asked: Question) -> lsp.SignatureHelp | None:
    told = asked.document.signature(asked.offset)
    return None if told is None else answers.signature(told)


def _formatting(asked: Question) -> list[lsp.TextEdit] | None:
    change = formatted(asked.document.view)
    if change is None:
        return None
    span, text = change
    return [lsp.TextEdit(answers.span_range(span, asked.encoding), text)]


def _prepare_rename(asked: Question) -> lsp.Range:
    span = renameable(asked.view, asked.place)
    return asked.own_range(span.start, span.end)


def _rename(asked: Question) -> lsp.WorkspaceEdit:
    new = asked.params.new_name
    spans = rename(asked.document.view, asked.offset, new)
    edits = [lsp.TextEdit(answers.span_range(span, asked.encoding), new) for span in spans]
    return answers.workspace_edit(asked.document.uri, asked.document.version, edits)


def _actions(asked: Question) -> list[lsp.CodeAction]:
    wanted, document = asked.params.range, asked.document
    start, end = asked.offset_of(wanted.start), asked.offset_of(wanted.end)
    current = [f for f in document.findings if f.span.source.text == document.view.text]
    made = repairs(current, start, end)
    return [answers.action(r, document.uri, document.version, asked.encoding) for r in made]


def _symbols(asked: Question) -> list[lsp.DocumentSymbol] | None:
    view = asked.document.view
    return [answers.symbol(s, asked.encoding) for s in symbols(view)] if view.has_tree else None


def _hints(asked: Question) -> list[lsp.InlayHint]:
    text, wanted = asked.document.view.text, asked.params.range
    first, last = asked.offset_of(wanted.start), asked.offset_of(wanted.end)
    shown = (hint for hint in asked.document.hints() if first <= hint.offset <= last)
    places = answers.positions(text, asked.encoding)
    return [
        lsp.InlayHint(lsp.Position(*places.position(h.offset)), h.text, lsp.InlayHintKind.Type)
        for h in shown
    ]


_ANSWERS: Mapping[str, Callable[[Question], Any]] = {
    lsp.TEXT_DOCUMENT_HOVER: _hover,
    lsp.TEXT_DOCUMENT_DEFINITION: _definition,
    lsp.TEXT_DOCUMENT_REFERENCES: _references,
    lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT: _highlights,
    lsp.TEXT_DOCUMENT_COMPLETION: _completion,
    lsp.TEXT_DOCUMENT_SIGNATURE_HELP: _signature,
    lsp.TEXT_DOCUMENT_FORMATTING: _formatting,
    lsp.TEXT_DOCUMENT_PREPARE_RENAME: _prepare_rename,
    lsp.TEXT_DOCUMENT_RENAME: _rename,
    lsp.TEXT_DOCUMENT_CODE_ACTION: _actions,
    lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL: _symbols,
    lsp.TEXT_DOCUMENT_INLAY_HINT: _hints,
}
_OPTIONS: Mapping[str, Any] = {
    lsp.TEXT_DOCUMENT_COMPLETION: lsp.CompletionOptions(trigger_characters=['"', "@", ".", "/"]),
    lsp.TEXT_DOCUMENT_SIGNATURE_HELP: lsp.SignatureHelpOptions(trigger_characters=["(", ","]),
    lsp.TEXT_DOCUMENT_CODE_ACTION: lsp.CodeActionOptions([lsp.CodeActionKind.QuickFix]),
    lsp.TEXT_DOCUMENT_RENAME: lsp.RenameOptions(prepare_provider=True),
}
