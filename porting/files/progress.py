# SPDX-License-Identifier: Apache-2.0
"""How long work reports how far it is: a call with a stage, the units done and the units in all.

Shows nothing itself: bars belong to the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report to nobody."""
