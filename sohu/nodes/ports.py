# SPDX-License-Identifier: Apache-2.0
"""Ranks of a bound program on a node: an engine of each one's part, which meets the others on the fabric it is given.

Every node reads the program and the weights where they lie for it; that they are the same is seen by their digests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from device_model.chips.chip import device as device_named
from device_model.engine.engine import Engine, Logits, Session
from device_model.mesh.fabric import Array, Exchange, Fabric
from device_model.mesh.handshake import Facts, digest, digest_of_arrays
from device_model.numbers.catalogue import numerics_named
from device_model.program.places import Operation
from device_model.weights.reading import TensorReader, shapes_of
from dsl.graph import Graph
from dsl.mesh.rank import ranks as ranks_of
from porting.files.progress import silent
from porting.planning.bound import bound_graph
from porting.verdict.compiling import compile_kernels
from sohu.api.running import reader_of
from sohu.nodes.runners import Crew, Rows, Spec, code


class PortRunner:
    """A rank of a port."""

    def __init__(self, engine: Engine, rank: int) -> None:
        self._engine, self._rank = engine, rank
        self._fabric: Fabric
        self._step = 0
        self._session: Session

    def begin(self, sequences: int) -> None:
        """Start sequences without context."""
        self._session = self._engine.session(sequences, self._meet)

    def step(self, step: int, rows: Rows, logits: Logits, fabric: Fabric) -> list[Array]:
        """Return the results of each sequence's new tokens."""
        self._fabric, self._step = fabric, step
        return self._session.step([np.asarray(row, np.int64) for row in rows], logits)

    def _meet(self, number: int, operation: Operation, part: Array) -> Sequence[Array]:
        meeting = operation.meeting
        group = () if meeting is None else meeting.group
        span = "" if operation.span is None else str(operation.span)
        what = Exchange(number, operation.op, group, span)
        return self._fabric.exchange(self._rank, self._step, what, part)


def port(spec: Spec, mesh: Mapping[str, int], ranks: Sequence[int]) -> Crew:
    """Return the ranks of a program: `spec` has its `path`, `numerics`, and may have `device` and `weights`."""
    path = Path(str(spec["path"]))
    graph = bound_graph(path, lambda _note: None)
    device = None if spec["device"] is None else device_named(str(spec["device"]))
    numerics = numerics_named(str(spec["numerics"]), device)
    reader = reader_of(path, graph, spec["weights"], silent)
    compile_kernels(silent)
    # The axes of a batch's copies are not on nodes: the driver refuses them.
    sizes = {axis: mesh.get(axis, 1) for axis in graph.mesh}
    everyone = ranks_of(sizes)
    runners = {
        rank: PortRunner(Engine(graph, reader, numerics, "fast", 1, everyone[rank]), rank)
        for rank in ranks
    }
    facts = Facts(
        digest(repr(graph).encode()),
        _weights(graph, reader),
        digest(repr(sorted(sizes.items())).encode()),
        digest(repr(numerics).encode()),
        code(),
    )
    return Crew(runners, facts)


def _weights(graph: Graph, reader: TensorReader) -> str:
    """Return the digest of every tensor that the program reads, whichever ranks are here."""
    return digest_of_arrays((name, reader.read(name)) for name in sorted(shapes_of(graph)))
