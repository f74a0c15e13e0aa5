# SPDX-License-Identifier: Apache-2.0
"""Collective programs out of texts, and texts of programs; reading what was written gives the same program.

The form of the text is `dsl.text.schedules`; here its numbers become topologies and tables of sends, or a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from device_model.collectives.program import OPERATIONS, Program
from device_model.collectives.topology import (
    Topology,
    Wire,
    full,
    hierarchy,
    linked,
    mesh,
    ring,
    switch,
    torus,
)
from device_model.collectives.verify import Where
from dsl.diagnostics import Diagnostic, Refused, did_you_mean
from dsl.source import Source, Span
from dsl.text.schedules import (
    RATES,
    TIMES,
    CollectiveSyntax,
    PrintedLines,
    TopologySyntax,
    read_schedule,
)


@dataclass(frozen=True, slots=True)
class Written:
    """A program of a text, and where each of its sends stands there."""

    program: Program
    where: Where


def read_programs(source: Source) -> tuple[dict[str, Topology], tuple[Written, ...]]:
    """Return the topologies of a text by name, and its programs; raises `Refused` (S106, S620 to S622)."""
    file = read_schedule(source)
    topologies: dict[str, Topology] = {}
    for written in file.topologies:
        if written.name in topologies:
            raise _refused("S621", f"`{written.name}` is a topology already", written.span)
        topologies[written.name] = _topology(written)
    return topologies, tuple(_program(source, one, topologies) for one in file.collectives)


def read_topology(source: Source, name: str = "") -> Topology:
    """Return the one topology of a text, or that of a name; raises `Refused` where there is none (S621)."""
    topologies, _ = read_programs(source)
    if name in topologies or len(topologies) == 1:
        return topologies.get(name) or next(iter(topologies.values()))
    has = ", ".join(f"`{known}`" for known in topologies) or "none"
    message = f"one topology is asked for; the text has {has}"
    raise Refused((Diagnostic("S621", message, place=source.name),))


def _refused(code: str, message: str, span: Span, help: str = "") -> Refused:
    return Refused((Diagnostic(code, message, span, help=help),))


def _one(sizes: tuple[int, ...]) -> int:
    (size,) = sizes
    return size


_MAKERS: Mapping[str, Callable[[TopologySyntax, Wire], Topology]] = {
    "ring": lambda t, wire: ring(t.name, _one(t.sizes), wire),
    "torus": lambda t, wire: torus(t.name, t.sizes, wire),
    "mesh": lambda t, wire: mesh(t.name, t.sizes, wire),
    "full": lambda t, wire: full(t.name, _one(t.sizes), wire),
    "switch": lambda t, wire: switch(t.name, _one(t.sizes), wire, t.reduces),
}
_TAKES = {
    "switch": {"reduces"},
    "nodes": {"reduces", "network", "nics"},
    "chips": {"switches", "links"},
}


def _topology(written: TopologySyntax) -> Topology:
    """Return a topology; raises `Refused` where its statements do not go together (S621)."""
    try:
        return _made(written)
    except ValueError as error:
        raise _refused("S621", str(error), written.span) from None


def _made(t: TopologySyntax) -> Topology:
    if not t.shape:
        raise ValueError(f"{t.name} has no shape, such as `ring 8` or `torus 4 x 4`")
    takes = _TAKES.get(t.shape, set())
    for key in ("reduces", "network", "nics", "switches", "links"):
        if getattr(t, key) and key not in takes:
            raise ValueError(f"{t.name}: `{key}` says nothing of `{t.shape}`")
    wanted = {"ring": 1, "full": 1, "switch": 1, "nodes": 2, "chips": 1}.get(t.shape)
    if wanted not in (None, len(t.sizes)):
        raise ValueError(f"{t.name}: `{t.shape}` has {wanted} of sizes, not {len(t.sizes)}")
    if t.shape == "chips":
        chips, switches = _one(t.sizes), t.switches
        at = _Numbers(chips, switches)
        return linked(
            t.name, chips, switches, tuple((at(a), at(b), Wire(*wire)) for a, b, wire in t.links)
        )
    if t.link is None:
        raise ValueError(f"{t.name} does not say what a link carries: `link 90 GB/s, 1 us`")
    if t.shape != "nodes":
        return _MAKERS[t.shape](t, Wire(*t.link))
    if t.network is None:
        raise ValueError(f"{t.name} does not say what the `network` between nodes carries")
    count, inside = t.sizes
    return hierarchy(t.name, count, inside, Wire(*t.link), Wire(*t.network), t.nics, t.reduces)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Numbers of nodes: chips as they are, the switch `s0` behind them."""

    chips: int
    switches: int

    def __call__(self, written: int) -> int:
        if written >= self.chips or -1 - written >= self.switches:
            name = written if written >= 0 else f"s{-1 - written}"
            raise ValueError(
                f"there is no `{name}` among {self.chips} chips, {self.switches} switches"
            )
        return written if written >= 0 else self.chips - 1 - written


def _program(
    source: Source, written: CollectiveSyntax, topologies: Mapping[str, Topology]
) -> Written:
    if written.topology not in topologies:
        help_ = did_you_mean(written.topology, topologies)
        raise _refused("S621", f"there is no topology `{written.topology}`", written.span, help_)
    if written.operation not in OPERATIONS:
        help_ = did_you_mean(written.operation, OPERATIONS) or f"known are {', '.join(OPERATIONS)}"
        raise _refused("S622", f"there is no collective `{written.operation}`", written.span, help_)
    topology = topologies[written.topology]
    sends = np.asarray(written.sends, np.int64).reshape(-1, 4)
    places = np.asarray(written.places, np.int64).reshape(-1, 2)

    def where(send: int) -> Span:
        start, end = places[send].tolist()
        return Span(source, start, end)

    ends = sends[:, :2]
    strange = np.flatnonzero(((ends >= topology.chips) | (-1 - ends >= topology.switches)).any(1))
    if len(strange):
        message = f"{topology.name} has no such node: {topology.chips} chips, {topology.switches} switches"
        raise _refused("S622", message, where(int(strange[0])))
    sends[:, :2] = np.where(ends < 0, topology.chips - 1 - ends, ends)
    begins = np.asarray(written.begins, np.int64)
    order = "any" if written.exact else "tree"
    try:
        program = Program.packed(written.operation, topology, written.chunks, begins, sends, order)
    except ValueError as error:
        raise _refused("S622", str(error), written.span) from None
    return Written(program, where)


def text_of(programs: Iterable[Program], topologies: Iterable[Topology] = ()) -> str:
    """Return the canonical text of programs, after the topologies that they are over; names are to be unlike."""
    layout = PrintedLines()
    layout.line(0, "sohu 1.0")
    many = list(programs)
    named: dict[str, Topology] = {}
    for topology in (*topologies, *(p.topology for p in many)):
        if named.setdefault(topology.name, topology) != topology:
            raise ValueError(f"two topologies are named {topology.name}")
    for topology in named.values():
        layout.gap()
        _lay_topology(layout, topology)
    for program in many:
        layout.gap()
        _lay_program(layout, program)
    return layout.text()


def _wire(wire: Wire) -> str:
    return f"{_amount(wire.capacity, RATES)}, {_amount(wire.latency, TIMES)}"


def _amount(value: float, units: Mapping[str, float]) -> str:
    """Return a number and a unit that are read as exactly this value, the shortest there is."""
    texts = []
    for unit, scale in units.items():
        number = f"{value / scale:.15g}"
        if float(number) * scale == value and "e" not in number:
            texts.append(f"{number} {unit}")
    plain = next(unit for unit, scale in units.items() if scale == 1.0)
    return min(texts, key=len) if texts else f"{value!r} {plain}"


def _lay_topology(layout: PrintedLines, topology: Topology) -> None:
    shape = topology.shape
    lines = [f"{shape.kind} {' x '.join(map(str, shape.sizes))}"]
    if shape.kind == "links":
        chips, switches = shape.sizes
        lines = [f"chips {chips}", *([f"switches {switches}"] if switches else [])]
        lines += [
            f"{topology.node_name(a)} -> {topology.node_name(b)}: {_wire(Wire(c, s))}"
            for a, b, c, s in zip(*_columns(topology), strict=True)
        ]
    for key, wire in zip(("link", "network"), shape.wires, strict=False):
        lines.append(f"{key} {_wire(wire)}")
    if shape.kind == "nodes" and shape.nics != shape.sizes[1]:
        lines.append(f"nics {shape.nics}")
    if shape.reduces:
        lines.append(f"reduces {shape.reduces}")
    layout.line(0, f"topology {topology.name} {{")
    for line in lines:
        layout.line(1, line)
    layout.line(0, "}")


def _columns(topology: Topology) -> tuple[list[int], list[int], list[float], list[float]]:
    return (
        topology.source.tolist(),
        topology.target.tolist(),
        topology.capacity.tolist(),
        topology.latency.tolist(),
    )


def _lay_program(layout: PrintedLines, program: Program) -> None:
    exact = " exact" if program.order == "any" else ""
    name = program.topology.name
    layout.line(0, f"collective {program.operation} over {name} chunks {program.chunks}{exact} {{")
    names = [program.topology.node_name(node) for node in range(program.topology.nodes)]
    for step in program:
        if not step:
            continue
        layout.line(1, "step {")
        for source, target, chunk, add in step:
            layout.send(2, f"{names[source]} -> {names[target]}: c{chunk}{' add' if add else ''}")
        layout.line(1, "}")
    layout.line(0, "}")
