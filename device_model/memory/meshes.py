# SPDX-License-Identifier: Apache-2.0
"""Meshes of chips: as a person writes them, the legal ones of a program, and what a mesh does not divide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod

from dsl.diagnostics import Diagnostic, Refused, did_you_mean
from dsl.graph import Graph, Obligation, Repeat
from dsl.mesh.components import components
from dsl.mesh.cuts import most_parts
from dsl.source import Span
from dsl.symbolic import evaluate, names, text
from dsl.whole_numbers import whole_number

MAX_CHIPS = 4096
SHOWN = 16
"""Sizes of an axis that a refusal lists."""
POWERS = tuple(2**k for k in range(MAX_CHIPS.bit_length()))


def legal_meshes(graph: Graph, batch: int | None = None) -> Iterator[dict[str, int]]:
    """Yield the legal meshes of a program, for a batch where there is one: fewest chips first, earlier axes larger.

    Numbers of stages that make no stage smaller than fewer do are left out. Of two meshes of as many chips that with
    fewer stages and parts of the batch comes first, since neither makes a step of one sequence shorter.
    """
    axes = graph.mesh
    sizes = [_candidates(graph, axis, batch, few=True) for axis in axes]
    meshes = [
        dict(zip(axes, choice, strict=True))
        for choice in product(*sizes)
        if prod(choice) <= MAX_CHIPS
    ]
    outer = {*graph.batch_shards, *stage_axes(graph)} & set(axes)
    meshes.sort(
        key=lambda mesh: (
            prod(mesh.values()),
            prod(mesh[a] for a in outer),
            [-mesh[a] for a in axes],
        )
    )
    yield from (mesh for mesh in meshes if not mesh_violations(graph, mesh, batch))


def stage_axes(graph: Graph) -> tuple[str, ...]:
    """Return the mesh axes that split the layers into the stages of a pipeline."""
    steps = (step for step in graph.body.steps if isinstance(step, Repeat) and step.stages)
    return tuple(dict.fromkeys(step.stages or "" for step in steps))


def _candidates(graph: Graph, axis: str, batch: int | None, few: bool = False) -> tuple[int, ...]:
    """Return sizes of an axis, all legal ones among them: divisors of what it divides, powers of two where nothing.

    With `few` of the numbers of stages those that make the largest stage smaller.
    """
    ones = _known(graph, dict.fromkeys(graph.mesh, 1), batch)
    cut = cut_limits(graph).get(axis)
    if cut is not None:
        most = min(cut.parts, MAX_CHIPS)
        sizes = range(1, most + 1)
        if few and cut.owned:
            return tuple(n for n in sizes if most % n == 0)
        return tuple(n for n in sizes if not few or n == 1 or _shrinks(most, n))
    common, most = 0, MAX_CHIPS
    for obligation in _settled(graph):
        try:
            dividend = evaluate(obligation.dividend, ones)
            divisor = evaluate(obligation.divisor, ones)
            twice = evaluate(obligation.divisor, {**ones, axis: 2})
        except KeyError:
            continue  # it depends on a batch that is not known
        if twice != 2 * divisor:
            continue
        if obligation.at_most:
            most = min(most, int(dividend // divisor))
        elif dividend % divisor == 0:
            common = gcd(common, dividend // divisor)
    if common:
        return tuple(n for n in range(1, min(common, most) + 1) if common % n == 0)
    if most == MAX_CHIPS:
        return POWERS
    return tuple(n for n in range(1, most + 1) if not few or n == 1 or _shrinks(most, n))


@dataclass(frozen=True, slots=True)
class CutLimit:
    """Among how many chips a mesh axis can cut values, and which: `size` elements in `parts` that stay whole."""

    parts: int
    size: int
    names: tuple[str, ...]
    summed: bool
    owned: bool

    def exceeded(self, axis: str, chips: int) -> str:
        """Return in words what has fewer parts than an axis has chips."""
        name = f"`{self.names[-1]}`" if self.names else "what it cuts"
        if self.summed:
            return f"the sum over {self.size} at {name} has {self.parts} leaves, fewer than {axis} = {chips}"
        return f"{name} has {self.parts} parts, fewer than {axis} = {chips}"


def cut_limits(graph: Graph) -> dict[str, CutLimit]:
    """Return for each axis that cuts values what allows the fewest chips; nothing of a program that is not bound.

    Heads do not count: beyond them chips have none, and work on what follows.
    """
    try:
        parts = components(graph)
    except (TypeError, ValueError):
        return {}
    limits: dict[str, CutLimit] = {}
    for part in parts.all:
        if part.reads_from is not None or (part.summed and part.units != part.summed):
            limits.setdefault(part.mesh, CutLimit(MAX_CHIPS, part.units, part.names, False, False))
            continue
        limit = CutLimit(most_parts(part), part.units, part.names, bool(part.summed), part.owned)
        if part.mesh not in limits or limit.parts < limits[part.mesh].parts:
            limits[part.mesh] = limit
    return limits


def conditions(graph: Graph) -> list[str]:
    """Return in formulas what a mesh must keep to."""
    limits = [f"{axis} <= {limit.parts}" for axis, limit in cut_limits(graph).items()]
    return [*(obligation.text for obligation in _settled(graph)), *limits]


def _settled(graph: Graph) -> Iterator[Obligation]:
    """Yield the obligations that stand: values need not be divided by what cuts them at the borders of parts."""
    cut = cut_limits(graph)
    for obligation in graph.obligations:
        divisors = names(obligation.divisor)
        alone = len(divisors) == 1 and divisors <= set(cut)
        if not alone or obligation.at_most or graph.batch in names(obligation.dividend):
            yield obligation


def _shrinks(layers: int, stages: int) -> bool:
    """Tell whether the largest stage has fewer layers than with one stage less."""
    return -(-layers // stages) < -(-layers // (stages - 1))


def _known(graph: Graph, mesh: Mapping[str, int], batch: int | None) -> Mapping[str, int]:
    return mesh if batch is None else {**mesh, graph.batch: batch}


def mesh_violations(
    graph: Graph, mesh: Mapping[str, int], batch: int | None = None
) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for each size of a program that a mesh does not divide, a given batch among them."""
    known = _known(graph, mesh, batch)
    violations = []
    for axis, limit in cut_limits(graph).items():
        chips = mesh.get(axis, 1)
        if chips > limit.parts:
            message = f"the mesh has more chips than parts: {limit.exceeded(axis, chips)}"
            violations.append(Diagnostic("S305", message, _where(graph, limit)))
    for obligation in _settled(graph):
        try:
            dividend = evaluate(obligation.dividend, known)
            divisor = evaluate(obligation.divisor, known)
        except KeyError:
            continue  # it depends on a batch that is not known
        if divisor > dividend if obligation.at_most else dividend % divisor:
            message = f"the mesh does not divide a size: {undivided(obligation)} = {divisor}"
            violations.append(Diagnostic("S305", message, obligation.span))
    return tuple(violations)


def _where(graph: Graph, limit: CutLimit) -> Span | None:
    """Return the place of the first weight that a limit is about."""
    for body, _ in graph.bodies():
        for weight in body.weights:
            if weight.name in limit.names:
                return weight.span
    return None


def undivided(obligation: Obligation) -> str:
    """Return in words how a mesh fails an obligation."""
    size, parts = text(obligation.dividend), text(obligation.divisor)
    if obligation.why:
        return f"{obligation.why}, so all chips along it would do the same: {parts}"
    return f"{size} is {'less than' if obligation.at_most else 'not a multiple of'} {parts}"


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
        if name in mesh:
            message = f"`{name}` has two sizes, {mesh[name]} and {chips}"
            raise Refused(
                (Diagnostic("S306", message, place="--mesh", help="leave one of them out"),)
            )
        mesh[name] = chips
    return mesh


def several(mesh: Mapping[str, int]) -> dict[str, int]:
    """Return the axes of a mesh that have several chips, as people are told of it; the first one where none has."""
    wide = {axis: size for axis, size in mesh.items() if size > 1}
    return wide or dict(list(mesh.items())[:1])


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
