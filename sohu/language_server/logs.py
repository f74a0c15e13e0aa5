# SPDX-License-Identifier: Apache-2.0
"""What the server says beside the protocol, on standard error: one line for each event, as an editor's log shows it.

Knows no protocol.
"""

from __future__ import annotations

import logging

LIBRARY = "pygls"
MAX_SHOWN = 300


class OneLine(logging.Formatter):
    """A record with its cause, and no traceback: what a client sends wrong is no fault of ours."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        said = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            said = f"{said}: {record.exc_info[1]}"
        return f"sohu lsp: {' '.join(said.split())[:MAX_SHOWN]}"


def log_in_lines() -> None:
    """Let the library of the protocol say what is wrong in lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger(LIBRARY)
    logger.addHandler(handler)
    logger.propagate = False
