# SPDX-License-Identifier: Apache-2.0
"""The bound program of a text, of a port's folder, or of a model as it is published, as its graph.

A model's folder, or its config.json alone, is planned first. Weights are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dsl.diagnostics import Refused
from dsl.graph import Graph
from dsl.inference.inference import infer
from dsl.linking.program import Program
from porting.files.files import CONFIG, CONFIG_SUFFIX, part_of
from porting.planning.library import load_program, text_program

SPEC_NAME = "model.sohu"
Told = Callable[[str], None]


def silent(_note: str) -> None:
    """Tell nobody."""


def bound_program(path: Path, told: Told = silent) -> Program:
    """Return the program of a text or of a port's folder, or of a model's folder or config.json as it is planned.

    `told` hears the notes of such a plan: what was assumed of weights that are not there.
    """
    if path.suffix == CONFIG_SUFFIX or _is_model(path):
        return _planned(path, told)
    return load_program(part_of(path, SPEC_NAME) if path.is_dir() else path)


def _planned(path: Path, told: Told) -> Program:
    # A text needs no checkpoint's readers, nor numpy.
    from porting.origin.resolve import resolve  # noqa: PLC0415
    from porting.planning.opening import open_to_plan  # noqa: PLC0415
    from porting.planning.plan import plan  # noqa: PLC0415

    origin = resolve(str(path))
    planned = plan(origin, *open_to_plan(origin))
    for note in planned.notes:
        told(note)
    return text_program(planned.spec, str(path))


def _is_model(path: Path) -> bool:
    return path.is_dir() and (path / CONFIG).exists() and not (path / SPEC_NAME).exists()


def bound_graph(path: Path, told: Told = silent) -> Graph:
    """Return the graph of a bound program; raises `Refused` for a generic or faulty one."""
    program = bound_program(path, told)
    checked = infer(program.family(), program.blocks, None)
    if checked.graph is not None:
        return checked.graph
    generic = [d for d in checked.diagnostics if d.code == "S405"]
    raise Refused(generic[:1] or checked.diagnostics)
