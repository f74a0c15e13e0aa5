# SPDX-License-Identifier: Apache-2.0
"""Places as editors count them: lines, and in a line the units of an encoding that client and server agree on.

Inside, a place is an offset of characters. Lines end where the protocol has them end, which is not where Python does.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

_LINE_END = re.compile(r"\r\n|\n|\r")
_ODD = "surrogatepass"  # half of a character may stand in a text that JSON brought
UTF16 = "utf-16"
UNITS: Mapping[str, Callable[[str], int]] = {
    "utf-8": lambda text: len(text.encode("utf-8", _ODD)),
    UTF16: lambda text: len(text.encode("utf-16-le", _ODD)) // 2,
    "utf-32": len,
}
"""How many units a text has in each encoding of the protocol."""


@dataclass(frozen=True)
class Positions:
    """The lines of one text."""

    text: str
    encoding: str = UTF16

    @cached_property
    def starts(self) -> list[int]:
        """Return the offset at which each line begins."""
        return [0, *(match.end() for match in _LINE_END.finditer(self.text))]

    def position(self, offset: int) -> tuple[int, int]:
        """Return the 0-based line of an offset, and the units before it in that line."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.starts, offset) - 1
        return line, UNITS[self.encoding](self.text[self.starts[line] : offset])

    def offset(self, line: int, units: int) -> int:
        """Return the offset of a position; one that is past the end of its line or text is at that end."""
        if line >= len(self.starts):
            return len(self.text)
        start = self.starts[line]
        end = self.starts[line + 1] if line + 1 < len(self.starts) else len(self.text)
        within = self.text[start:end].rstrip("\r\n")
        count = UNITS[self.encoding]
        sums = accumulate((count(char) for char in within), initial=0)
        return start + bisect_right(list(sums), max(units, 0)) - 1


@dataclass(frozen=True, slots=True)
class Shift:
    """How offsets move from one text to a later one, which differs in one stretch."""

    start: int
    old_end: int
    new_end: int

    @classmethod
    def between(cls, old: str, new: str) -> Shift:
        """Return the shift from a text to another."""
        most = min(len(old), len(new))
        start = next((i for i in range(most) if old[i] != new[i]), most)
        most -= start
        same = next((i for i in range(most) if old[-1 - i] != new[-1 - i]), most)
        return cls(start, len(old) - same, len(new) - same)

    def after(self, offset: int) -> int:
        """Return where an offset of the old text is in the new one; what was replaced is at its start."""
        if offset >= self.old_end:
            return offset + self.new_end - self.old_end
        return min(offset, self.start)

    def before(self, offset: int) -> int:
        """Return where an offset of the new text was in the old one."""
        return Shift(self.start, self.new_end, self.old_end).after(offset)
