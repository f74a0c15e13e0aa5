# SPDX-License-Identifier: Apache-2.0
"""What `sohu profile` knows: a decode step and a prefill of one program on one chip of a mesh, timed task by task.

A chip with values that are guesses to sweep over is timed at each of them. Showing is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from device_model.chips.chip import Device, Quantity
from device_model.chips.chip import device as device_named
from device_model.cost.calibration import Calibration, calibration
from device_model.memory.meshes import mesh_sizes
from device_model.memory.use import Logits, MemoryFormulas, MemoryUse, cut_sizes, phases
from device_model.timeline.memory import activations_of
from device_model.timeline.pricing import Prices
from device_model.timeline.schedule import Entry, Timeline, chips_of, priced
from device_model.timeline.tasks import AFTER, BEFORE, BETWEEN, OUTSIDE, Stage, reach, stages
from dsl.counting.footprint import layer_names
from dsl.diagnostics import refuse
from dsl.graph import Graph, Repeat
from dsl.mesh.components import components
from dsl.mesh.local import is_even
from porting.planning.bound import Told, bound_graph, silent

MOST_SWEPT = 64


@dataclass(frozen=True, slots=True)
class Layers:
    """A stage of a step: a layer class with its layers, or what is outside of layers, with its entries."""

    name: str
    layers: tuple[int, ...]
    entries: tuple[Entry, ...]
    activations: tuple[float, ...]

    @property
    def count(self) -> int:
        """Return how often a step passes it: once a layer, and once outside of them or for each send of a pipeline."""
        return self.entries[0].layers if self.entries else max(len(self.layers), 1)

    @property
    def seconds(self) -> float:
        """Return the seconds of one layer."""
        return sum(e.seconds for e in self.entries)

    @property
    def key(self) -> str:
        """Return the name of the stage in the timeline."""
        return self.entries[0].stage if self.entries else self.name


@dataclass(frozen=True, slots=True)
class Phase:
    """One kind of step: its point, its time at each swept value of the chip, the first in detail, and its memory."""

    name: str
    batch: int
    new: int
    context: int
    timelines: tuple[Timeline, ...]
    memory: MemoryUse
    parts: tuple[Layers, ...]

    @property
    def timeline(self) -> Timeline:
        """Return the time at the first swept value."""
        return self.timelines[0]

    @property
    def tokens(self) -> int:
        """Return the tokens that a step adds to all sequences together."""
        return self.batch * self.new

    def rate(self, at: Timeline) -> float:
        """Return the tokens a second of all chips together, with a pipeline kept full."""
        return self.tokens / at.interval

    def user_rate(self, at: Timeline) -> float:
        """Return the tokens a second of one sequence."""
        return self.new / at.seconds

    def in_order(self) -> Iterator[tuple[int | None, Layers]]:
        """Yield the parts as they run: outside of layers as None, each layer with its class."""
        by_layer = {layer: part for part in self.parts for layer in part.layers}
        if not by_layer or self.parts[0].name != AFTER:
            yield from ((None, p) for p in self.parts if p.name == BEFORE)
        yield from sorted(by_layer.items())
        yield from ((None, p) for p in self.parts if p.name == BETWEEN for _ in range(p.count))
        yield from ((None, p) for p in self.parts if p.name == AFTER)


@dataclass(frozen=True, slots=True)
class Profile:
    """A program on a chip: decode and prefill."""

    name: str
    graph: Graph
    device: Device
    dtype: str
    skew: float
    logits: Logits
    calibration: Calibration
    mesh: Mapping[str, int]
    swept: tuple[Mapping[str, float], ...]
    phases: tuple[Phase, ...]

    @property
    def chips(self) -> int:
        """Return the number of chips."""
        return prod(self.mesh.values())

    @property
    def fits(self) -> bool:
        """Tell whether both steps fit a chip's memory."""
        return all(p.memory.total <= self.device.memory_bytes for p in self.phases)

    @property
    def uneven(self) -> bool:
        """Tell whether some chips of the mesh have more than others of what it cuts."""
        cut = cut_sizes(self.graph, self.mesh)
        return cut is not None and not is_even(self.graph, components(self.graph), cut)

    @property
    def uncertain(self) -> Mapping[str, Quantity]:
        """Return the values of the chip that are of low confidence."""
        return {k: q for k, q in self.device.quantities.items() if q.confidence == "low"}


def profile_of(
    path: Path,
    device: str,
    dtype: str,
    *,
    mesh: str = "",
    batch: int = 1,
    seq: int = 1,
    context: int = 4096,
    skew: float = 0.0,
    host: float = 0.0,
    logits: Logits = Logits.LAST,
    told: Told = silent,
) -> Profile:
    """Return the profile of a bound program; `host` are seconds between steps; raises `Refused`.

    `told` hears what was assumed of a program that was planned from a config.
    """
    chip = device_named(device)
    known = calibration(chip)
    swept = sweep_of(chip)
    prices = tuple(Prices(chip, dtype, known, skew, changes) for changes in swept)
    _ = prices[0].chip  # refuses an unknown format before anything is read
    graph = bound_graph(path, told)
    sizes = dict.fromkeys(graph.mesh, 1) | mesh_sizes(graph, mesh, batch)
    memory = MemoryFormulas(graph, dtype, logits)
    timed = []
    for name, question in phases(sizes, batch, seq, context).items():
        point = memory.point(question)
        tasks = stages(graph, point, last_logits=logits is Logits.LAST)
        _reach(chip, prices[0], tasks)
        chips = chips_of(graph, point)
        lines = tuple(priced(tasks, chips, p, host) for p in prices)
        parts = tuple(_parts(graph, tasks, lines[0], activations_of(memory, question, tasks)))
        use, new, cached = memory.use(question), question.new, question.context
        timed.append(Phase(name, batch, new, cached, lines, use, parts))
    name = path.name if path.is_dir() else path.stem
    return Profile(name, graph, chip, dtype, skew, logits, known, sizes, swept, tuple(timed))


def sweep_of(chip: Device) -> tuple[Mapping[str, float], ...]:
    """Return the values of a chip's guesses in all combinations; where those are many, only the ends of each."""
    several = {k: q.values for k, q in chip.quantities.items() if len(q.values) > 1}
    if prod(len(v) for v in several.values()) > MOST_SWEPT:
        several = {k: (min(v), max(v)) for k, v in several.items()}
    return tuple(dict(zip(several, values, strict=True)) for values in product(*several.values()))


def _reach(chip: Device, prices: Prices, tasks: Sequence[Stage]) -> None:
    """Refuse a mesh whose collectives the chip's links do not reach."""
    most = reach(tasks)
    if most > 1 and float(prices.chip.link) <= 0:
        chip.quantity("link_bw")
    if most > float(prices.chip.domain) and float(prices.chip.scaleout) <= 0:
        domain = int(float(prices.chip.domain))
        message = f"the description of {chip.name} has no `scaleout_bw`"
        help_ = f"{most:.0f} chips reach beyond its domain of {domain}; take fewer along one axis"
        raise refuse("S603", message, help=help_)


def _parts(
    graph: Graph,
    tasks: Sequence[Stage],
    line: Timeline,
    activations: Mapping[str, tuple[float, ...]],
) -> Iterator[Layers]:
    classes = [c.layers for s in graph.body.steps if isinstance(s, Repeat) for c in s.classes]
    rest = iter(classes)
    for stage in tasks:
        outside = stage.name in OUTSIDE
        layers = () if outside else next(rest)
        name = stage.name if outside else layer_names(layers)
        entries = tuple(e for e in line.entries if e.stage == stage.name)
        yield Layers(name, layers, entries, activations[stage.name])
