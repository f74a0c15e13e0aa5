# SPDX-License-Identifier: Apache-2.0
"""Let a command do something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sohu.commands.table import COMMANDS


def does(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[object], int]) -> None:
    monkeypatch.setitem(COMMANDS, name, replace(COMMANDS[name], does=action))
