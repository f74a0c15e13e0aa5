"""The bound program of a text or of a port's folder, as its graph.

Weights are not looked at.
"""

from __future__ import annotations

from pathlib import Path

from dsl.diagnostics import Refused
from dsl.graph import Graph
from dsl.inference.inference import infer
from dsl.linking.program import Program
from porting.planning.library import load_program

SPEC_NAME = "model.sohu"


def bound_program(path: Path) -> Program:
    """Return the program of a file, or of the port in a folder."""
    return load_program(path / SPEC_NAME if path.is_dir() else path)


def bound_graph(path: Path) -> Graph:
    """Return the graph of a bound program; raises `Refused` for a generic or faulty one."""
    program = bound_program(path)
    checked = infer(program.family(), program.blocks, None)
    if checked.graph is not None:
        return checked.graph
    generic = [d for d in checked.diagnostics if d.code == "S405"]
    raise Refused(generic[:1] or checked.diagnostics)
