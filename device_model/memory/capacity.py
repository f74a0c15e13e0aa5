"""Whether a program fits a chip's memory: the largest batch and context, and the smallest mesh that would do.

Works on the footprint's formulas alone. What fits is not said to be fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import ceil, prod

from device_model.chips.chip import Device
from dsl.counting.footprint import Footprint, footprint
from dsl.counting.liveness import Candidate, peak, peak_candidates
from dsl.diagnostics import Diagnostic, Refused, did_you_mean
from dsl.graph import Graph
from dsl.symbolic import Dim, evaluate, text

MAX_CHIPS = 4096
MAX_SEARCH = 2**40
CONTEXTS = (1024, 4096, 8192, 32768, 131072)


@dataclass(frozen=True, slots=True)
class Load:
    """Bytes on one chip at one point."""

    weights: int
    state: int
    activations: int

    @property
    def total(self) -> int:
        """Return the sum."""
        return self.weights + self.state + self.activations


@dataclass(frozen=True, slots=True)
class Fit:
    """The outcome for one device and mesh: the load asked about, and how far it could grow.

    `max_context` is for the batch asked about, `max_batch` per context; both are 0 where nothing fits. `mesh_needed`
    is the smallest mesh that holds the load, where the given one does not.
    """

    device: Device
    mesh: Mapping[str, int]
    load: Load
    limit: int
    max_context: int
    max_batch: Mapping[int, int]
    largest: str
    mesh_needed: Mapping[str, int] | None

    @property
    def fits(self) -> bool:
        """Tell whether the load fits one chip's memory."""
        return self.load.total <= self.limit


class Capacity:
    """The formulas of one graph, evaluated at points."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.footprint: Footprint = footprint(graph)
        self.candidates: tuple[Candidate, ...] = peak_candidates(graph)
        self.weights: Dim = self.footprint.weights
        self.state: Dim = self.footprint.state

    def load(self, mesh: Mapping[str, int], batch: int, seq: int, context: int) -> Load:
        """Return the bytes on one chip with a batch of sequences of a context, of which a step adds `seq` tokens."""
        graph = self.graph
        point = {**mesh, graph.batch: batch, graph.seq: seq, graph.context: context}
        before = {**point, graph.context: max(context - seq, 0)}
        activations, _ = peak(self.candidates, before)
        return Load(
            ceil(evaluate(self.weights, point)),
            ceil(evaluate(self.state, point)),
            ceil(activations),
        )

    def fit(
        self, device: Device, mesh: Mapping[str, int], batch: int, seq: int, context: int
    ) -> Fit:
        """Return whether a load fits, what the most is, and the mesh that would do."""
        full = dict.fromkeys(self.graph.mesh, 1) | dict(mesh)
        limit = device.memory_bytes
        load = self.load(full, batch, seq, context)
        holds = load.total <= limit

        def holds_batch(at: int, size: int) -> bool:
            return self.load(full, size, seq, at).total <= limit

        contexts = sorted({*CONTEXTS, context} - {0})
        return Fit(
            device,
            full,
            load,
            limit,
            _largest(lambda c: self.load(full, batch, seq, c).total <= limit),
            {c: _largest(partial(holds_batch, c)) for c in contexts},
            max(("weights", "state", "activations"), key=lambda part: getattr(load, part)),
            None if holds else self._mesh_needed(limit, batch, seq, context),
        )

    def _mesh_needed(
        self, limit: int, batch: int, seq: int, context: int
    ) -> Mapping[str, int] | None:
        for mesh in self._meshes():
            if self.load(mesh, batch, seq, context).total <= limit:
                return mesh
        return None

    def _meshes(self) -> Iterator[dict[str, int]]:
        """Yield the legal meshes of powers of two, fewest chips first, the earlier axis larger first."""
        axes = self.graph.mesh
        sizes = [2**k for k in range(MAX_CHIPS.bit_length())]
        found = [
            dict(zip(axes, choice, strict=True))
            for choice in product(sizes, repeat=len(axes))
            if prod(choice) <= MAX_CHIPS
        ]
        found.sort(key=lambda mesh: (prod(mesh.values()), [-mesh[a] for a in axes]))
        yield from (mesh for mesh in found if not self.violations(mesh))

    def violations(self, mesh: Mapping[str, int]) -> tuple[Diagnostic, ...]:
        """Return a diagnostic for each size that a mesh does not divide."""
        return mesh_violations(self.graph, mesh)


def mesh_violations(graph: Graph, mesh: Mapping[str, int]) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for each size of a program that a mesh does not divide."""
    found = []
    for obligation in graph.obligations:
        try:
            dividend = evaluate(obligation.dividend, mesh)
            divisor = evaluate(obligation.divisor, mesh)
        except KeyError:
            continue  # it depends on the batch or the context
        if dividend % divisor:
            shown = f"{text(obligation.dividend)} is not a multiple of {text(obligation.divisor)}"
            message = f"the mesh does not divide a size: {shown} = {divisor}"
            found.append(Diagnostic("S305", message, obligation.span))
    return tuple(found)


def parse_mesh(written: str, graph: Graph) -> dict[str, int]:
    """Return a mesh written as `tp=8,ep=4`; raises `Refused`."""
    mesh: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in written.split(","))):
        name, _, size = part.partition("=")
        if name not in graph.mesh:
            help_ = did_you_mean(name, graph.mesh) or f"the mesh has {', '.join(graph.mesh)}"
            message = f"`{name}` is no mesh axis of {graph.family}"
            raise Refused((Diagnostic("S303", message, place="--mesh", help=help_),))
        if not size.isdigit() or not 1 <= int(size) <= MAX_CHIPS:
            message = f"`{part}`: the size of a mesh axis is 1 to {MAX_CHIPS}"
            raise Refused((Diagnostic("S306", message, place="--mesh", help="write tp=8"),))
        mesh[name] = int(size)
    return mesh


def mesh_sizes(graph: Graph, written: str) -> dict[str, int]:
    """Return a mesh as it is written; raises `Refused` where it does not divide the program's sizes."""
    mesh = parse_mesh(written, graph)
    violations = mesh_violations(graph, dict.fromkeys(graph.mesh, 1) | mesh)
    if violations:
        raise Refused(violations)
    return mesh


def _largest(holds: Callable[[int], bool]) -> int:
    """Return the largest number up to a bound for which a falling condition holds, 0 where it never does."""
    if not holds(1):
        return 0
    low, high = 1, 2
    while high < MAX_SEARCH and holds(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
