# SPDX-License-Identifier: Apache-2.0
"""`--mesh … --nodes N`: run and generate on processes that each have some chips, here or on a Ray cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from math import prod

from device_model.memory.meshes import mesh_violations, parse_mesh, several
from device_model.mesh.faults import NONE, planned
from dsl.diagnostics import Refused, refuse
from dsl.graph import Graph
from sohu.api.model import Model
from sohu.nodes.cluster import Cluster
from sohu.nodes.driver import Conditions, Incident, NodesSession, Work
from sohu.nodes.launch import Launcher, Processes
from sohu.nodes.on_ray import Actors, joined
from sohu.terminal import console

MAX_NODES = 64


class NodesEngine:
    """A program on nodes, used as an engine of one chip is."""

    def __init__(self, cluster: Cluster, work: Work, conditions: Conditions) -> None:
        self._cluster, self._work, self._conditions = cluster, work, conditions
        self.sessions: list[NodesSession] = []

    def session(self, sequences: int = 1) -> NodesSession:
        """Start sequences without context."""
        self.sessions.append(NodesSession(self._cluster, self._work, self._conditions, sequences))
        return self.sessions[-1]


@contextmanager
def placed(options: argparse.Namespace, model: Model, weights: str | None = None) -> Iterator[None]:
    """Let a model run on the nodes that the options ask for, and say what happened to them; without any, as it is."""
    if options.nodes is None:
        given = {"address": options.address, "faults": options.faults is not None}
        given["reshard"] = options.reshard
        idle = [f"--{name}" for name, is_given in given.items() if is_given]
        if idle:
            raise refuse("S648", f"{', '.join(idle)} without nodes", help="--nodes 2")
        yield
        return
    mesh = _mesh(model.graph, options.mesh, options.nodes)
    size = prod(mesh.values())
    spec = {
        "path": str(model.path.resolve()), "numerics": options.numerics,
        "device": options.device, "weights": weights,
    }  # fmt: skip
    meshes = _smaller(model.graph, mesh) if options.reshard else (mesh,)
    faults = NONE if options.faults is None else planned(options.faults, options.nodes, size)
    conditions = Conditions(-(-size // options.nodes), faults=faults, restarts=not options.reshard)
    with _launcher(options.address, options.nodes) as launcher, Cluster(launcher) as cluster:
        cluster.start(range(options.nodes))
        engine = NodesEngine(cluster, Work("port", spec, meshes), conditions)
        model.run_on(engine)
        yield
        for session in engine.sessions:
            _say(session)


def _mesh(graph: Graph, written: str, nodes: int) -> dict[str, int]:
    """Return the mesh that is asked for; raises `Refused` where it cannot be on so many nodes."""
    mesh = several(dict.fromkeys(graph.mesh, 1) | parse_mesh(written, graph))
    if violations := mesh_violations(graph, mesh):
        raise Refused(violations)
    copies = [axis for axis in graph.batch_shards if mesh.get(axis, 1) > 1]
    if copies:
        raise refuse(
            "S648", f"copies along {', '.join(copies)} are not run on nodes", place="--mesh"
        )
    size = prod(mesh.values())
    if not 1 <= nodes <= min(size, MAX_NODES):
        message = f"{nodes} nodes for {size} chips; {MAX_NODES} nodes at most"
        raise refuse("S648", message, place="--nodes", help="--mesh tp=4 has four chips")
    return mesh


def _smaller(graph: Graph, mesh: Mapping[str, int]) -> tuple[Mapping[str, int], ...]:
    """Return a mesh and the legal ones that divide it, those of most chips first."""
    divisors = [[n for n in range(1, size + 1) if size % n == 0] for size in mesh.values()]
    meshes = [dict(zip(mesh, sizes, strict=True)) for sizes in product(*divisors)]
    legal = [m for m in meshes if not mesh_violations(graph, m)]
    return tuple(sorted(legal, key=lambda m: -prod(m.values())))


@contextmanager
def _launcher(address: str, nodes: int) -> Iterator[Launcher]:
    if not address:
        yield Processes()
        return
    with joined(address, nodes) as ray:
        yield Actors(ray)


def _say(session: NodesSession) -> None:
    for incident in session.incidents:
        console.note(told(incident))


def told(incident: Incident) -> str:
    """Return in a line what happened to nodes, and how long it took to make up for it."""
    why = incident.why[0]
    took = incident.recovered_at - incident.known_at
    return f"{why.code} at {incident.after} tokens: {why.message}; made up for in {took:.2f} s"
