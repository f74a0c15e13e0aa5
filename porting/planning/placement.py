"""Place a planned port on a device and a mesh: whether it fits, and how far it could grow there.

Works on formulas alone; `sohu fit` says the same at length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_model.chips.chip import device as device_named
from device_model.memory.capacity import Capacity, parse_mesh
from dsl.diagnostics import Refused
from dsl.graph import Graph

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Placement:
    """A mesh, sentences about the fit, and the verdict; without a device everything fits."""

    mesh: Mapping[str, int]
    notes: tuple[str, ...] = ()
    fits: bool = True


def place(graph: Graph, device: str | None, mesh: str) -> Placement:
    """Return the placement of a graph; raises `Refused` for an unknown device or an illegal mesh."""
    sizes = dict.fromkeys(graph.mesh, 1) | parse_mesh(mesh, graph)
    if device is None and not mesh:
        return Placement(sizes)
    capacity = Capacity(graph)
    violations = capacity.violations(sizes)
    if violations:
        raise Refused(violations)
    shown = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
    if device is None:
        return Placement(sizes, (f"memory is that of one chip of {shown}",))
    chip = device_named(device)
    found = capacity.fit(chip, sizes, batch=1, seq=1, context=1)
    weights, limit = found.load.weights / GIB, found.limit / GIB
    head = f"one {chip.name} of {shown}: {weights:,.2f} GiB of weights in {limit:,.2f} GiB"
    if found.fits:
        return Placement(sizes, (f"{head}; the largest context is {found.max_context:,} tokens",))
    needed = ",".join(f"{a}={n}" for a, n in (found.mesh_needed or {}).items())
    remedy = f"; a mesh of {needed} would hold it" if needed else ""
    return Placement(sizes, (f"{head} do not fit{remedy}",), fits=False)
