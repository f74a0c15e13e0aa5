# SPDX-License-Identifier: Apache-2.0
"""Run commands and measurements in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def run(command: Sequence[str]) -> str:
    """Run a command of ours and return what it printed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def child(module: str, name: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """Run one measurement in its own process."""
    printed = run([python, "-m", f"benchmarks.{module}", name, *arguments])
    measured: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return measured
