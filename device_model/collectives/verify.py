# SPDX-License-Identifier: Apache-2.0
"""The proof of a collective program, by running it on symbols: all that can be wrong, in one message a cause.

A program is right if every send has a link, or switches that lead there; takes what is there before its step; brings
nothing that is there already; and if in the end every chip has what the operation promises, sums being complete and
added as the declared tree says. What is wrong on the way but replaced before the end does no harm and is not refused.

No right program deadlocks: a send waits only for sends of earlier steps (its chunk) and for sends that are written
before it (its links), so the order of writing is an order of running. Time and the size of chunks play no part here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.program import SUMS, Program, begins_at, ends_at
from device_model.collectives.routes import routes
from device_model.collectives.sums import Sums, exact_sums, some, tree_sums
from dsl.diagnostics import Diagnostic, Refused
from dsl.source import Span

MOST_BYTES = 1 << 30
MOST_FAULTS = 20
MOST_STEPS = 100_000
MOST_WORDS = 6
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]
Where = Callable[[int], Span | None]


@dataclass(frozen=True, slots=True)
class Proof:
    """What running a program on symbols showed: what is wrong, and how much a chip holds at most, in chunks."""

    faults: tuple[Diagnostic, ...]
    peak: int


@dataclass(slots=True)
class _Findings:
    """The faults of a program, each once, with the places of their sends."""

    program: Program
    where: Where
    faults: list[Diagnostic] = field(default_factory=list)
    left_out: int = 0

    def add(self, code: str, send: int, message: str, help: str = "") -> None:
        """Note what is wrong with a send, or with the whole where `send` is -1."""
        if len(self.faults) >= MOST_FAULTS:
            self.left_out += 1
            return
        span = self.where(send) if send >= 0 else None
        place = f"collective {self.program.operation} over {self.program.topology.name}"
        text = f"{named(self.program, send)}: {message}" if send >= 0 else message
        self.faults.append(Diagnostic(code, text, span, place="" if span else place, help=help))

    def all(self, code: str, sends: Indices, message: Callable[[int], str], help: str = "") -> None:
        """Note the same fault of several sends, each with words of its own."""
        for send in sends[:MOST_FAULTS].tolist():
            self.add(code, send, message(send), help)
        self.left_out += max(0, len(sends) - MOST_FAULTS)

    def result(self) -> tuple[Diagnostic, ...]:
        """Return the faults; the last one says how many were left out."""
        if not self.left_out:
            return tuple(self.faults)
        *first, last = self.faults
        note = f"{self.left_out} more are not shown"
        return (
            *first,
            Diagnostic(last.code, last.message, last.span, last.text, last.place, notes=(note,)),
        )


def named(program: Program, send: int) -> str:
    """Return a send in words: its step, its number in it, and itself; all counted from 0."""
    step = int(np.searchsorted(program.begins, send, "right")) - 1
    node = program.topology.node_name
    ends = f"{node(int(program.source[send]))} -> {node(int(program.target[send]))}"
    add = " add" if program.add[send] else ""
    number = send - int(program.begins[step])
    return f"step {step}, send {number}, `{ends}: c{int(program.chunk[send])}{add}`"


def verified(program: Program, where: Where = lambda send: None) -> Proof:
    """Return the proof of a program that is right; raises `Refused` of one that is not."""
    proof = verify(program, where)
    if proof.faults:
        raise Refused(proof.faults)
    return proof


def verify(program: Program, where: Where = lambda send: None) -> Proof:
    """Return what is wrong with a program: nothing, if it is right (see above); S622 to S628."""
    findings = _Findings(program, where)
    _check_size(program, findings)
    if not findings.faults:
        _check_sends(program, findings)
    if findings.faults:
        return Proof(findings.result(), 0)
    if program.operation in SUMS:
        _check_sums(program, findings)
    else:
        _check_copies(program, findings)
    return Proof(findings.result(), 0 if findings.faults else peak(program))


def _sums(program: Program) -> Sums:
    make = tree_sums if program.order == "tree" else exact_sums
    return make(program.topology.chips)


def _check_size(program: Program, findings: _Findings) -> None:
    width = 1
    if program.operation in SUMS:
        words = 2 if program.order == "tree" else -(-program.topology.chips // 62)
        width = 8 * (words + 1)
    size = program.topology.holders * program.chunks * width
    # The table of what is held when has a row of steps for each holder.
    size = max(size, 8 * program.topology.holders * program.steps)
    if size > MOST_BYTES:
        message = (
            f"{program.chunks:,} chunks on {program.topology.holders:,} chips are too many to follow:"
            f" {size / 2**30:.1f} GiB of symbols, at most {MOST_BYTES / 2**30:.0f} GiB"
        )
        findings.add("S628", -1, message, "take fewer chunks; they may be as large as you like")
    if program.steps > MOST_STEPS:
        message = f"{program.steps:,} steps are too many to follow, at most {MOST_STEPS:,}"
        findings.add("S628", -1, message, "nothing waits for the end of a step: put sends together")


def _check_sends(program: Program, findings: _Findings) -> None:
    """Note the sends that cannot be, whatever is where."""
    topology = program.topology
    holders = topology.holders
    ends = np.stack([program.source, program.target])
    strange = ((ends < 0) | (ends >= holders)).any(0)
    chunk = (program.chunk < 0) | (program.chunk >= program.chunks)
    adds = program.add & (program.operation not in SUMS)
    findings.all(
        "S622",
        np.flatnonzero(strange),
        lambda i: f"{topology.name} has no such chip, {holders} hold chunks",
    )
    findings.all("S622", np.flatnonzero(chunk), lambda i: f"there are {program.chunks} chunks")
    findings.all(
        "S622", np.flatnonzero(adds), lambda i: f"{program.operation} has no sums to add to"
    )
    silent = (
        topology.shape.reduces == "any" and program.order == "tree" and program.operation in SUMS
    )
    in_switch = (program.target >= topology.chips) & program.add & silent
    findings.all(
        "S622",
        np.flatnonzero(in_switch),
        lambda i: "this switch does not tell the order in which it adds",
    )
    if findings.faults:
        return
    _, links = routes(topology, program.source, program.target)
    findings.all("S623", np.flatnonzero(links == 0), lambda i: f"{topology.name} has no such link")


def _steps(program: Program) -> Iterator[Indices]:
    """Yield the numbers of the sends of each step."""
    for first, last in zip(program.begins[:-1].tolist(), program.begins[1:].tolist(), strict=True):
        if last > first:
            yield np.arange(first, last)


def _repeated(places: Indices) -> Flags:
    """Return whether an earlier entry has the same place."""
    _, first = np.unique(places, return_index=True)
    again = np.ones(len(places), bool)
    again[first] = False
    return again


def _check_copies(program: Program, findings: _Findings) -> None:
    """Run an operation without sums; a send that is wrong is taken for right, so that it is blamed alone."""
    chips, chunks = program.topology.chips, program.chunks
    has = np.zeros(program.topology.holders * chunks, bool)
    has[
        begins_at(program.operation, chips, chunks).astype(np.int64) * chunks + np.arange(chunks)
    ] = True
    source = program.source.astype(np.int64) * chunks + program.chunk
    target = program.target.astype(np.int64) * chunks + program.chunk
    for sends in _steps(program):
        come, go = source[sends], target[sends]
        absent, again = ~has[come], has[go] | _repeated(go)
        findings.all("S624", sends[absent], lambda i: "the chunk is not there before this step")
        findings.all("S625", sends[again], lambda i: "the chunk arrives where it is already")
        has[come] = True
        has[go] = True
    ends = ends_at(program.operation, chips, chunks)
    asked = (ends[None, :] == np.arange(chips)[:, None]) | (ends < 0)
    lacking = asked & ~has.reshape(-1, chunks)[:chips]
    # Chips that lack the same chunks are one cause.
    short = np.flatnonzero(lacking.any(1))
    rows, kind = np.unique(np.packbits(lacking[short], 1), axis=0, return_inverse=True)
    for number in range(min(len(rows), MOST_FAULTS + 1)):
        chips_short = short[kind.ravel() == number]
        missing = some(np.flatnonzero(lacking[chips_short[0]]))
        who = "chip {} ends" if len(chips_short) == 1 else "chips {} end"
        findings.add("S626", -1, f"{who.format(some(chips_short))} without chunks {missing}")


@dataclass(slots=True)
class _State:
    """What every place (node, chunk) has: a value, and the send that spoiled it, -1 where none did."""

    values: NDArray[np.int64]
    there: Flags
    spoiled: Indices


def _begin(program: Program, sums: Sums) -> _State:
    holders, chips, chunks = program.topology.holders, program.topology.chips, program.chunks
    values = np.zeros((holders * chunks, sums.width), np.int64)
    values[: chips * chunks] = np.repeat(sums.leaves, chunks, 0)
    there = np.arange(holders * chunks) < chips * chunks
    return _State(values, there, np.full(holders * chunks, -1, np.int64))


def _check_sums(program: Program, findings: _Findings) -> None:
    """Run an operation with sums; what goes wrong in a value is only wrong if the value is asked for."""
    sums = _sums(program)
    state = _begin(program, sums)
    for sends in _steps(program):
        _advance(program, sums, state, sends, findings)
    chips, chunks = program.topology.chips, program.chunks
    ends = ends_at(program.operation, chips, chunks)
    asked = np.flatnonzero(((ends[None, :] == np.arange(chips)[:, None]) | (ends < 0)).ravel())
    culprits = np.unique(state.spoiled[asked])
    culprits = culprits[culprits >= 0]
    why = _why(program, sums, culprits[:MOST_FAULTS])
    findings.all("S627", culprits, lambda send: why[send], _HELP[program.order])
    short = (state.spoiled[asked] < 0) & (state.values[asked] != sums.complete).any(1)
    # A value that was never sent on to many chips is one cause: name each chunk once.
    _, first = np.unique(asked[short] % chunks, return_index=True)
    for place in asked[short][first][: MOST_FAULTS + 1].tolist():
        chip, chunk = divmod(place, chunks)
        parts = some(sums.held(state.values[place]))
        message = f"chip {chip} ends with the parts of ranks {parts} alone in chunk {chunk}"
        findings.add("S626", -1, message)


_HELP = {
    "tree": "the declared tree halves the ranks: (0 + 1) + (2 + 3); sums that are exact in any order say `exact`",
    "any": "each rank's part is added once",
}


def _advance(
    program: Program, sums: Sums, state: _State, sends: Indices, findings: _Findings
) -> None:
    """Run one step: plain sends replace, sends that add are joined with what is there."""
    chunk = program.chunk[sends].astype(np.int64)
    come = program.source[sends] * np.int64(program.chunks) + chunk
    go = program.target[sends] * np.int64(program.chunks) + chunk
    add = program.add[sends]
    absent = ~state.there[come]
    findings.all("S624", sends[absent], lambda i: "nothing is there before this step")
    values, spoiled = state.values[come], state.spoiled[come]
    alone = ~np.isin(go, go[_repeated(go)])
    same = (
        state.there[go]
        & (state.values[go] == values).all(1)
        & (state.spoiled[go] < 0)
        & (spoiled < 0)
    )
    twice = ~add & (same | ~alone) & ~absent
    findings.all(
        "S625", sends[twice], lambda i: "it arrives where it is, or where another arrives, already"
    )
    plain = ~add & ~absent
    adds = np.flatnonzero(add & ~absent)
    joined = _join(sums, state, go[adds], values[adds], spoiled[adds], sends[adds])
    state.values[go[plain]], state.spoiled[go[plain]] = values[plain], spoiled[plain]
    state.there[go[plain]] = True
    places, total, bad = joined
    state.values[places], state.spoiled[places], state.there[places] = total, bad, True


def _join(
    sums: Sums,
    state: _State,
    go: Indices,
    values: NDArray[np.int64],
    spoiled: Indices,
    sends: Indices,
) -> tuple[Indices, NDArray[np.int64], Indices]:
    """Return the places that sends add to, what they have then, and which send spoiled it."""
    if not len(go):
        return go, values, spoiled
    own = np.unique(go)
    own = own[state.there[own]]
    place = np.concatenate([own, go])
    value = np.concatenate([state.values[own], values])
    bad = np.concatenate([state.spoiled[own], spoiled])
    send = np.concatenate([np.full(len(own), -1), sends])
    order = np.lexsort((value[:, 0], place))
    place, value, bad, send = place[order], value[order], bad[order], send[order]
    begins = np.flatnonzero(np.concatenate([[True], place[1:] != place[:-1]]))
    total, whole = sums.join(value, begins)
    inherited = np.maximum.reduceat(bad, begins)
    culprit = np.where(whole, -1, np.maximum.reduceat(send, begins))
    return place[begins], total, np.where(inherited >= 0, inherited, culprit)


def _why(program: Program, sums: Sums, wanted: Indices) -> dict[int, str]:
    """Return what each of some sends added to what, by running the program again."""
    if not len(wanted):
        return {}
    state, result = _begin(program, sums), dict[int, str]()
    silent = _Findings(program, lambda send: None)
    for sends in _steps(program):
        for send in wanted[(wanted >= sends[0]) & (wanted <= sends[-1])].tolist():
            result[send] = _added(program, sums, state, sends, send)
        _advance(program, sums, state, sends, silent)
    return result


def _added(program: Program, sums: Sums, state: _State, sends: Indices, send: int) -> str:
    """Return what a send, and those that arrive with it, add to what is there before their step."""
    chunk, target = int(program.chunk[send]), int(program.target[send])
    here = sends[(program.target[sends] == target) & (program.chunk[sends] == chunk)]
    come = [int(program.source[i]) * program.chunks + chunk for i in here[:MOST_WORDS]]
    brought = " and of ".join(f"ranks {some(sums.held(state.values[p]))}" for p in come)
    if len(here) > MOST_WORDS:
        brought += f" and of {len(here) - MOST_WORDS} more"
    place = target * program.chunks + chunk
    there = f"those of ranks {some(sums.held(state.values[place]))}"
    own = there if state.there[place] else "nothing"
    why = "that is no sum of the declared tree" if program.order == "tree" else "some come twice"
    return f"adds the parts of {brought} to {own}, and {why}"


def peak(program: Program) -> int:
    """Return the most chunks that a chip, or a switch that adds, holds at once.

    A chunk is held from the beginning, or from the step in which it comes, to the last step in which it is sent or
    added to, or to the end where it is asked for; what comes to be added is held beside it in its step.
    """
    topology, chunks, steps = program.topology, program.chunks, program.steps
    chips = topology.chips
    at, step = np.arange(chunks), program.step_of().astype(np.int64)
    ends = ends_at(program.operation, chips, chunks)
    every = np.arange(chips * chunks)
    if program.operation in SUMS:
        first = every
    else:
        first = begins_at(program.operation, chips, chunks).astype(np.int64) * chunks + at
    last = every if ends[0] < 0 else ends.astype(np.int64) * chunks + at
    come = program.source.astype(np.int64) * chunks + program.chunk
    go = program.target.astype(np.int64) * chunks + program.chunk
    places, index = np.unique(np.concatenate([first, last, come, go]), return_inverse=True)
    a, b, c, d = np.split(index, np.cumsum([len(first), len(last), len(come)]))
    born, gone = np.full(len(places), steps, np.int64), np.zeros(len(places), np.int64)
    np.minimum.at(born, d, step)
    born[a] = 0
    for where, when in ((c, step), (d, step), (b, np.full(len(b), steps))):
        np.maximum.at(gone, where, when)
    held = np.zeros((topology.holders, steps + 2), np.int64)
    np.add.at(held, (places // chunks, born), 1)
    np.add.at(held, (places // chunks, gone + 1), -1)
    held = np.cumsum(held, 1)
    np.add.at(held, (program.target[program.add], step[program.add]), 1)
    return int(held.max(initial=0))
