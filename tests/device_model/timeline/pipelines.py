# SPDX-License-Identifier: Apache-2.0
"""A port whose layers are dealt to the stages of a pipeline, made from one of the zoo."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from dsl.graph import Graph
from porting.planning.bound import bound_graph
from tests.conftest import TESTS

PORT = TESTS.parent / "model_zoo" / "ports" / "llama-3.1-8b.sohu"
EDITS = (("repeat i < L carry", "repeat i < L @pp carry"), ("mesh { tp }", "mesh { tp, pp }"))


def pipelined_text() -> str:
    """Return the text of Llama 3.1 8B with a mesh axis for stages of layers."""
    text = PORT.read_text(encoding="utf-8")
    for old, new in EDITS:
        if text.count(old) != 1:
            raise ValueError(f"{PORT.name} has no single `{old}`")
        text = text.replace(old, new)
    return text


@lru_cache(maxsize=1)
def pipelined() -> Graph:
    """Return the graph of that text."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "pipelined.sohu")
        path.write_text(pipelined_text(), encoding="utf-8")
        return bound_graph(path)
