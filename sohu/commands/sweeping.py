# SPDX-License-Identifier: Apache-2.0
"""`sohu sweep`: vary a chip, a load, a mesh or the numerics, and show what the best of them would do."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np

from device_model.chips.chip import QUANTITIES
from device_model.chips.chip import device as device_named
from device_model.cost.calibration import calibration
from device_model.memory.meshes import parse_mesh, several
from device_model.memory.use import Logits
from device_model.timeline.design_space import DesignSpace, evaluate_design
from porting.planning.bound import bound_graph
from porting.planning.library import write_text
from sohu.nodes.on_ray import joined as joined_cluster
from sohu.nodes.on_ray import outcomes
from sohu.performance.sweeps.axes import parse_design
from sohu.performance.sweeps.spread import Piece, evaluated, joined, pieces
from sohu.performance.sweeps.sweep import Sweep
from sohu.terminal import console

OK, FAILED = 0, 1
STAGE = "blocks of designs"
PIECES = 16
"""Pieces of a sweep on a cluster: some for each of its workers, and no more than may be lost at once."""
Progress = Callable[[str, int, int], None]


def sweep(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.out is not None:
        from sohu.terminal import tables  # noqa: PLC0415 - pyarrow, for a table alone

        tables.check_suffix(options.out)
    swept = sweep_of(options)
    if options.out is not None:
        tables.write_table(tables.table_of(swept.columns), options.out)
    if options.html is not None:
        from sohu.performance.sweeps.page import render_sweep  # noqa: PLC0415 - needs the page's libraries

        write_text(options.html, render_sweep(swept))
    if options.json:
        console.emit(swept.as_dict())
    else:
        show(swept)
        for path in filter(None, (options.out, options.html)):
            console.say(path)
    return OK if swept.usable.any() else FAILED


def sweep_of(options: argparse.Namespace) -> Sweep:
    """Return what the options ask for; raises `Refused`."""
    graph = bound_graph(options.path, console.note)
    chip = device_named(options.device)
    given = {"batch": options.batch, "seq": options.seq, "context": options.context}
    given |= several(dict.fromkeys(graph.mesh, 1) | parse_mesh(options.mesh, graph))
    given |= {n: v for n in ("skew", "host") if (v := getattr(options, n))}
    design = parse_design(graph, chip, given, options.numerics, options.vary)
    start = time.perf_counter()
    with console.bars(quiet=options.json or options.quiet) as progress:
        whole = Piece(graph, chip, design, Logits(options.logits))
        if options.ray:
            space = _spread(whole, options.ray, progress)
        else:
            space = evaluate_design(
                graph,
                chip,
                calibration(chip),
                design,
                lambda done, of: progress(STAGE, done, of),
                logits=whole.logits,
            )
    return Sweep(options.path.resolve().stem, chip, space, time.perf_counter() - start)


def _spread(whole: Piece, address: str, progress: Progress) -> DesignSpace:
    """Return the answers of a design whose pieces a Ray cluster evaluates."""
    parts = pieces(whole, PIECES)
    made: dict[int, DesignSpace] = {}
    with joined_cluster(address, os.cpu_count() or 1) as ray:
        for number, outcome in outcomes(ray, lambda i: evaluated(parts[i]), range(len(parts))):
            if isinstance(outcome, BaseException):
                raise outcome
            made[number] = outcome
            progress("pieces", len(made), len(parts))
    return joined(whole.design, [made[number] for number in range(len(parts))])


def show(swept: Sweep) -> None:
    """Print the points or their front, the best by value, and what was left out and why."""
    space = swept.space
    console.say(f"{swept.name} on {swept.device.name}")
    console.say("fixed:", ", ".join(f"{name} {value}" for name, value in swept.fixed))
    title = f"all {space.points:,} points"
    if not swept.whole:
        title = f"front of {space.points:,} points: {len(swept.shown)} of its {len(swept.front):,}"
        if swept.loads:
            title = (
                f"fronts of {space.points:,} points, one for each {' and '.join(swept.loads)}: "
                f"{len(swept.shown)} of their {len(swept.front):,}"
            )
    if swept.shown:
        console.table(title, swept.heads, [swept.row(i) for i in swept.shown])
    if not swept.whole:
        rows = [
            (name if number == 0 else "", b.value, f"{b.usable:,} of {b.points:,}",
             _number(b.user), _number(b.chip))
            for name, values in swept.best()
            for number, b in enumerate(values)
        ]  # fmt: skip
        heads = ("the best with", "", "usable", "tokens/s a user", "tokens/s a chip")
        console.table("the best that each value allows", heads, rows)
    console.say(
        f"{space.points:,} points, {int(swept.usable.sum()):,} usable, in {swept.seconds:.2f} s"
    )
    for text, count in space.undivided.items():
        console.say(f"{count:,} not divided by the mesh: {text}")
    guesses = [n for n in swept.names if n in QUANTITIES and n in swept.device.quantities]
    for name in guesses:
        console.say(f"{name}: {swept.device.quantities[name].source}")
    verdict = "pass" if swept.usable.any() else "no point is usable"
    console.say(f"verdict: {verdict}{f'; {swept.summary}' if swept.reasons else ''}")


def _number(value: float) -> str:
    return f"{value:,.1f}" if np.isfinite(value) else "–"
