# SPDX-License-Identifier: Apache-2.0
"""When what is kept of a sequence no longer holds, because it depends on how long the sequence is.

An operation says so in its row of the kernel table. What is done about it is the session's business.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Renewal:
    """Tokens seen before have other values once a sequence is longer than `beyond`; where `growing`, at each length."""

    beyond: float
    growing: bool = False

    def is_due(self, before: int, after: int) -> bool:
        """Tell whether a step from one length to another, of a sequence with tokens, makes it out of date."""
        crossed = 0 < before < after and after > self.beyond
        return crossed and (self.growing or before <= self.beyond)

    def is_past(self, length: int) -> bool:
        """Tell whether a sequence of this length stays as it is, however long it becomes."""
        return not self.growing and length > self.beyond
