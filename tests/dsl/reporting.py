# SPDX-License-Identifier: Apache-2.0
"""What checking a `.sohu` text of these tests reports, as the command line would: files found, linked and inferred.

A first line `# config: {…}` binds the family to these keys; `null` asks for the graph of a generic family.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dsl.diagnostics import Diagnostic, Refused
from dsl.inference.inference import infer
from porting.planning.bound import bound_graph
from porting.planning.library import load_program
from sohu.api.checking import check_file

_CONFIG = "# config:"


def reported(path: Path) -> tuple[Diagnostic, ...]:
    """Return the diagnostics of a file, which names its config in its first line if it has one."""
    first = path.read_bytes().split(b"\n", 1)[0].decode(errors="replace")
    if not first.startswith(_CONFIG):
        return check_file(path).diagnostics
    values: Mapping[str, object] | None = json.loads(first.removeprefix(_CONFIG))
    try:
        if values is None:
            bound_graph(path)
            return ()
        program = load_program(path)
        return infer(program.family(), program.blocks, values).diagnostics
    except Refused as refused:
        return refused.diagnostics
