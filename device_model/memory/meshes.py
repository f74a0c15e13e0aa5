# SPDX-License-Identifier: Apache-2.0
"""Meshes of chips: as a person writes them, the legal ones of a program, and what a mesh does not divide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import gcd, prod

from dsl.diagnostics import Diagnostic, Refused, did_you_mean
from dsl.graph import Graph
from dsl.symbolic import evaluate, text
from dsl.whole_numbers import whole_number

MAX_CHIPS = 4096
SHOWN = 16
"""Sizes of an axis that a refusal lists."""
POWERS = tuple(2**k for k in range(MAX_CHIPS.bit_length()))


def legal_meshes(graph: Graph, batch: int | None = None) -> Iterator[dict[str, int]]:
    """Yield the legal meshes of a program, for a batch where there is one: fewest chips first, earlier axes larger."""
    axes = graph.mesh
    sizes = [_candidates(graph, axis, batch) for axis in axes]
    meshes = [
        dict(zip(axes, choice, strict=True))
        for choice in product(*sizes)
        if prod(choice) <= MAX_CHIPS
    ]
    meshes.sort(key=lambda mesh: (prod(mesh.values()), [-mesh[a] for a in axes]))
    yield from (mesh for mesh in meshes if not mesh_violations(graph, mesh, batch))


def _candidates(graph: Graph, axis: str, batch: int | None) -> tuple[int, ...]:
    """Return sizes of an axis, all legal ones among them: divisors of what it divides, powers of two where nothing."""
    ones = _known(graph, dict.fromkeys(graph.mesh, 1), batch)
    common = 0
    for obligation in graph.obligations:
        try:
            dividend = evaluate(obligation.dividend, ones)
            divisor = evaluate(obligation.divisor, ones)
            twice = evaluate(obligation.divisor, {**ones, axis: 2})
        except KeyError:
            continue  # it depends on a batch that is not known
        if twice == 2 * divisor and dividend % divisor == 0:
            common = gcd(common, dividend // divisor)
    if not common:
        return POWERS
    return tuple(n for n in range(1, min(common, MAX_CHIPS) + 1) if common % n == 0)


def _known(graph: Graph, mesh: Mapping[str, int], batch: int | None) -> Mapping[str, int]:
    return mesh if batch is None else {**mesh, graph.batch: batch}


def mesh_violations(
    graph: Graph, mesh: Mapping[str, int], batch: int | None = None
) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for each size of a program that a mesh does not divide, a given batch among them."""
    known = _known(graph, mesh, batch)
    violations = []
    for obligation in graph.obligations:
        try:
            dividend = evaluate(obligation.dividend, known)
            divisor = evaluate(obligation.divisor, known)
        except KeyError:
            continue  # it depends on a batch that is not known
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


def mesh_sizes(graph: Graph, written: str, batch: int | None = None) -> dict[str, int]:
    """Return a mesh as it is written; raises `Refused` where it does not divide the program's sizes, or the batch."""
    mesh = parse_mesh(written, graph)
    whole = dict.fromkeys(graph.mesh, 1) | mesh
    violations = mesh_violations(graph, whole, batch)
    if not violations:
        return mesh
    # One cause, one error: the mesh. The other sizes stand beside the first.
    first, *others = dict.fromkeys(violation.message for violation in violations)
    notes = tuple(message.partition(": ")[2] for message in others)
    help_ = _legal(graph, whole, batch)
    raise Refused((replace(violations[0], message=first, notes=notes, help=help_),))


def _legal(graph: Graph, mesh: Mapping[str, int], batch: int | None) -> str:
    """Return which sizes an axis may have while the others stay as they are, for each that has any."""
    fitting = {
        axis: [
            n
            for n in _candidates(graph, axis, batch)
            if not mesh_violations(graph, {**mesh, axis: n}, batch)
        ]
        for axis in mesh
    }
    said = [f"{axis} may be {_listed(sizes)}" for axis, sizes in fitting.items() if sizes]
    return "; or ".join(said)


def _listed(sizes: Sequence[int]) -> str:
    """Return sizes side by side; of many, those that are not shown are counted."""
    shown = ", ".join(map(str, sizes[:SHOWN]))
    return shown if len(sizes) <= SHOWN else f"{shown} or {len(sizes) - SHOWN} more"
