"""Meshes of chips: as a person writes them, the legal ones of a program, and what a mesh does not divide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from math import prod

from dsl.diagnostics import Diagnostic, Refused, did_you_mean
from dsl.graph import Graph
from dsl.symbolic import evaluate, text
from dsl.whole_numbers import whole_number

MAX_CHIPS = 4096
POWERS = tuple(2**k for k in range(MAX_CHIPS.bit_length()))


def legal_meshes(graph: Graph) -> Iterator[dict[str, int]]:
    """Yield the legal meshes of powers of two, fewest chips first, the earlier axis larger first."""
    axes = graph.mesh
    meshes = [
        dict(zip(axes, choice, strict=True))
        for choice in product(POWERS, repeat=len(axes))
        if prod(choice) <= MAX_CHIPS
    ]
    meshes.sort(key=lambda mesh: (prod(mesh.values()), [-mesh[a] for a in axes]))
    yield from (mesh for mesh in meshes if not mesh_violations(graph, mesh))


def mesh_violations(graph: Graph, mesh: Mapping[str, int]) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for each size of a program that a mesh does not divide."""
    violations = []
    for obligation in graph.obligations:
        try:
            dividend = evaluate(obligation.dividend, mesh)
            divisor = evaluate(obligation.divisor, mesh)
        except KeyError:
            continue  # it depends on the batch or the context
        if dividend % divisor:
            shown = f"{text(obligation.dividend)} is not a multiple of {text(obligation.divisor)}"
            message = f"the mesh does not divide a size: {shown} = {divisor}"
            violations.append(Diagnostic("S305", message, obligation.span))
    return tuple(violations)


def parse_mesh(written: str, graph: Graph) -> dict[str, int]:
    """Return a mesh written as `tp=8,ep=4`; raises `Refused`."""
    mesh: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in written.split(","))):
        name, equals, size = part.partition("=")
        if not equals:
            message = f"`{part[:80]}` is no mesh axis with its number of chips"
            raise Refused((Diagnostic("S306", message, place="--mesh", help=_meant(part, graph)),))
        if name not in graph.mesh:
            help_ = did_you_mean(name, graph.mesh) or f"the mesh has {', '.join(graph.mesh)}"
            message = f"`{name[:80]}` is no mesh axis of {graph.family}"
            raise Refused((Diagnostic("S303", message, place="--mesh", help=help_),))
        chips = whole_number(size, MAX_CHIPS)
        if not chips:
            message = f"`{part[:80]}`: the size of a mesh axis is 1 to {MAX_CHIPS}"
            raise Refused((Diagnostic("S306", message, place="--mesh", help="write tp=8"),))
        mesh[name] = chips
    return mesh


def _meant(part: str, graph: Graph) -> str:
    """Return what was meant by `tp8`, `tp:8` or `8`: the first axis where none is named."""
    match = re.fullmatch(r"([a-z_]*)[^a-z0-9_=]*([0-9]{1,4})", part)
    axis, size = match.groups() if match else ("", "8")
    named = axis if axis in graph.mesh else (graph.mesh or ("tp",))[0]
    return f"write {named}={size}"


def mesh_sizes(graph: Graph, written: str) -> dict[str, int]:
    """Return a mesh as it is written; raises `Refused` where it does not divide the program's sizes."""
    mesh = parse_mesh(written, graph)
    whole = dict.fromkeys(graph.mesh, 1) | mesh
    violations = mesh_violations(graph, whole)
    if not violations:
        return mesh
    # One cause, one error: the mesh. The other sizes stand beside the first.
    first, *others = dict.fromkeys(violation.message for violation in violations)
    notes = tuple(message.partition(": ")[2] for message in others)
    raise Refused((replace(violations[0], message=first, notes=notes, help=_legal(graph, whole)),))


def _legal(graph: Graph, mesh: Mapping[str, int]) -> str:
    """Return which powers of two an axis may have while the others stay as they are, for each that has any."""
    fitting = {
        axis: [n for n in POWERS if not mesh_violations(graph, {**mesh, axis: n})] for axis in mesh
    }
    said = [f"{a} may be {', '.join(map(str, sizes))}" for a, sizes in fitting.items() if sizes]
    return "; or ".join(said)
