# SPDX-License-Identifier: Apache-2.0
"""An editor for tests: a client of the protocol on the pipes of `sohu lsp`, which asks about marked places."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

from sohu.language_server.positions import UNITS

ROOT = Path(__file__).parents[3]
SERVE = "import sys; from sohu.commands.cli import main; sys.exit(main(['lsp', '--stdio']))"
LIMIT_S = 60


class Editor:
    """A client with one text open; a place is written as the text before it, of which the first occurrence counts."""

    def __init__(self, encodings: list[str] | None = None) -> None:
        self.client = LanguageClient("tests", "1")
        self.encodings = encodings
        self.told: dict[str, list[lsp.Diagnostic]] = {}
        self.logged: list[str] = []
        self._news = asyncio.Event()
        self.uri, self.text, self.version, self.units = "", "", 0, ""

    async def start(self) -> lsp.InitializeResult:
        self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(partial(self._tell))
        self.client.feature(lsp.WINDOW_LOG_MESSAGE)(lambda p: self.logged.append(p.message))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        await self.client.start_io(sys.executable, "-c", SERVE, env=environment)
        encodings = (
            None if self.encodings is None else list(map(lsp.PositionEncodingKind, self.encodings))
        )
        general = lsp.GeneralClientCapabilities(position_encodings=encodings)
        asked = lsp.InitializeParams(lsp.ClientCapabilities(general=general))
        result = await self.client.initialize_async(asked)
        self.client.initialized(lsp.InitializedParams())
        self.units = str(result.capabilities.position_encoding)
        return result

    def _tell(self, params: lsp.PublishDiagnosticsParams) -> None:
        self.told[params.uri] = list(params.diagnostics)
        self._news.set()

    async def stop(self) -> int | None:
        await self.client.shutdown_async(None)
        self.client.exit(None)
        server = self.client._server
        return await asyncio.wait_for(server.wait(), LIMIT_S) if server else None

    def open(self, uri: str, text: str) -> None:
        self.uri, self.text, self.version = uri, text, 1
        item = lsp.TextDocumentItem(uri, "sohu", 1, text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))

    def change(self, text: str) -> None:
        self.text, self.version = text, self.version + 1
        identifier = lsp.VersionedTextDocumentIdentifier(self.version, self.uri)
        change = lsp.TextDocumentContentChangeWholeDocument(text)
        params = lsp.DidChangeTextDocumentParams(identifier, [change])
        self.client.text_document_did_change(params)

    def save(self) -> None:
        self.client.text_document_did_save(lsp.DidSaveTextDocumentParams(self.document))

    async def until(self, holds: Callable[[list[lsp.Diagnostic]], bool]) -> list[lsp.Diagnostic]:
        """Wait until what is told of the text is as wanted; fails by the limit of time."""
        async with asyncio.timeout(LIMIT_S):
            while self.uri not in self.told or not holds(self.told[self.uri]):
                self._news.clear()
                await self._news.wait()
        return self.told[self.uri]

    @property
    def document(self) -> lsp.TextDocumentIdentifier:
        return lsp.TextDocumentIdentifier(self.uri)

    def position(self, before: str, text: str | None = None) -> lsp.Position:
        text = self.text if text is None else text
        offset = text.index(before) + len(before)
        line = text.count("\n", 0, offset)
        column = text[text.rfind("\n", 0, offset) + 1 : offset]
        return lsp.Position(line, UNITS[self.units](column))

    async def hover(self, before: str) -> str:
        answer = await self.client.text_document_hover_async(
            lsp.HoverParams(self.document, self.position(before))
        )
        return "" if answer is None else str(getattr(answer.contents, "value", ""))

    async def definitions(self, before: str) -> list[tuple[str, int]]:
        """Return file and line (from 1) of each place."""
        answer: Any = await self.client.text_document_definition_async(
            lsp.DefinitionParams(self.document, self.position(before))
        )
        return [(place.uri.rsplit("/", 1)[1], place.range.start.line + 1) for place in answer or ()]

    async def labels(self, before: str) -> list[str]:
        answer: Any = await self.client.text_document_completion_async(
            lsp.CompletionParams(self.document, self.position(before))
        )
        return [item.label for item in answer.items]

    def applied(self, edits: list[lsp.TextEdit]) -> str:
        """Return the text with edits, in characters of the basic plane."""
        lines = self.text.split("\n")
        starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines) + 1)]

        def offset(place: lsp.Position) -> int:
            return starts[place.line] + place.character

        text = self.text
        for edit in sorted(edits, key=lambda e: offset(e.range.start), reverse=True):
            text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
        return text


def answered(requests: list[tuple[str, object]]) -> list[dict[str, Any]]:
    """Return the answers to raw requests, in their order, of a server that is started and ended around them."""
    start: dict[str, object] = {"capabilities": {}, "processId": None, "rootUri": None}
    asked = [("initialize", start), *requests, ("shutdown", None)]
    messages: list[dict[str, object]] = [
        {"id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(asked)
    ]
    bodies = [json.dumps({"jsonrpc": "2.0"} | m).encode() for m in [*messages, {"method": "exit"}]]
    given = b"".join(b"Content-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies)
    ended = subprocess.run(
        [sys.executable, "-c", SERVE], input=given, capture_output=True, timeout=LIMIT_S, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    told = [
        json.loads(part) for part in re.findall(rb"\r\n\r\n(\{.*?\})(?=Content|$)", ended.stdout)
    ]
    answers = sorted((one for one in told if "id" in one), key=lambda one: int(one["id"]))
    assert [one["id"] for one in answers] == list(range(len(asked)))
    return answers[1:-1]


def edited(script: Callable[[Editor], Awaitable[None]], encodings: list[str] | None = None) -> None:
    """Run a script with an editor whose server is started for it and ended after it, in good order."""

    async def run() -> None:
        editor = Editor(encodings)
        await editor.start()
        async with asyncio.timeout(LIMIT_S):
            await script(editor)
            assert await editor.stop() == 0
        assert editor.logged == []

    asyncio.run(run())
