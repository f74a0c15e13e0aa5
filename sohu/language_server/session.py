# SPDX-License-Identifier: Apache-2.0
"""One session with one editor: which texts are open, and when what is wrong with them is looked for and told.

Checks run beside the answering of requests; what a check says of a text that has changed since is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from sohu.language_server.answers import diagnostic
from sohu.language_server.desk import WHOLE_AT_ONCE_S, Desk, Document, whole_check
from sohu.language_server.repairing import Finding, quick_findings, syntax_findings
from sohu.language_server.view import View

PAUSE_S = 0.2
LONG_TEXT = 60_000
"""Characters from which a text is parsed in a pause of typing, not at each letter."""
SYNTAX = "S1"
T = TypeVar("T")


class Session:
    """The texts of one editor, and the checks under way."""

    def __init__(self, server: LanguageServer) -> None:
        self.server = server
        self.desk = Desk()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="check")
        self._pending: dict[str, asyncio.TimerHandle] = {}

    @property
    def encoding(self) -> str:
        """Return the units in which this client counts."""
        kind = self.server.workspace.position_encoding
        return kind.value if isinstance(kind, lsp.PositionEncodingKind) else str(kind)

    def opened(self, params: lsp.DidOpenTextDocumentParams) -> None:
        """Take a text, and check all of it."""
        given = params.text_document
        self._take(self.desk.put(given.uri, given.text, given.version), whole=True)

    def changed(self, params: lsp.DidChangeTextDocumentParams) -> None:
        """Take a text as it is now: its syntax is told at once, the rest in a pause of typing."""
        uri = params.text_document.uri
        if uri in self.desk.documents and params.content_changes:
            text = params.content_changes[-1].text
            self._take(self.desk.put(uri, text, params.text_document.version), whole=False)

    def saved(self, params: lsp.DidSaveTextDocumentParams) -> None:
        """Check all of a text, and of the open texts that use it."""
        document = self.desk.documents.get(params.text_document.uri)
        if document is None:
            return
        path = document.view.path
        for one in (document, *(() if path is None else self.desk.users(path))):
            self.desk.renew(one)
            self._check_soon(one, 0.0, whole=True)

    def closed(self, params: lsp.DidCloseTextDocumentParams) -> None:
        """Forget a text and what was said of it."""
        uri = params.text_document.uri
        if uri in self._pending:
            self._pending.pop(uri).cancel()
        if uri in self.desk.documents:
            self.desk.close(uri)
            self._publish(uri, None, ())

    def ended(self, _params: object = None) -> None:
        """Begin no further check."""
        for handle in self._pending.values():
            handle.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _take(self, document: Document, *, whole: bool) -> None:
        was_syntax = any(f.diagnostic.code.startswith(SYNTAX) for f in document.findings)
        if len(document.view.text) < LONG_TEXT:
            faults = syntax_findings(document.view)
            if faults or was_syntax:
                self._tell(document, faults)
        self._check_soon(document, 0.0 if whole else PAUSE_S, whole=whole)

    # Checks

    def _check_soon(self, document: Document, seconds: float, *, whole: bool) -> None:
        if document.uri in self._pending:
            self._pending.pop(document.uri).cancel()
        loop = asyncio.get_running_loop()
        start = partial(self._start_check, document, whole=whole)
        self._pending[document.uri] = loop.call_later(seconds, start)

    def _start_check(self, document: Document, *, whole: bool) -> None:
        self._pending.pop(document.uri, None)
        self._work(document, quick_findings, partial(self._checked, document, whole=whole))

    def _checked(self, document: Document, findings: tuple[Finding, ...], *, whole: bool) -> None:
        is_short = document.whole_seconds < WHOLE_AT_ONCE_S
        if not is_short or not whole:
            self._tell(document, findings)
        capabilities = self.server.client_capabilities.workspace
        if capabilities and capabilities.inlay_hint and capabilities.inlay_hint.refresh_support:
            self.server.workspace_inlay_hint_refresh(None)
        if whole or is_short:
            self._work(document, whole_check, partial(self._checked_whole, document))

    def _checked_whole(self, document: Document, answer: tuple[tuple[Finding, ...], float]) -> None:
        findings, document.whole_seconds = answer
        self._tell(document, findings)

    def _work(
        self, document: Document, check: Callable[[View], T], then: Callable[[T], None]
    ) -> None:
        view = document.view
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._worker, _unless_changed, document, view, check)

        def done(made: asyncio.Future[T | None]) -> None:
            if made.cancelled():
                return
            fault = made.exception()
            if fault is not None:
                self._complain(fault)
                return
            result = made.result()
            if result is not None and document.view is view:
                then(result)

        future.add_done_callback(done)

    def _complain(self, fault: BaseException) -> None:
        message = f"a check failed, which is a fault of sohu: {type(fault).__name__}: {fault}"
        params = lsp.LogMessageParams(lsp.MessageType.Error, message)
        self.server.window_log_message(params)

    # What is told

    def _tell(self, document: Document, findings: tuple[Finding, ...]) -> None:
        document.findings = findings
        self._publish(document.uri, document.version, findings)

    def _publish(self, uri: str, version: int | None, findings: tuple[Finding, ...]) -> None:
        told = [diagnostic(finding, self.encoding) for finding in findings]
        params = lsp.PublishDiagnosticsParams(uri, told, version)
        self.server.text_document_publish_diagnostics(params)


def _unless_changed(document: Document, view: View, check: Callable[[View], T]) -> T | None:
    """Check a view that is still the text's; what stood before an edit is of no use."""
    return check(view) if document.view is view else None
