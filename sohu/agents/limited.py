# SPDX-License-Identifier: Apache-2.0
"""Begin a command of `sohu` in bounds: a folder, a share of memory, and processor time; a script of its own.

Runs in the process that becomes the command. Wall time, and the end of what it started, are the caller's affair.
"""

from __future__ import annotations

import os
import resource
import sys


def main(arguments: list[str]) -> None:
    """Become `python -m sohu WORD …`, with the bytes and the processor seconds that come before its words."""
    memory, seconds, *words = arguments
    _limit(resource.RLIMIT_CORE, 0)
    # Of what is written to, not of the address space: weights are mapped from their files, and may be larger.
    _limit(resource.RLIMIT_DATA, int(memory))
    _limit(resource.RLIMIT_CPU, int(seconds))
    # -P: the folder holds what an agent wrote, and none of it is to be imported.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "sohu", *words])  # noqa: S606 - our own command


def _limit(what: int, most: int) -> None:
    """Lower a limit, never raise it."""
    _, hard = resource.getrlimit(what)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (lowest, lowest))


if __name__ == "__main__":
    main(sys.argv[1:])
