# SPDX-License-Identifier: Apache-2.0
"""Source text and places in it.

Spans are offsets into one `Source`; lines and columns are computed when somebody looks. This module reads no files.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A named text, the unit every span points into."""

    name: str
    text: str
    _starts: list[int] = field(default_factory=list, repr=False)

    def line_starts(self) -> list[int]:
        """Return the offset at which each line begins."""
        if not self._starts:
            self._starts.append(0)
            self._starts.extend(i + 1 for i, char in enumerate(self.text) if char == "\n")
        return self._starts

    def position(self, offset: int) -> tuple[int, int]:
        """Return the 0-based (line, column) of an offset."""
        starts = self.line_starts()
        line = bisect_right(starts, offset) - 1
        return line, offset - starts[line]

    def line(self, number: int) -> str:
        """Return the text of a 0-based line, without its line break."""
        starts = self.line_starts()
        end = starts[number + 1] - 1 if number + 1 < len(starts) else len(self.text)
        return self.text[starts[number] : end]


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of offsets in a source."""

    source: Source
    start: int
    end: int

    def __repr__(self) -> str:
        line, column = self.source.position(self.start)
        return f"Span({self.source.name}:{line + 1}:{column + 1})"

    @property
    def text(self) -> str:
        """Return the text that the span covers."""
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of another."""
        return Span(self.source, self.start, max(self.end, other.end))

    def as_dict(self) -> dict[str, object]:
        """Return the span as JSON data with 0-based lines and columns, as editors count them."""
        line, column = self.source.position(self.start)
        end_line, end_column = self.source.position(self.end)
        return {
            "file": self.source.name,
            "start": {"line": line, "column": column},
            "end": {"line": end_line, "column": end_column},
        }
