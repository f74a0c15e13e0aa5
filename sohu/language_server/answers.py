# SPDX-License-Identifier: Apache-2.0
"""What is known of texts in the types of the protocol: places in its units, proposals with its icons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from lsprotocol import types as lsp

from dsl.source import Span
from sohu.language_server.completing import ItemKind, Proposal, Signature
from sohu.language_server.hovering import Hover
from sohu.language_server.navigating import Symbol
from sohu.language_server.positions import Positions
from sohu.language_server.repairing import Finding, Repair

SOURCE = "sohu"
_ITEMS: Mapping[ItemKind, lsp.CompletionItemKind] = {
    ItemKind.KEYWORD: lsp.CompletionItemKind.Keyword,
    ItemKind.OPERATION: lsp.CompletionItemKind.Function,
    ItemKind.FUNCTION: lsp.CompletionItemKind.Function,
    ItemKind.BLOCK: lsp.CompletionItemKind.Module,
    ItemKind.PARAMETER: lsp.CompletionItemKind.Property,
    ItemKind.NAME: lsp.CompletionItemKind.Variable,
    ItemKind.DIM: lsp.CompletionItemKind.Constant,
    ItemKind.KEY: lsp.CompletionItemKind.Field,
    ItemKind.VALUE: lsp.CompletionItemKind.EnumMember,
    ItemKind.TYPE: lsp.CompletionItemKind.TypeParameter,
    ItemKind.FILE: lsp.CompletionItemKind.File,
}
_SYMBOLS: Mapping[str, lsp.SymbolKind] = {
    "family": lsp.SymbolKind.Class,
    "block": lsp.SymbolKind.Function,
    "part": lsp.SymbolKind.Module,
    "entry": lsp.SymbolKind.Method,
    "config": lsp.SymbolKind.Namespace,
    "config name": lsp.SymbolKind.Constant,
    "repeat": lsp.SymbolKind.Array,
    "weight": lsp.SymbolKind.Field,
    "state": lsp.SymbolKind.Property,
    "input": lsp.SymbolKind.Variable,
    "output": lsp.SymbolKind.Variable,
    "value": lsp.SymbolKind.Variable,
}


def positions(text: str, encoding: str) -> Positions:
    """Return the positions of a text; those of the last few texts are kept."""
    return _positions(text, encoding)


@lru_cache(maxsize=8)
def _positions(text: str, encoding: str) -> Positions:
    return Positions(text, encoding)


def place_range(text: str, start: int, end: int, encoding: str) -> lsp.Range:
    """Return the range of a stretch of a text."""
    places = positions(text, encoding)
    first, last = places.position(start), places.position(end)
    return lsp.Range(lsp.Position(*first), lsp.Position(*last))


def span_range(span: Span, encoding: str) -> lsp.Range:
    """Return the range of a span in its source."""
    return place_range(span.source.text, span.start, span.end, encoding)


def address(name: str) -> str:
    """Return the address of a source: most are called by their paths."""
    return Path(name).absolute().as_uri() if ":" not in name.partition("/")[0] else name


def location(span: Span, encoding: str) -> lsp.Location:
    """Return a span with the address of its source."""
    return lsp.Location(address(span.source.name), span_range(span, encoding))


def diagnostic(finding: Finding, encoding: str) -> lsp.Diagnostic:
    """Return a diagnostic as editors show it."""
    severity = lsp.DiagnosticSeverity
    related = [
        lsp.DiagnosticRelatedInformation(location(span, encoding), text)
        for span, text in finding.elsewhere
    ]
    return lsp.Diagnostic(
        range=span_range(finding.span, encoding),
        message=finding.message,
        severity=severity.Error if finding.is_error else severity.Warning,
        code=finding.diagnostic.code,
        source=SOURCE,
        tags=[lsp.DiagnosticTag.Unnecessary] if finding.is_unused else None,
        related_information=related or None,
    )


def hover(told: Hover, place: lsp.Range) -> lsp.Hover:
    """Return what hovering says, at a place."""
    return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, told.markdown), place)


def completions(proposals: Iterable[Proposal]) -> lsp.CompletionList:
    """Return proposals in their order."""
    items = [
        lsp.CompletionItem(
            label=proposal.label,
            kind=_ITEMS[proposal.kind],
            detail=proposal.detail or None,
            documentation=lsp.MarkupContent(lsp.MarkupKind.Markdown, proposal.markdown)
            if proposal.markdown
            else None,
            sort_text=f"{number:05}",
        )
        for number, proposal in enumerate(proposals)
    ]
    return lsp.CompletionList(is_incomplete=False, items=items)


def signature(told: Signature) -> lsp.SignatureHelp:
    """Return the signature of a call, with the parameter that is being given."""
    parameters = [lsp.ParameterInformation(label) for label in told.parameters]
    about = lsp.MarkupContent(lsp.MarkupKind.Markdown, told.markdown)
    information = lsp.SignatureInformation(told.label, about, parameters, told.active)
    return lsp.SignatureHelp([information], 0, told.active)


def symbol(told: Symbol, encoding: str) -> lsp.DocumentSymbol:
    """Return a symbol with those inside of it."""
    return lsp.DocumentSymbol(
        name=told.name,
        kind=_SYMBOLS[told.kind],
        range=span_range(told.span, encoding),
        selection_range=span_range(told.place, encoding),
        detail=told.kind,
        children=[symbol(inner, encoding) for inner in told.inner] or None,
    )


def action(repair: Repair, uri: str, version: int, encoding: str) -> lsp.CodeAction:
    """Return a replacement as an action that an editor offers for a diagnostic."""
    edit = lsp.TextEdit(span_range(repair.span, encoding), repair.text)
    return lsp.CodeAction(
        title=repair.title,
        kind=lsp.CodeActionKind.QuickFix,
        diagnostics=[diagnostic(repair.finding, encoding)],
        edit=workspace_edit(uri, version, [edit]),
        is_preferred=True,
    )


def workspace_edit(uri: str, version: int, edits: Iterable[lsp.TextEdit]) -> lsp.WorkspaceEdit:
    """Return edits of one state of one text."""
    text = lsp.OptionalVersionedTextDocumentIdentifier(uri, version)
    return lsp.WorkspaceEdit(document_changes=[lsp.TextDocumentEdit(text, list(edits))])
