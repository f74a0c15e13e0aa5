# SPDX-License-Identifier: Apache-2.0
"""The time, memory and energy of a program over a whole space of designs, with the timeline's own tasks and prices.

Arrays replace numbers: sizes along the axes of the load and the mesh, rates along those of the chip. What a term does
not depend on it is not computed for, so that a hundred thousand points take seconds. Times are those of `steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_model.chips.chip import Device
from device_model.cost.calibration import Calibration
from device_model.memory.use import Logits, MemoryFormulas, Question, most_use, refuse_further_sizes
from device_model.timeline.design import ENERGY, LOAD, NUMERICS, Design, cut
from device_model.timeline.kinds import at_each
from device_model.timeline.pricing import LATENCY, Prices
from device_model.timeline.splits import Split, splits
from device_model.timeline.steps import WAITS, Step, add_up, charges
from device_model.timeline.tasks import Stage, Task, reach, stages
from dsl.diagnostics import refuse
from dsl.graph import Graph

BLOCK = 1 << 16
"""Points evaluated at once, so that arrays stay small."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DesignSpace:
    """Every point of a design with its answers as columns, and how often a mesh does not divide a size."""

    design: Design
    columns: Mapping[str, NDArray[Any]]
    undivided: Mapping[str, int]

    @property
    def points(self) -> int:
        """Return the number of points."""
        return self.design.points

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Return which points fit, divide the sizes, and hide no more of the links' time than other work lasts."""
        columns = self.columns
        return np.asarray(columns["fits"] & columns["divides"] & columns["overlaps"], bool)


def evaluate_design(
    graph: Graph,
    device: Device,
    known: Calibration,
    design: Design,
    progress: Progress | None = None,
    *,
    logits: Logits = Logits.LAST,
) -> DesignSpace:
    """Return the answer at every point of a design; raises `Refused` for what the chip's description lacks."""
    work = _Work(graph, device, known, design, logits)
    parts = []
    undivided: dict[str, int] = {}
    for number, numerics in enumerate(design.numerics):
        columns, splits = work.columns(numerics, number, progress or (lambda _done, _total: None))
        parts.append(columns)
        for split in splits:
            count = int(np.count_nonzero(design.flat(split.broken)))
            undivided[split.text] = undivided.get(split.text, 0) + count
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return DesignSpace(design, joined, undivided)


class _Work:
    """Evaluates one design."""

    def __init__(
        self, graph: Graph, device: Device, known: Calibration, design: Design, logits: Logits
    ) -> None:
        self.graph, self.device, self.known, self.design = graph, device, known, design
        self.logits, last = logits, logits is Logits.LAST
        self.mesh = {axis: design.value(axis, 1) for axis in graph.mesh}
        self.batch, self.seq = design.value("batch", 1), design.value("seq", 1)
        self.context = design.value("context", 0)
        self.prompts = self.batch
        if "prompts" in design.numbers:
            self.prompts = np.minimum(design.value("prompts", 1), self.batch)
        self.chips: Any = prod(self.mesh.values())
        self.decode = self._point(self.batch, 1, self.context)
        self.prefills = bool(np.any(np.asarray(self.seq) > 1))
        self.prefill = self._point(self.prompts, self.seq, 0)
        refuse_further_sizes(graph)
        self.stages = {"decode": stages(graph, self.decode, last_logits=last)}
        if self.prefills:
            self.stages["prefill"] = stages(graph, self.prefill, last_logits=last)
        self._require_links()

    def _require_links(self) -> None:
        """Refuse collectives for which the chip's description has no links."""
        most = max(reach(tasks) for tasks in self.stages.values())
        domain = self.device.quantities.get("domain")
        known = float(np.min(self.design.value("domain", domain.value if domain else 1.0)))
        needed = {"link_bw": most > 1 and known > 1, "scaleout_bw": most > known}
        for key, used in needed.items():
            if used and key not in self.design.numbers and key not in self.device.quantities:
                why = f"collectives reach over {most:.0f} chips, of which {known:.0f} are a domain"
                message = f"the description of {self.device.name} has no `{key}`, and {why}"
                raise refuse("S603", message, help=f"give one: --vary {key}=5e10")

    def _point(self, batch: Any, seq: Any, context: Any) -> dict[str, Any]:
        graph = self.graph
        return {**self.mesh, graph.batch: batch, graph.seq: seq, graph.context: context}

    def columns(
        self, numerics: str, number: int, progress: Progress
    ) -> tuple[dict[str, NDArray[Any]], Sequence[Split]]:
        """Return the columns for one format, and what meshes do not divide."""
        design = self.design
        blocks = list(design.blocks(BLOCK))
        total = len(design.numerics) * len(blocks)
        steps = {name: Step.over(design.shape) for name in self.stages}
        for at, block in enumerate(blocks):
            for name, tasks in self.stages.items():
                steps[name].put(block, self._step(tasks, numerics, block))
            progress(number * len(blocks) + at + 1, total)
        undivided = tuple(splits(self.graph, self.decode))
        divides = ~np.any([np.broadcast_to(s.broken, design.shape) for s in undivided], axis=0)
        columns = {NUMERICS: numerics, **self._inputs()}
        columns |= self._outcome(numerics, steps, np.broadcast_to(divides, design.shape))
        return {name: design.flat(value) for name, value in columns.items()}, undivided

    def _inputs(self) -> dict[str, Any]:
        design = self.design
        load = {"batch": self.batch, "seq": self.seq, "context": self.context}
        load |= {n: design.value(n, 0.0) for n in LOAD if n in design.numbers and n not in load}
        if self.prefills:
            load["prompts"] = self.prompts
        return {**load, **self.mesh, "chips": self.chips, **design.changes()}

    def _outcome(
        self, numerics: str, steps: Mapping[str, Step], divides: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """Return the answers: times are NaN where the mesh does not divide the sizes."""
        decode = steps["decode"]
        host = self.design.value("host", 0.0)
        seconds = np.where(divides, decode.seconds + host, np.nan)
        interval = np.where(divides, decode.interval + host, np.nan)
        answers = {
            "step_s": seconds,
            "tokens_per_s_user": 1.0 / seconds,
            "tokens_per_s_chip": self.batch / (interval * self.chips),
            **_bound("bound", decode, host),
        }
        if self.prefills:
            answers |= self._requests(steps["prefill"], interval, divides)
        # However much of a transfer is said to be hidden, a step lasts as long as its transfers.
        lasts = [s.links <= s.seconds * (1 + 1e-9) for s in steps.values()]
        answers["overlaps"] = np.all(lasts, axis=0)
        return answers | self._memory(numerics, divides) | self._energy(decode, interval)

    def _requests(self, prefill: Step, interval: Any, divides: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the time to prefill the whole batch, step after step, and the rates of requests in a full pipeline."""
        host = self.design.value("host", 0.0)
        rounds = self.batch / self.prompts
        first = np.where(divides, prefill.seconds + host, np.nan)
        each = np.where(divides, prefill.interval + host, np.nan)
        answers = {
            "prefill_s": first + (rounds - 1) * each,
            "prefill_tokens_per_s_chip": self.prompts * self.seq / (each * self.chips),
            **_bound("prefill_bound", prefill, host),
        }
        if "answer" in self.design.numbers:
            answer = self.design.value("answer", 0)
            whole = rounds * each + answer * interval
            answers["out_tokens_per_s"] = self.batch * answer / whole
            answers["in_out_tokens_per_s"] = self.batch * (self.seq + answer) / whole
        return answers

    def _memory(self, numerics: str, divides: NDArray[np.bool_]) -> dict[str, Any]:
        memory = MemoryFormulas(self.graph, numerics, self.logits)
        decode = Question(self.mesh, self.batch, 1, self.context)
        use = memory.use(decode)
        if self.prefills:
            use = most_use(memory, decode, Question(self.mesh, self.prompts, self.seq, 0))
        limit = self.design.value("hbm_bytes", self.device.quantity("hbm_bytes").value)
        return {
            "weights_bytes": use.weights,
            "state_bytes": use.state,
            "activation_bytes": use.activations,
            "memory_bytes": use.total,
            "fits": use.total <= np.floor(limit),
            "divides": divides,
        }

    def _energy(self, step: Step, interval: Any) -> dict[str, Any]:
        """Return the joules of a decoded token, all chips together, where the chip's description allows it."""
        given = self.design.numbers
        if not all(key in given or key in self.device.quantities for key in ENERGY):
            return {}
        idle, flop, byte = (
            self.design.value(key, 0.0) if key in given else self.device.quantity(key).value
            for key in ENERGY
        )
        joules = idle * interval + flop * step.flops + byte * step.bytes
        return {"joules_per_token": joules * self.chips / self.batch}

    def _step(self, tasks: Sequence[Stage], numerics: str, block: tuple[slice, ...]) -> Step:
        """Return the time of a step in one block of points."""
        changes = {name: cut(value, block) for name, value in self.design.changes().items()}
        skew = cut(self.design.value("skew", 0.0), block)
        prices = Prices(self.device, numerics, self.known, skew, changes or None)
        return add_up(charges([_cut_stage(stage, block) for stage in tasks], prices))


def _cut_stage(stage: Stage, block: tuple[slice, ...]) -> Stage:
    """Return the part of a stage that lies in a block."""
    tasks = tuple(_cut_task(task, block) for task in stage.tasks)
    layers, shared = cut(stage.layers, block), cut(stage.stages, block)
    return replace(stage, layers=layers, tasks=tasks, stages=shared)


def _cut_task(task: Task, block: tuple[slice, ...]) -> Task:
    sizes = at_each(task.sizes, lambda value: cut(value, block))
    return replace(task, sizes=sizes, flops=cut(task.flops, block), bytes=cut(task.bytes, block))


def _bound(name: str, step: Step, host: Any) -> dict[str, Any]:
    """Return what most of the time of a step goes to, and its share; what the host does between steps is latency."""
    waits = {**step.waits, LATENCY: step.waits[LATENCY] + host}
    stacked = np.stack(np.broadcast_arrays(*(waits[kind] for kind in WAITS)))
    total = np.maximum(stacked.sum(axis=0), np.finfo(np.float64).tiny)
    kinds = np.asarray(WAITS)[np.argmax(stacked, axis=0)]
    return {name: kinds, f"{name}_share": stacked.max(axis=0) / total}
