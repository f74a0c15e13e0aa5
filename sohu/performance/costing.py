# SPDX-License-Identifier: Apache-2.0
"""`sohu cost`: formulas of memory and work, and their values in a prefill and a decode step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from device_model.chips.peaks import require_format
from device_model.memory.each_chip import ChipBytes, chip_bytes
from device_model.memory.meshes import conditions, mesh_sizes, several
from device_model.memory.use import MemoryFormulas, MemoryUse, Question, phases
from dsl.counting.growth import Grown, growth
from dsl.counting.stages import pipeline
from dsl.graph import Graph
from dsl.symbolic import Dim, evaluate, text
from sohu.performance.question import Asked
from sohu.terminal import console

HEADS = {"state_per_token": "state per further token"}
SHOWN_CHIPS = 8
PARTS = ("weights", "state", "activations", "total")


@dataclass(frozen=True, slots=True)
class Cost:
    """The memory of a program, the steps at which its formulas are evaluated, and how a sequence's state grows."""

    memory: MemoryFormulas
    questions: Mapping[str, Question]
    uses: Mapping[str, MemoryUse]
    growth: Grown

    @property
    def graph(self) -> Graph:
        """Return the program."""
        return self.memory.graph

    def values(self, name: str, value: Dim) -> dict[str, float]:
        """Return a total's values by step: a state's is that of the step's end, all others those of its begin."""
        at: Callable[[Question], dict[str, Any]]
        at = self.memory.held if name == "state" else self.memory.point
        return {phase: float(evaluate(value, at(q))) for phase, q in self.questions.items()}

    def totals(self) -> dict[str, Dim]:
        """Return the formulas of the whole model on one chip by name."""
        prints = self.memory.footprint
        return {
            "weights": prints.weights,
            "held_weights": self.memory.weights,
            "parameters": prints.parameters,
            "state": self.memory.state,
            "state_per_token": prints.state_per_token,
            "flops": prints.flops,
            "bytes_moved": prints.traffic,
        }

    def as_dict(self) -> dict[str, object]:
        """Return the cost as JSON data."""
        total = {name: self._entry(name, value) for name, value in self.totals().items()}
        total["activations"] = {
            "formulas": [text(c.bytes) for c in self.memory.candidates],
            **{phase: float(use.activations) for phase, use in self.uses.items()},
        }
        at = {phase: self.memory.point(q) for phase, q in self.questions.items()}
        return {
            "family": self.graph.family,
            "numerics": self.memory.numerics,
            "logits": self.memory.logits.value,
            "at": at,
            "memory": {phase: use.as_dict() for phase, use in self.uses.items()},
            "chips": [
                {"at": dict(chip.at), "weights": chip.weights, "state": chip.state}
                for chip in self.chips
            ],
            "state_growth": self.growth.as_dict(),
            "obligations": conditions(self.graph),
            "total": total,
            "parts": [
                {
                    "name": part.name,
                    "layers": part.count,
                    "weights": self._entry("weights", part.weights),
                    "parameters": self._entry("parameters", part.parameters),
                    "state": self._entry("state", part.state),
                    "flops": self._entry("flops", part.flops),
                    "bytes_moved": self._entry("bytes_moved", part.traffic),
                    "ops": [
                        {
                            "op": work.op,
                            "count": work.count,
                            "flops": self._entry("flops", work.flops),
                            "bytes_moved": self._entry("bytes_moved", work.traffic),
                        }
                        for work in part.ops
                    ],
                }
                for part in self.memory.footprint.parts
            ],
        }

    @property
    def chips(self) -> tuple[ChipBytes, ...]:
        """Return what each chip of the mesh holds, none of a single chip or of very many."""
        question = self.questions["decode"]
        if all(size == 1 for size in question.mesh.values()):
            return ()
        entries = question.context + question.new
        return chip_bytes(self.graph, question.mesh, question.batch, entries)

    def _entry(self, name: str, value: Dim) -> dict[str, object]:
        return {"formula": text(value), **self.values(name, value)}


def cost(graph: Graph, question: Asked) -> Cost:
    """Return the cost of a bound program: a prefill of a prompt, and a decode step behind a context."""
    require_format(question.numerics)
    memory = MemoryFormulas(graph, question.numerics, question.logits)
    sizes = dict.fromkeys(graph.mesh, 1) | mesh_sizes(graph, question.mesh, question.batch)
    steps = phases(sizes, question.batch, question.seq, question.context)
    ordered = {phase: steps[phase] for phase in ("prefill", "decode")}
    uses = {phase: memory.use(q) for phase, q in ordered.items()}
    return Cost(memory, ordered, uses, growth(graph).at(sizes))


def show_cost(found: Cost) -> None:
    """Print the cost as tables."""
    graph, question = found.graph, found.questions["decode"]
    mesh = ", ".join(f"{name} = {size}" for name, size in several(question.mesh).items())
    where = (
        f"{graph.batch} = {question.batch:,}; "
        f"prefill {graph.seq} = {found.questions['prefill'].new:,}; "
        f"decode {graph.context} = {question.context:,}; {mesh}"
    )
    staged = pipeline(graph)
    mean = staged is not None and question.mesh[staged.axis] > 1
    whose = "one chip, mean of stages" if mean else "one chip, whole model"
    heads = (whose, "prefill", "decode", "formula")
    console.table(f"{graph.family}: {where}", heads, _rows(found), left=(0, 3))
    console.table(
        f"memory of a step, in bytes; products in {found.memory.numerics}, "
        f"{found.memory.logits.value} logits",
        ("one chip of the fullest stage" if mean else "one chip", "prefill", "decode"),
        [(part, *(f"{getattr(use, part):,}" for use in found.uses.values())) for part in PARTS],
    )
    console.say(f"state on one chip: {found.growth.text()}")
    _show_chips(found.chips)
    _show_parts(found)
    if kept := conditions(graph):
        console.say("holds where", "; ".join(kept))


def _show_chips(chips: Sequence[ChipBytes]) -> None:
    """Print what each chip holds, chips that hold as much together."""
    kinds: dict[tuple[int, int], list[str]] = {}
    for number, chip in enumerate(chips):
        kinds.setdefault((chip.weights, chip.state), []).append(str(number))
    if not kinds:
        return
    rows = [
        (_listed(numbers), f"{weights:,}", f"{state:,}")
        for (weights, state), numbers in kinds.items()
    ]
    console.table(
        f"on each of {len(chips)} chips, in bytes, as stored",
        ("chips", "weights", "state of a batch"),
        rows,
    )


def _listed(numbers: Sequence[str]) -> str:
    shown = ", ".join(numbers[:SHOWN_CHIPS])
    return (
        shown if len(numbers) <= SHOWN_CHIPS else f"{shown} and {len(numbers) - SHOWN_CHIPS} more"
    )


def _rows(found: Cost) -> list[tuple[str, ...]]:
    """Return a row for each total and each candidate for the peak of activations."""
    totals = found.totals()
    if totals["held_weights"] == totals["weights"]:
        del totals["held_weights"]
    rows = [
        (
            HEADS.get(name, name.replace("_", " ")),
            *_shown(found.values(name, value)),
            _formula(found, name, value),
        )
        for name, value in totals.items()
    ]
    for number, candidate in enumerate(found.memory.candidates):
        name = "activations" if number == 0 else "  or"
        place = f"{candidate.op}, {candidate.place}" if candidate.place else candidate.op
        values = _shown(found.values("activations", candidate.bytes))
        rows.append((name, *values, f"{text(candidate.bytes)}  at {place}"))
    return rows


def _formula(found: Cost, name: str, value: Dim) -> str:
    ends = f"  with {found.graph.context} as the step ends" if name == "state" else ""
    return f"{text(value)}{ends if value else ''}"


def _show_parts(found: Cost) -> None:
    columns = {"weights": "weights", "state": "state", "flops": "FLOPs", "traffic": "bytes moved"}
    parts = [
        (
            part.name,
            str(part.count),
            *(f"{found.values(n, getattr(part, n))['decode']:,.0f}" for n in columns),
        )
        for part in found.memory.footprint.parts
    ]
    heads = ("one layer, decode", "layers", *columns.values())
    console.table("per layer class", heads, parts)
    formulas = [
        (part.name, head, text(getattr(part, name)))
        for part in found.memory.footprint.parts
        for name, head in columns.items()
    ]
    console.table("formulas of one layer", ("", "", "formula"), formulas, left=(0, 1, 2))


def _shown(values: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{value:,.0f}" for value in values.values())
