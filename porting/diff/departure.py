# SPDX-License-Identifier: Apache-2.0
"""`sohu diff`: walk a port beside its original model and say where it departs, and by which operation.

Matching is `matching`'s, the walk `search`'s. Only the f32 numerics is compared: lower precisions differ by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device_model.engine.plan import plan
from device_model.numbers.catalogue import numerics_named
from device_model.weights.reading import TensorReader
from dsl.diagnostics import refuse
from dsl.graph import Graph
from porting.diff import reproduction
from porting.diff.search import Comparison, Guilty, Search
from porting.files.progress import Progress, silent
from porting.original.reference import Reference, Stretch
from porting.verdict.feeding import CHUNK
from porting.verdict.rows import sample_rows

FOLDER = "diff"


@dataclass(frozen=True, slots=True)
class Departure:
    """Every part of a port beside the reference; `reproduction` is the folder with the first guilty operation."""

    parts: tuple[Comparison, ...]
    reproduction: Path | None = None

    @property
    def sources(self) -> tuple[Comparison, ...]:
        """Return the parts that depart although they got the reference's own values."""
        return tuple(part for part in self.parts if part.guilty is not None)

    def as_dict(self) -> dict[str, object]:
        """Return it for `--json`."""
        return {
            "verdict": "fail" if self.sources else "pass",
            "parts": [
                {
                    "part": p.name,
                    "steps": p.steps,
                    "error": p.error,
                    "departs": p.guilty is not None,
                }
                for p in self.parts
            ],
            "guilty": [_described(p.guilty) for p in self.sources if p.guilty is not None],
            "reproduction": str(self.reproduction) if self.reproduction else None,
        }


def compare(
    graph: Graph, reader: TensorReader, model: Reference, progress: Progress = silent
) -> Departure:
    """Compare a port with a float64 reference over the first sample row: at once and, if that agrees, in chunks."""
    tokens = sample_rows(model.vocab_size, model.special_tokens())[0].tolist()
    search = Search(plan(graph, reader, numerics_named("f32")), tokens)
    at_once = Departure(_walk(search, model, tokens, 0, progress))
    if at_once.sources:
        return at_once
    in_chunks = Departure(_walk(search, model, tokens, CHUNK, progress))
    return in_chunks if in_chunks.sources else at_once


def _walk(
    search: Search, model: Reference, tokens: Sequence[int], chunk: int, progress: Progress
) -> tuple[Comparison, ...]:
    parts: list[Comparison] = []
    stage = "compare in chunks" if chunk else "compare"

    def visit(stretch: Stretch) -> None:
        if search.parts != stretch.parts:
            message = f"the port has {search.parts - 2} layers, the original {stretch.parts - 2}"
            raise refuse("S581", message)
        progress(stage, stretch.number, stretch.parts)
        parts.append(search.compare(stretch, chunk))
        progress(stage, stretch.number + 1, stretch.parts)

    model.walk(tokens, visit)
    return tuple(parts)


def line_of(guilty: Guilty) -> str:
    """Return the text of the guilty operation's first line."""
    row, _ = guilty.span.source.position(guilty.span.start)
    return guilty.span.source.line(row).strip()


def place_of(guilty: Guilty) -> str:
    """Return file, line and column of the guilty operation."""
    row, column = guilty.span.source.position(guilty.span.start)
    return f"{guilty.span.source.name}:{row + 1}:{column + 1}"


def reproduced(departure: Departure, folder: Path) -> Departure:
    """Write the first guilty operation beside the port, where it can be written."""
    first: Sequence[Guilty] = [p.guilty for p in departure.sources if p.guilty is not None][:1]
    target = folder / FOLDER
    if first and reproduction.write(target, first[0], line_of(first[0])):
        return Departure(departure.parts, target)
    return departure


def _described(guilty: Guilty) -> dict[str, object]:
    return {
        "op": guilty.op,
        "layer": guilty.layer,
        "place": place_of(guilty),
        "text": line_of(guilty),
        "nearest": guilty.nearest,
    }
