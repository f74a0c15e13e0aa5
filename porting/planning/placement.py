# SPDX-License-Identifier: Apache-2.0
"""Place a planned port on a device and a mesh: its bytes on one chip, whether they fit, and how far it could grow.

Works on formulas alone; `sohu fit` says the same at length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from device_model.chips.chip import Device
from device_model.chips.chip import device as device_named
from device_model.chips.peaks import require_format
from device_model.memory.capacity import Capacity
from device_model.memory.meshes import mesh_sizes, several
from device_model.memory.use import (
    DEFAULT_CONTEXT,
    DEFAULT_NUMERICS,
    MemoryFormulas,
    MemoryUse,
    phases,
)
from dsl.graph import Graph

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Placement:
    """A mesh, the bytes of one chip by step, sentences about the fit, and the verdict; without a device all fits."""

    mesh: Mapping[str, int]
    numerics: str
    uses: Mapping[str, MemoryUse]
    notes: tuple[str, ...] = ()
    fits: bool = True


def place(
    graph: Graph, device: str | None, mesh: str, numerics: str = DEFAULT_NUMERICS
) -> Placement:
    """Return the placement of a graph, for the usual context and one sequence on each chip that has its own.

    Raises `Refused` for an unknown device or format, or an illegal mesh.
    """
    chip = None if device is None else device_named(device)
    require_format(numerics, chip)
    sizes = dict.fromkeys(graph.mesh, 1) | mesh_sizes(graph, mesh)
    memory = MemoryFormulas(graph, numerics)
    if chip is not None:
        return _on_chip(memory, chip, sizes)
    steps = phases(sizes, batch_of(graph, sizes), 1, DEFAULT_CONTEXT)
    uses = {name: memory.use(question) for name, question in steps.items()}
    notes = (f"memory is that of one chip of {_shown(sizes)}",) if mesh else ()
    return Placement(sizes, numerics, uses, notes)


def batch_of(graph: Graph, mesh: Mapping[str, int]) -> int:
    """Return the least batch that a mesh divides: one sequence for each part."""
    return prod(mesh[axis] for axis in graph.batch_shards)


def _on_chip(memory: MemoryFormulas, chip: Device, sizes: Mapping[str, int]) -> Placement:
    fit = Capacity(memory).fit(
        chip, sizes, batch_of(memory.graph, sizes), seq=1, context=DEFAULT_CONTEXT
    )
    uses = {name: step.use for name, step in fit.steps.items()}
    total, limit = fit.use.total / GIB, fit.limit / GIB
    parts = f"weights {fit.use.weights / GIB:,.2f}, products in {memory.numerics}"
    head = (
        f"one {chip.name} of {_shown(sizes)}: {fit.phase} takes {total:,.2f} of {limit:,.2f} GiB "
        f"({parts})"
    )
    if fit.fits:
        note = f"{head}; the largest context is {fit.context_text()}"
        return Placement(sizes, memory.numerics, uses, (note,))
    needed = ",".join(f"{a}={n}" for a, n in several(fit.mesh_needed or {}).items())
    remedy = f"; a mesh of {needed} would hold it" if needed else ""
    return Placement(
        sizes, memory.numerics, uses, (f"{head} and does not fit{remedy}",), fits=False
    )


def _shown(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{axis} = {size}" for axis, size in several(sizes).items())
