# SPDX-License-Identifier: Apache-2.0
"""A program ready to run, on one chip or on a mesh: whoever feeds it need not know which. Reads no mesh."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TypeAlias

from device_model.engine.engine import Engine, Session
from device_model.mesh.engine import MeshEngine, MeshSession
from device_model.numbers.numerics import Numerics
from device_model.weights.reading import TensorReader
from dsl.diagnostics import refuse
from dsl.graph import Graph

MOST_CHIPS = 256
"""Chips that are run in one process: each is a thread, with a plan of its own."""

AnyEngine: TypeAlias = Engine | MeshEngine
AnySession: TypeAlias = Session | MeshSession


def open_engine(
    graph: Graph, reader: TensorReader, numerics: Numerics, mesh: Mapping[str, int]
) -> AnyEngine:
    """Return the engine of one chip, or of all chips of a mesh; raises `Refused` for more than one process runs."""
    check_chips(mesh)
    if prod(mesh.values()) == 1:
        return Engine(graph, reader, numerics)
    return MeshEngine(graph, reader, numerics, mesh)


def check_chips(mesh: Mapping[str, int]) -> None:
    """Refuse (S306) a mesh of more chips than one process runs."""
    chips = prod(mesh.values())
    if chips > MOST_CHIPS:
        message = f"a mesh of {chips:,} chips; one process runs up to {MOST_CHIPS}"
        help_ = "fewer chips along an axis; cost, fit and profile take larger meshes"
        raise refuse("S306", message, place="--mesh", help=help_)
