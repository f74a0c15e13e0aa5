# SPDX-License-Identifier: Apache-2.0
"""One type's tiny oracle on meshes: every result must have the bits of one chip, in every numerics and mode.

Judges nothing against the original, which `cells` does, and knows no tolerance. Weights are the oracle's own, as its
checkpoint stores them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device_model.engine.engine import Engine
from device_model.mesh.engine import MeshEngine
from device_model.weights.reading import TensorReader
from dsl.diagnostics import Refused, render
from dsl.graph import Graph
from farm.matrix.registry import family_types, published_of
from farm.oracles.published_models import raw_config, tiny_published
from farm.oracles.tiny import tiny
from porting.checkpoint.tensors import Checkpoint
from porting.config.reader import read_config
from porting.origin.resolve import resolve
from porting.original.reference import refusing
from porting.planning.plan import plan

Steps = tuple[tuple[int, ...], ...]
"""How many tokens of each sequence go into every step."""
Bits = list[np.ndarray[Any, np.dtype[np.uint32]]]

# The longest row of each mode goes beyond every tiny window, 11, and chunk, 13; two copies of a model take half each.
MODES: Mapping[str, Steps] = {
    "whole": ((24, 13),),
    "chunks": ((7, 3),) * 3,
    "token by token": ((9, 3), *((1, 1),) * 8),
    "ragged": ((20, 5, 1, 9), (1, 0, 13, 1), (0, 8, 1, 3)),
}
NUMERICS = ("f32", "bf16")
# 3 divides no tiny size, and 8 goes beyond the heads of most: some chips have copies of keys, and some have no head.
MESHES: tuple[Mapping[str, int], ...] = (
    {"tp": 2},
    {"tp": 4},
    {"tp": 3},
    {"tp": 8},
    {"ep": 2},
    {"ep": 4},
    {"tp": 2, "ep": 4},
    {"pp": 2},
    {"dp": 2},
    {"tp": 3, "pp": 2, "dp": 2},
)
QUICK_MODES = ("whole", "ragged")
QUICK_MESHES: tuple[Mapping[str, int], ...] = ({"tp": 3}, {"tp": 2, "ep": 4}, {"pp": 2, "dp": 2})
SAME, DIFFERS, REFUSED = "same", "differs", "refused"


@dataclass(frozen=True, slots=True)
class MeshCell:
    """An oracle, of the defaults of a type's class or of a published config, and what to run it on."""

    model_type: str
    published: str = ""
    numerics: tuple[str, ...] = NUMERICS
    modes: tuple[str, ...] = tuple(MODES)
    meshes: tuple[Mapping[str, int], ...] = MESHES

    @property
    def name(self) -> str:
        """Return the type, with the published config that its oracle is made of."""
        return f"{self.model_type} {self.published}".rstrip()


@dataclass(frozen=True, slots=True)
class Compared:
    """One mode on one mesh beside one chip: `same`, `differs` with where first, `refused` with the message."""

    mesh: str
    numerics: str
    mode: str
    verdict: str
    problem: str = ""

    def line(self) -> str:
        """Return what does not hold in a line."""
        return f"{self.mesh}, {self.numerics}, {self.mode}: {self.verdict} {self.problem}".rstrip()


@dataclass(frozen=True, slots=True)
class MeshResult:
    """What an oracle showed on all meshes that its program has the axes of."""

    name: str
    family: str
    compared: tuple[Compared, ...]
    seconds: float

    @property
    def failed(self) -> tuple[Compared, ...]:
        """Return what has not the bits of one chip."""
        return tuple(each for each in self.compared if each.verdict != SAME)

    @property
    def meshes(self) -> tuple[str, ...]:
        """Return the meshes that it ran on."""
        return tuple(dict.fromkeys(each.mesh for each in self.compared))


def mesh_cells(types: Sequence[str] = (), *, quick: bool = False) -> list[MeshCell]:
    """Return a cell for each covered type asked for, nothing meaning all, and for its quantised published configs."""
    names = [name for name in family_types() if not types or name in types]
    more: dict[str, Any] = {}
    if quick:
        more = {"numerics": NUMERICS[:1], "modes": QUICK_MODES, "meshes": QUICK_MESHES}
    made = [MeshCell(name, **more) for name in names]
    stored = [(kind, name) for kind, several in published_of(names).items() for name in several]
    return made + [MeshCell(kind, name, **more) for kind, name in stored if quantised(name)]


def quantised(name: str) -> bool:
    """Tell whether a published config stores weights in a form of fewer bits."""
    raw = raw_config(name)
    parts = (raw, raw.get("text_config") or {})
    return any(part.get("quantization_config") for part in parts)


def judge_meshes(cell: MeshCell) -> MeshResult:
    """Write the cell's oracle, plan it and compare every mesh with one chip; raises `Refused` where it has no port."""
    start = time.perf_counter()
    family = family_types()[cell.model_type].stem
    with tempfile.TemporaryDirectory(prefix="farm-") as name:
        directory = Path(name)
        with refusing("S551", "build this model"):
            if cell.published:
                tiny_published(directory, cell.published)
            else:
                tiny(directory, cell.model_type)
        checkpoint = Checkpoint.open(directory)
        graph = plan(resolve(name), read_config(directory), checkpoint).graph
        compared = tuple(
            each
            for numerics in cell.numerics
            for each in compare(graph, checkpoint, numerics, cell.meshes, cell.modes)
        )
    return MeshResult(cell.name, family, compared, round(time.perf_counter() - start, 3))


def compare(
    graph: Graph,
    reader: TensorReader,
    numerics: str,
    meshes: Sequence[Mapping[str, int]],
    modes: Sequence[str],
) -> Iterator[Compared]:
    """Yield what each mode gives on each mesh beside one chip; meshes with axes that the program lacks are left out."""
    one = Engine(graph, reader, numerics, threads=1)
    wanted = {mode: fed(one, MODES[mode]) for mode in modes}
    for mesh in meshes:
        if not set(mesh) <= set(graph.mesh):
            continue
        named = ",".join(f"{axis}={size}" for axis, size in mesh.items())
        try:
            many = MeshEngine(graph, reader, numerics, mesh)
        except Refused as refused:
            problem = "; ".join(render(each) for each in refused.diagnostics)
            yield from (Compared(named, numerics, mode, REFUSED, problem) for mode in modes)
            continue
        for mode in modes:
            where = difference(wanted[mode], fed(many, MODES[mode]))
            yield Compared(named, numerics, mode, DIFFERS if where else SAME, where)


def fed(engine: Engine | MeshEngine, steps: Steps) -> Bits:
    """Return the bits of all results of sequences that are fed in some steps, tokens of one draw."""
    draw, session = np.random.default_rng(15), engine.session(len(steps[0]))
    bits = Bits()
    for step in steps:
        rows = [draw.integers(0, TOKENS, size=count) for count in step]
        bits += [np.ascontiguousarray(made).view(np.uint32) for made in session.step(rows)]
    return bits


TOKENS = 60
"""Tokens that every tiny vocabulary has."""


def difference(wanted: Bits, got: Bits) -> str:
    """Return where results differ first and in how many elements, empty where they are the same bits."""
    for number, (left, right) in enumerate(zip(wanted, got, strict=True)):
        if left.shape != right.shape:
            return f"result {number} has shape {right.shape}, not {left.shape}"
        unlike = int((left != right).sum())
        if unlike:
            return f"result {number}: {unlike} of {left.size} elements"
    return ""
