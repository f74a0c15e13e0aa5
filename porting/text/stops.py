# SPDX-License-Identifier: Apache-2.0
"""Texts that end an answer, found while it arrives in pieces; nothing of them is shown.

What is held back is no more than what may be the beginning of one. Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Watches one answer for texts that end it; `reached` is the one that did."""

    __slots__ = ("_held", "_texts", "reached")

    def __init__(self, texts: Sequence[str]) -> None:
        if not all(texts):
            raise ValueError("a text that stops an answer is not empty")
        self._texts = tuple(texts)
        self._held = ""
        self.reached: str | None = None

    def take(self, piece: str) -> str:
        """Return what may be shown, now that a piece has arrived; nothing once a stop is reached.

        The stop that is complete first counts, of those that end together the longest: how the text is cut into pieces
        makes no difference.
        """
        if self.reached is not None:
            return ""
        text = self._held + piece
        ends = [
            (text.find(stop) + len(stop), -len(stop), stop) for stop in self._texts if stop in text
        ]
        if ends:
            end, _, self.reached = min(ends)
            return text[: end - len(self.reached)]
        size = max((_overlap(text, stop) for stop in self._texts), default=0)
        self._held = text[len(text) - size :]
        return text[: len(text) - size]

    def rest(self) -> str:
        """Return what was held back, at the end of an answer that no stop ended."""
        held, self._held = self._held, ""
        return "" if self.reached is not None else held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of a text that is a beginning of a stop, and not all of it."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
