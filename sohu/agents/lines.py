# SPDX-License-Identifier: Apache-2.0
"""Lines of standard input, each of limited length: what is longer is passed over, and is no message.

Knows no protocol.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import BinaryIO

import anyio.to_thread

MAX_LINE = 4 * 2**20
TOO_LONG = "the line is too long"


class Lines:
    """An asynchronous iterator over the lines of a stream, as text."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdin.buffer

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield each line; in the place of one that is too long, words that are no JSON."""
        while line := await anyio.to_thread.run_sync(self._next, abandon_on_cancel=True):
            yield line

    def _next(self) -> str:
        line = self._stream.readline(MAX_LINE)
        if len(line) < MAX_LINE or line.endswith(b"\n"):
            return line.decode(errors="replace")
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(MAX_LINE)
        return TOO_LONG
