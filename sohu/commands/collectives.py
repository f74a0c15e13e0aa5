# SPDX-License-Identifier: Apache-2.0
"""`sohu collective`: schedules of collectives that are checked, timed, made by templates, and found.

What is imported is imported by the action that needs it, as the parser reads the table here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsl.diagnostics import counted, refuse
from sohu.terminal import console

if TYPE_CHECKING:
    from device_model.collectives.events import Times
    from device_model.collectives.program import Program
    from device_model.collectives.topology import Topology

OK = 0
INLINE = "given"
"""The name of a topology that is written on the command line."""


def collective(options: argparse.Namespace) -> int:
    """Do what is asked for: a row of ACTIONS."""
    return ACTIONS[options.action](options)


def check(options: argparse.Namespace) -> int:
    """Prove every schedule of a file, or say what is wrong with it."""
    from device_model.collectives.text import read_programs  # noqa: PLC0415 - for this alone
    from device_model.collectives.verify import verified  # noqa: PLC0415
    from porting.planning.library import read_schedule_text  # noqa: PLC0415

    path = Path(options.what)
    _, written = read_programs(read_schedule_text(path, str(path)))
    proofs = [(one.program, verified(one.program, one.where)) for one in written]
    if options.json:
        rows = [described(program) | {"peak": proof.peak} for program, proof in proofs]
        console.emit({"verdict": "pass", "collectives": rows})
        return OK
    for program, proof in proofs:
        console.say(
            f"{path}: ok ({in_words(program)}; {counted(proof.peak, 'chunk')} at once on a chip)"
        )
    if not proofs:
        console.say(f"{path}: ok (no collective)")
    return OK


def time(options: argparse.Namespace) -> int:
    """Time every schedule of a file on its topology."""
    from device_model.collectives.events import times  # noqa: PLC0415 - for this alone
    from device_model.collectives.text import read_programs  # noqa: PLC0415
    from device_model.collectives.verify import verified  # noqa: PLC0415
    from porting.planning.library import read_schedule_text  # noqa: PLC0415

    if options.trace is not None:
        from dsl.extras import require  # noqa: PLC0415

        require("perfetto")
    path = Path(options.what)
    size = needed(options, "bytes")
    _, written = read_programs(read_schedule_text(path, str(path)))
    if not written:
        raise refuse(
            "S620", f"`{path}` has no collective to time", help="`sohu collective find` writes one"
        )
    for one in written:
        verified(one.program, one.where)
    timed = [(one.program, times(one.program, size)) for one in written]
    if options.trace is not None:
        from sohu.performance.collective_trace import write_trace  # noqa: PLC0415

        write_trace(timed, options.trace)
    if options.json:
        rows = [described(program) | timed_as_dict(program, t, size) for program, t in timed]
        console.emit({"verdict": "pass", "bytes": size, "collectives": rows})
        return OK
    for program, seconds in timed:
        console.say(in_words(program))
        console.say(timed_in_words(program, seconds, size))
    return OK


def template(options: argparse.Namespace) -> int:
    """Write the schedule that a template makes of an operation over a topology."""
    from device_model.collectives.templates import template as make  # noqa: PLC0415 - for this alone
    from device_model.collectives.text import text_of  # noqa: PLC0415
    from device_model.collectives.verify import verified  # noqa: PLC0415

    topology = topology_of(needed(options, "topology"))
    order = "any" if options.exact else "tree"
    program = make(options.what, needed(options, "op"), topology, options.pieces, order)
    proof = verified(program)
    text = text_of([program])
    if options.out is not None:
        from porting.planning.library import write_text  # noqa: PLC0415

        write_text(options.out, text)
    if options.json:
        given = {"out": str(options.out)} if options.out else {"text": text}
        console.emit({"verdict": "pass", **described(program), "peak": proof.peak, **given})
    elif options.out is None:
        console.hand_on(text)
    else:
        console.say(f"{options.out}: {in_words(program)}")
    return OK


def find(options: argparse.Namespace) -> int:
    """Search for a schedule of an operation over a topology, prove it, and say what bounds it."""
    from device_model.collectives.find import find as search  # noqa: PLC0415 - for this alone
    from device_model.collectives.text import text_of  # noqa: PLC0415
    from device_model.collectives.verify import verified  # noqa: PLC0415
    from porting.planning.library import write_text  # noqa: PLC0415
    from sohu.commands.collective_finding import as_data, in_lines  # noqa: PLC0415

    topology, size = topology_of(needed(options, "topology")), needed(options, "bytes")
    order = "any" if options.exact else "tree"
    answer = search(options.what, topology, float(size), order=order)
    proof = verified(answer.program)
    if options.out is not None:
        write_text(options.out, text_of([answer.program]))
    if options.json:
        written = {"out": str(options.out)} if options.out else {}
        facts = {"peak": proof.peak, "bytes": size, **as_data(answer)}
        console.emit({"verdict": "pass", **described(answer.program), **facts, **written})
        return OK
    console.say(in_words(answer.program))
    console.say(in_lines(answer, float(size)))
    if options.out is not None:
        console.say(f"{options.out}: written")
    return OK


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "check": check,
    "time": time,
    "template": template,
    "find": find,
}
"""What `sohu collective` does, by its first word."""


def topology_of(given: str) -> Topology:
    """Return the topology of a file, or of statements such as `torus 4 x 4; link 90 GB/s, 1 us`."""
    from device_model.collectives.text import read_topology  # noqa: PLC0415 - for this alone
    from dsl.source import Source  # noqa: PLC0415
    from porting.planning.library import read_schedule_text  # noqa: PLC0415

    if " " not in given.strip():
        return read_topology(read_schedule_text(Path(given), given))
    return read_topology(Source("--topology", f"sohu 1.0\ntopology {INLINE} {{\n{given}\n}}\n"))


def needed(options: argparse.Namespace, name: str) -> Any:
    """Return an option that this action does not go without; raises `Refused` (S111)."""
    value = getattr(options, name)
    if value is None:
        message = f"`{options.action}` needs `--{name}`"
        raise refuse("S111", message, place="sohu collective")
    return value


def described(program: Program) -> dict[str, object]:
    """Return a program as JSON data, without its sends."""
    return {
        "operation": program.operation,
        "topology": program.topology.name,
        "chips": program.topology.chips,
        "chunks": program.chunks,
        "sends": program.sends,
        "steps": program.steps,
        "order": program.order,
    }


def in_words(program: Program) -> str:
    """Return a program in a line."""
    topology = program.topology
    size = f"{counted(topology.chips, 'chip')}, {counted(program.chunks, 'chunk')}"
    sends = f"{program.sends:,} sends in {counted(program.steps, 'step')}"
    return f"{program.operation} over {topology.name}: {size}, {sends}"


def timed_as_dict(program: Program, timed: Times, size: float) -> dict[str, object]:
    """Return times as JSON data, with what no schedule is below."""
    from device_model.collectives.bound import bound  # noqa: PLC0415 - for a time alone

    least = bound(program.operation, program.topology, size)
    busiest = timed.busiest
    link = _link(program.topology, busiest) if busiest >= 0 else None
    busy = float(timed.busy[busiest]) if busiest >= 0 else 0.0
    bounded = {"bound_seconds": least.seconds, "cut": least.cut}
    return {"seconds": timed.seconds, **bounded, "busiest": link, "busy_seconds": busy}


def timed_in_words(program: Program, timed: Times, size: float) -> str:
    """Return times in lines, with what no schedule is below."""
    from device_model.collectives.bound import bound  # noqa: PLC0415 - for a time alone

    busiest = timed.busiest
    if busiest < 0 or not timed.seconds:
        return "  nothing is sent"
    rate = size / timed.seconds / 1e9
    busy = timed.busy[busiest] / timed.seconds
    least = bound(program.operation, program.topology, size)
    # Rounding may leave a schedule that meets its bound a little below it.
    above = max(timed.seconds / least.seconds - 1.0, 0.0) if least.seconds else 0.0
    return (
        f"  {size:,.0f} bytes in {timed.seconds * 1e6:,.2f} µs: {rate:.4g} GB/s of each chip's buffer\n"
        f"  {above:.1%} above the bound, {least.seconds * 1e6:,.2f} µs by {least.cut}\n"
        f"  busiest is link {_link(program.topology, busiest)}, {busy:.1%} of the time"
    )


def _link(topology: Topology, link: int) -> str:
    source, target = int(topology.source[link]), int(topology.target[link])
    return f"{topology.node_name(source)} -> {topology.node_name(target)}"
