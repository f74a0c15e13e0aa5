# SPDX-License-Identifier: Apache-2.0
"""`sohu mcp`: a server for coding agents, limited to one folder.

Checks the folder and says what is left out; the server is `sohu.agents`.
"""

from __future__ import annotations

import argparse
import os

from dsl.diagnostics import refuse
from dsl.extras import require
from dsl.regular_file import is_folder
from sohu.terminal import console

GIB = 2**30


def mcp(options: argparse.Namespace) -> int:
    """Serve on standard input and output until the client goes away; raises `Refused` for a root that is no folder."""
    require("mcp")
    from sohu.agents.arguments import Place  # noqa: PLC0415 - with the libraries of the protocol
    from sohu.agents.server import serve  # noqa: PLC0415
    from sohu.agents.work import HOME, Limits, shelves  # noqa: PLC0415

    if not is_folder(options.root):
        raise refuse("S118", f"`{options.root}` is no folder", help="--root names a folder")
    place = Place(options.root.resolve(), hub=options.allow_hub)
    if HOME.is_relative_to(place.root):
        console.note("the folder holds the code of sohu itself; what is edited there is run")
    _, left = shelves(place)
    if left:
        console.note(f"left out of SOHU_PATH, outside of the folder: {', '.join(left)}")
    memory = options.memory * GIB if options.memory else _three_quarters()
    serve(place, Limits(options.seconds, memory))
    return 0


def _three_quarters() -> int:
    """Return three quarters of the machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4
