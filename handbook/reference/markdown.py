# SPDX-License-Identifier: Apache-2.0
"""Markdown as the generated pages write it: tables, and words that may stand in a cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; `heads` that end with `:` are of numbers, which stand to the right."""
    rules = ["--:" if head.endswith(":") else "---" for head in heads]
    lines = [
        [head.removesuffix(":") for head in heads],
        rules,
        *([cell(c) for c in r] for r in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Return a text as it may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Return a short text as code, nothing for an empty one."""
    return f"`{text}`" if text else ""


def page(title: str, *parts: str) -> str:
    """Return a page of parts that stand apart."""
    return "\n\n".join((f"# {title}", *(part for part in parts if part))) + "\n"
