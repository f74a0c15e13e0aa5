# SPDX-License-Identifier: Apache-2.0
"""Whether a mesh has one chip's bits: node by node in plain numpy, then the results as compiled chips give them.

Tokens are drawn from a seed, and fed at once and in steps of unlike sizes. Judges no original.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from device_model.engine.engine import Engine
from device_model.mesh.engine import MeshEngine
from device_model.mesh.limits import check_chips
from device_model.mesh.lockstep import Lockstep, Steps, Unlike
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import Array
from device_model.weights.reading import TensorReader
from dsl.graph import Graph

LENGTHS = (5, 3)
FED: Mapping[str, Sequence[tuple[int, int]]] = {
    "at once": (LENGTHS,),
    "in steps": ((3, 1), (1, 2), (1, 0)),
}
"""Tokens of two sequences that go into each step."""
SEED = 7


@dataclass(frozen=True, slots=True)
class OtherResult:
    """The first result that compiled chips give otherwise: of which sequence and token, and the largest distance."""

    sequence: int
    token: int
    away: float


@dataclass(frozen=True, slots=True)
class BesideOne:
    """A mesh beside one chip: how many nodes were compared in each way, and what differs first.

    `numerics` and `fed` say in which way it differs, or all ways in which nothing does. `unlike` is a node, `result`
    what only compiled chips give otherwise; both None where every bit is one chip's.
    """

    mesh: Mapping[str, int]
    nodes: int
    numerics: tuple[str, ...]
    fed: tuple[str, ...]
    unlike: Unlike | None = None
    result: OtherResult | None = None

    @property
    def same_bits(self) -> bool:
        """Tell whether every bit is one chip's."""
        return self.unlike is None and self.result is None


def beside_one(
    graph: Graph, reader: TensorReader, mesh: Mapping[str, int], vocabulary: int,
    numerics: Sequence[str], progress: Callable[[str, int, int], None],
) -> BesideOne:  # fmt: skip
    """Return where the chips of a mesh first have other bits than one chip, in some numerics."""
    check_chips(mesh)
    nodes, total = 0, 2 * len(numerics) * len(FED)
    for number, name in enumerate(numerics):
        computed, done = numerics_named(name), 2 * number * len(FED)
        walk = Lockstep(graph, reader, computed, mesh)
        nodes = walk.nodes
        fed = {way: steps(walk.longest, vocabulary, sizes) for way, sizes in FED.items()}
        for at, (way, rows) in enumerate(fed.items()):
            progress("chips beside one", done + at, total)
            unlike = walk.first(rows)
            if unlike is not None:
                return BesideOne(mesh, nodes, (name,), (way,), unlike)
        one, many = Engine(graph, reader, computed), MeshEngine(graph, reader, computed, mesh)
        for at, (way, rows) in enumerate(fed.items()):
            progress("chips beside one", done + len(FED) + at, total)
            result = _other_result(one, many, rows)
            if result is not None:
                return BesideOne(mesh, nodes, (name,), (way,), None, result)
    progress("chips beside one", total, total)
    return BesideOne(mesh, nodes, tuple(numerics), tuple(FED))


def steps(longest: int | None, vocabulary: int, sizes: Sequence[tuple[int, int]]) -> Steps:
    """Return drawn tokens of two sequences in steps of some sizes; no sequence is longer than the model allows."""
    draw = np.random.default_rng(SEED)
    rows = [draw.integers(0, vocabulary, length) for length in LENGTHS]
    made, done = [], [0, 0]
    most = max(LENGTHS) if longest is None else longest
    for step in sizes:
        ends = [min(at + n, most) for at, n in zip(done, step, strict=True)]
        made.append([row[at:end] for row, at, end in zip(rows, done, ends, strict=True)])
        done = ends
    return [step for step in made if any(len(row) for row in step)]


def _other_result(one: Engine, many: MeshEngine, rows: Steps) -> OtherResult | None:
    """Return the first result that differs; copies of the whole get the same sequences as the first."""
    sequences = len(rows[0])
    alone, together = one.session(sequences), many.session(sequences * many.copies)
    done = [0] * sequences
    for step in rows:
        wanted = alone.step(step)
        try:
            made = together.step([*step] * many.copies)
        except AssertionError:  # chips with copies of one result have different bits
            return OtherResult(0, done[0], float("inf"))
        for number, got in enumerate(made):
            apart = other_tokens(wanted[number % sequences], got)
            if apart is not None:
                token, away = apart
                sequence = number % sequences
                return OtherResult(sequence, done[sequence] + token, away)
        done = [at + len(row) for at, row in zip(done, step, strict=True)]
    return None


def other_tokens(wanted: Array, got: Array) -> tuple[int, float] | None:
    """Return the first token whose float32 result has other bits, and the largest distance; None where none has."""
    apart = wanted.view(np.uint32) != got.view(np.uint32)
    if not apart.any():
        return None
    away = np.abs(wanted.astype(np.float64) - got.astype(np.float64))
    largest = float(away.max()) if np.isfinite(away).all() else float("inf")
    return int(np.flatnonzero(apart.reshape(len(apart), -1).any(axis=1))[0]), largest
