# SPDX-License-Identifier: Apache-2.0
"""The folder that a process is limited to, if any: models are read and results written there, and nowhere else.

`SOHU_ROOT` names it, as `sohu mcp` sets it for what it starts; hub ids then need `SOHU_ROOT_HUB=1`, since their files
lie elsewhere. What is shipped with the package and this user's own cache stay open: nothing of a model names them. It
decides nothing about what a file holds, and is no sandbox of the system's.
"""

from __future__ import annotations

import os
from pathlib import Path

from dsl.diagnostics import Refused, refuse
from dsl.own_folder import user_cache
from dsl.regular_file import is_inside

ROOT, HUB = "SOHU_ROOT", "SOHU_ROOT_HUB"
SHOWN = 240


def bounds() -> Path | None:
    """Return the folder that this process is limited to, None where it may go anywhere."""
    written = os.environ.get(ROOT)
    return Path(written) if written else None


def may_read(path: Path) -> bool:
    """Tell whether a path may be read: it lies within the bounds, after links are followed."""
    root = bounds()
    return root is None or is_inside(path, root)


def may_write(path: Path) -> bool:
    """Tell whether a path may be written: within the bounds, or in this user's own cache."""
    if may_read(path):
        return True
    cache = user_cache("")
    return cache is not None and is_inside(path, cache)


def check_read(path: Path, name: str) -> None:
    """Raise `Refused` (S118) for a model that lies outside of the bounds."""
    if not may_read(path):
        raise outside(name)


def check_hub(name: str) -> None:
    """Raise `Refused` (S118) for a hub id where there are bounds and no leave to go to the hub."""
    if bounds() is not None and os.environ.get(HUB) != "1":
        message = f"`{name[:SHOWN]}` is no path in this folder, and hub ids are not allowed here"
        raise refuse("S118", message, help="whoever starts `sohu mcp` may add --allow-hub")


def outside(name: str) -> Refused:
    """Return the refusal of a path that leads out of the bounds."""
    message = f"`{name[:SHOWN]}` leads out of the folder that this is limited to"
    return refuse(
        "S118", message, help="give a path in that folder, through no link that leaves it"
    )
