# SPDX-License-Identifier: Apache-2.0
"""`sohu fit`: whether a program fits a device, how far it could grow there, and the mesh that would do."""

from __future__ import annotations

from collections.abc import Mapping

from device_model.chips.chip import device as device_named
from device_model.chips.peaks import require_format
from device_model.memory.capacity import Capacity, Fit
from device_model.memory.meshes import mesh_sizes, several
from device_model.memory.use import MemoryFormulas
from dsl.graph import Graph
from sohu.performance.question import Asked
from sohu.terminal import console

GIB = 2**30
PARTS = ("weights", "state", "activations", "total")


def fit(graph: Graph, name: str, question: Asked) -> Fit:
    """Return whether a bound program fits a device."""
    chip = device_named(name)
    require_format(question.numerics, chip)
    capacity = Capacity(MemoryFormulas(graph, question.numerics, question.logits))
    mesh = mesh_sizes(graph, question.mesh, question.batch)
    return capacity.fit(chip, mesh, question.batch, question.seq, question.context)


def fit_as_dict(found: Fit) -> dict[str, object]:
    """Return the outcome as JSON data."""
    return {
        "verdict": "pass" if found.fits else "fail",
        "device": found.device.id,
        "mesh": dict(found.mesh),
        "numerics": found.numerics,
        "logits": found.logits.value,
        "limit_bytes": found.limit,
        "phase": found.phase,
        "bytes": found.use.as_dict(),
        "phases": {
            name: {
                "batch": step.question.batch,
                "new_tokens": step.question.new,
                "context": step.question.context,
                "bytes": step.use.as_dict(),
                "max_context": step.max_context,
                "max_batch": _by_length(step.max_batch),
            }
            for name, step in found.steps.items()
        },
        "largest": found.largest,
        "max_context": found.max_context,
        "model_context": found.longest,
        "memory_context": found.memory_context,
        "max_batch": _by_length(found.max_batch),
        "mesh_needed": dict(found.mesh_needed) if found.mesh_needed else None,
    }


def _by_length(batches: Mapping[int, int | None]) -> dict[str, int | None]:
    return {str(length): batch for length, batch in batches.items()}


def show_fit(found: Fit) -> None:
    """Print the outcome for a person."""
    limit = found.limit
    mesh = ", ".join(f"{axis} = {size}" for axis, size in several(found.mesh).items())
    uses = {name: step.use for name, step in found.steps.items()}
    rows = [(p, *_sizes(found, {n: getattr(use, p) for n, use in uses.items()})) for p in PARTS]
    rows.append(("memory", *_sizes(found, dict.fromkeys(uses, limit))))
    source = found.device.quantity("hbm_bytes")
    heads = (
        f"one chip of {mesh}",
        *(f"{name},\nbytes" for name in found.steps),
        f"{found.phase},\nGiB",
        "of memory",
    )
    console.table(f"{found.device.name}; memory: {source.source}", heads, rows)
    if found.beyond is not None:
        asked, longest = f"{found.beyond:,}", f"{found.longest:,}"
        console.say(f"note: asked for a sequence of {asked} tokens; the model is for {longest}")
    if found.fits:
        _show_room(found)
        console.say(f"verdict: fits, at most in {found.phase}")
        return
    over = (found.use.total - limit) / GIB
    console.say(f"{over:,.2f} GiB too much in {found.phase}; the largest part is {found.largest}")
    if found.mesh_needed is None:
        console.say("no legal mesh of up to 4,096 chips would do")
    else:
        needed = ",".join(f"{axis}={size}" for axis, size in several(found.mesh_needed).items())
        console.say(f"the smallest mesh that would do: {needed}")
    console.say("verdict: does not fit")


def _sizes(found: Fit, values: Mapping[str, int]) -> tuple[str, ...]:
    """Return bytes of each step, and of the larger one in GiB and as a share of the memory."""
    most = values[found.phase]
    each = (f"{value:,}" for value in values.values())
    return (*each, f"{most / GIB:,.2f}", f"{most / found.limit:.1%}")


def _show_room(found: Fit) -> None:
    """Print how far the load could grow."""
    console.say(f"largest context at this batch: {found.context_text()}")
    if found.max_batch:
        console.say(f"largest batch by context: {_batches(found.max_batch)}")
    for name, step in found.steps.items():
        if step.max_batch != found.max_batch:
            console.say(
                f"in {name} alone: a context of {_any(step.max_context)}; {_batches(step.max_batch)}"
            )


def _batches(batches: Mapping[int, int | None]) -> str:
    return ", ".join(f"{_any(batch)} at {length:,}" for length, batch in batches.items())


def _any(bound: int | None) -> str:
    return "any size" if bound is None else f"{bound:,}"
