# SPDX-License-Identifier: Apache-2.0
"""Lay out tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a table; the first `left` columns are aligned to the left, the others to the right."""
    marks = [":--" if i < left else "--:" for i in range(len(heads))]
    lines = [heads, marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
