"""`sohu cost` and `sohu fit`: formulas and values per layer class, and what fits a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_model.chips.chip import device as device_named
from device_model.memory.capacity import Capacity, Fit, mesh_sizes
from dsl.counting.footprint import Footprint
from dsl.counting.liveness import Candidate, peak
from dsl.graph import Graph
from dsl.symbolic import Dim, evaluate, text
from sohu.terminal import console

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Cost:
    """The footprint of a program and the points at which it is evaluated."""

    graph: Graph
    footprint: Footprint
    candidates: tuple[Candidate, ...]
    prefill: Mapping[str, int]
    decode: Mapping[str, int]

    @property
    def phases(self) -> Mapping[str, Mapping[str, int]]:
        """Return the points by the name of their phase."""
        return {"prefill": self.prefill, "decode": self.decode}

    def as_dict(self) -> dict[str, object]:
        """Return the cost as JSON data."""
        total = {name: self._entry(value) for name, value in _totals(self.footprint).items()}
        total["activations"] = {
            "formulas": [text(c.bytes) for c in self.candidates],
            **{p: float(peak(self.candidates, at)[0]) for p, at in self.phases.items()},
        }
        return {
            "family": self.graph.family,
            "at": {phase: dict(point) for phase, point in self.phases.items()},
            "obligations": [o.text for o in self.graph.obligations],
            "total": total,
            "parts": [
                {
                    "name": part.name,
                    "layers": part.count,
                    "weights": self._entry(part.weights),
                    "parameters": self._entry(part.parameters),
                    "state": self._entry(part.state),
                    "flops": self._entry(part.flops),
                    "bytes_moved": self._entry(part.traffic),
                    "ops": [
                        {
                            "op": work.op,
                            "count": work.count,
                            "flops": self._entry(work.flops),
                            "bytes_moved": self._entry(work.traffic),
                        }
                        for work in part.ops
                    ],
                }
                for part in self.footprint.parts
            ],
        }

    def _entry(self, value: Dim) -> dict[str, object]:
        values = {phase: float(evaluate(value, at)) for phase, at in self.phases.items()}
        return {"formula": text(value), **values}


def cost(graph: Graph, mesh: str, batch: int, seq: int, context: int) -> Cost:
    """Return the cost of a bound program: a prefill of `seq` tokens (or the context), and a decode step."""
    capacity = Capacity(graph)
    sizes = dict.fromkeys(graph.mesh, 1) | mesh_sizes(graph, mesh)
    prompt = seq if seq > 1 else max(context, 1)
    return Cost(
        graph,
        capacity.footprint,
        capacity.candidates,
        {**sizes, graph.batch: batch, graph.seq: prompt, graph.context: 0},
        {**sizes, graph.batch: batch, graph.seq: 1, graph.context: context},
    )


def _totals(prints: Footprint) -> dict[str, Dim]:
    return {
        "weights": prints.weights,
        "parameters": prints.parameters,
        "state": prints.state,
        "state_per_token": prints.state_per_token,
        "flops": prints.flops,
        "bytes_moved": prints.traffic,
    }


def show_cost(found: Cost) -> None:
    """Print the cost as tables."""
    graph, at = found.graph, found.decode
    mesh = ", ".join(f"{name} = {at[name]}" for name in graph.mesh)
    where = (
        f"{graph.batch} = {at[graph.batch]:,}; prefill {graph.seq} = {found.prefill[graph.seq]:,}; "
        f"decode {graph.context} = {at[graph.context]:,}; {mesh}"
    )
    rows = [
        (name.replace("_", " "), *_values(value, found), text(value))
        for name, value in _totals(found.footprint).items()
    ]
    for number, candidate in enumerate(found.candidates):
        name = "activations" if number == 0 else "  or"
        place = f"{candidate.op}, {candidate.place}" if candidate.place else candidate.op
        rows.append(
            (name, *_values(candidate.bytes, found), f"{text(candidate.bytes)}  at {place}")
        )
    heads = ("one chip, whole model", "prefill", "decode", "formula")
    console.table(f"{graph.family}: {where}", heads, rows, left=(0, 3))
    parts = [
        (
            part.name,
            str(part.count),
            *(
                f"{float(evaluate(v, at)):,.0f}"
                for v in (part.weights, part.state, part.flops, part.traffic)
            ),
        )
        for part in found.footprint.parts
    ]
    heads_ = ("one layer, decode", "layers", "weights", "state", "FLOPs", "bytes moved")
    console.table("per layer class", heads_, parts)
    formulas = [
        (part.name, what, text(value))
        for part in found.footprint.parts
        for what, value in (
            ("weights", part.weights),
            ("state", part.state),
            ("FLOPs", part.flops),
            ("bytes moved", part.traffic),
        )
    ]
    console.table("formulas of one layer", ("", "", "formula"), formulas, left=(0, 1, 2))
    if graph.obligations:
        print("holds where", "; ".join(o.text for o in graph.obligations))


def _values(value: Dim, found: Cost) -> tuple[str, str]:
    first, second = (float(evaluate(value, at)) for at in (found.prefill, found.decode))
    return f"{first:,.0f}", f"{second:,.0f}"


def fit(graph: Graph, name: str, mesh: str, *, batch: int, seq: int, context: int) -> Fit:
    """Return whether a bound program fits a device."""
    chip = device_named(name)
    capacity = Capacity(graph)
    return capacity.fit(chip, mesh_sizes(capacity.graph, mesh), batch, seq, context)


def fit_as_dict(found: Fit) -> dict[str, object]:
    """Return the outcome as JSON data."""
    return {
        "verdict": "pass" if found.fits else "fail",
        "device": found.device.id,
        "mesh": dict(found.mesh),
        "limit_bytes": found.limit,
        "bytes": {
            "weights": found.load.weights,
            "state": found.load.state,
            "activations": found.load.activations,
            "total": found.load.total,
        },
        "largest": found.largest,
        "max_context": found.max_context,
        "max_batch": {str(context): batch for context, batch in found.max_batch.items()},
        "mesh_needed": dict(found.mesh_needed) if found.mesh_needed else None,
    }


def show_fit(found: Fit) -> None:
    """Print the outcome for a person."""
    load, limit = found.load, found.limit
    mesh = ", ".join(f"{axis} = {size}" for axis, size in found.mesh.items())
    rows = [
        (name, f"{value:,}", f"{value / GIB:,.2f}", f"{value / limit:.1%}")
        for name, value in (
            ("weights", load.weights),
            ("state", load.state),
            ("activations", load.activations),
            ("total", load.total),
            ("memory", limit),
        )
    ]
    source = found.device.quantity("hbm_bytes")
    heads = (f"one chip of {mesh}", "bytes", "GiB", "of memory")
    console.table(f"{found.device.name}; memory: {source.source}", heads, rows)
    if found.fits:
        print(f"largest context at this batch: {found.max_context:,} tokens")
        batches = ", ".join(f"{b:,} at {c:,}" for c, b in found.max_batch.items())
        print(f"largest batch by context: {batches}")
        print("verdict: fits")
        return
    print(f"{(load.total - limit) / GIB:,.2f} GiB too much; the largest part is {found.largest}")
    if found.mesh_needed is None:
        print("no mesh of powers of two up to 4,096 chips would do")
    else:
        needed = ",".join(f"{axis}={size}" for axis, size in found.mesh_needed.items())
        print(f"the smallest mesh that would do: {needed}")
    print("verdict: does not fit")
