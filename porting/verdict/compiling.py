# SPDX-License-Identifier: Apache-2.0
"""Compile the device model's kernels, or load them from the cache, and say how far it is."""

from __future__ import annotations

from device_model.engine.engine import warm_up
from porting.files.progress import Progress

COMPILING = "compile kernels"


def compile_kernels(progress: Progress) -> None:
    """Make the kernels ready; the first run of a new checkout compiles them."""

    def advance(parts: str, done: int, total: int) -> None:
        progress(f"{COMPILING}: {parts}" if parts else COMPILING, done, total)

    warm_up(advance)
