# SPDX-License-Identifier: Apache-2.0
"""A program ready to run, on one chip or on a mesh: whoever feeds it need not know which. Reads no mesh."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TypeAlias

from device_model.engine.engine import Engine, Session
from device_model.mesh.engine import MeshEngine, MeshSession
from device_model.mesh.limits import check_chips
from device_model.numbers.numerics import Numerics
from device_model.weights.reading import TensorReader
from dsl.graph import Graph

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
