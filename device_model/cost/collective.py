"""Time of collectives by the algorithm that is least: ring, tree, direct, one-shot, in-switch, hierarchical.

An algorithm is a number of hops and a number of bytes that one chip sends; three protocols carry them: flags beside the
data (one hop is cheap, few bytes a second), packed flags (dearer hops, a fraction of the link), and bulk (a start, then
nearly the whole link). The least of the three is the time of the algorithm, the least of the algorithms in the menu the
time of the collective, and which one it was is returned beside it.

Messages are the full buffer: the gathered result of an all_gather, the whole input of a reduce_scatter. Contention
between collectives, the order of additions and overlap with compute are not modelled here. No measurement here crosses
a domain: the terms of the scale-out network are formulas with an unfitted latency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Chip, Number, least, overlapped

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
ALGORITHMS = ("ring", "tree", "direct", "one-shot", "in-switch", "hierarchical", "none")
"""Names of the indices that `collective` returns; "none" is a single chip, and direct all_reduce is two-shot."""
LIBRARY = ("ring", "tree", "in-switch", "hierarchical")
"""What a library such as NCCL takes for reductions and gathers; its all_to_all is always direct."""
MESH = (*LIBRARY, "direct", "one-shot")
"""The same with kernels that write to all peers at once."""

BOARD = 8.0  # chips that a library's tree joins by a chain
SHARPNESS = 4.0  # latencies of hops hide nearly the whole of a shorter transfer


@dataclass(frozen=True, slots=True)
class CollectiveParameters:
    """Fitted constants of collectives on one kind of link."""

    start: float
    """Seconds to launch and to finish."""
    hop: float
    """Seconds of one hop with flags beside the data."""
    bulk_hop: float
    """Seconds of one hop of the two protocols for larger messages."""
    low: float
    """Share of the link with flags beside the data."""
    middle: float
    """Share of the link with packed flags."""
    bulk: float
    """Share of the link in bulk."""
    bulk_start: float
    """Seconds that the bulk protocol needs before its first hop."""
    copy: float
    """Own chunk's local copy, in times of sending it."""
    fill: float
    """Seconds that one piece of a pipelined bulk transfer costs beyond its bytes."""
    switch: float = 0.8
    """Share of the bulk rate that reductions inside of the switch reach; only fitted where the switch has them."""
    far_hop: float = 5e-6
    """Seconds of one hop on the scale-out network; not fitted."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """How chips lie in domains."""

    chips: Array
    inside: Array
    domains: Array


def _shape(chips: Number, chip: Chip) -> _Shape:
    count = np.maximum(np.asarray(chips, np.float64), 1.0)
    inside = np.minimum(count, np.maximum(np.asarray(chip.domain, np.float64), 1.0))
    return _Shape(count, inside, np.ceil(count / inside))


def _protocols(
    p: CollectiveParameters, near: Number, far: Number, sent: Array, chunk: Number, rate: Array
) -> dict[str, Array]:
    """Return seconds by protocol after the start, for hops near and far and for bytes sent at a rate."""
    beyond = np.asarray(far) * p.far_hop
    hops = np.asarray(near) * p.bulk_hop + beyond
    payload = (sent + p.copy * np.asarray(chunk)) / (p.bulk * rate)
    # With the best number of pieces, pipelining costs the root of the transfer.
    piped = payload + 2.0 * np.sqrt(p.fill * payload)
    return {
        "low": np.asarray(near) * p.hop + beyond + sent / (p.low * rate),
        "middle": overlapped(SHARPNESS, hops, sent / (p.middle * rate)),
        "bulk": overlapped(SHARPNESS, p.bulk_start + hops, piped),
    }


def _rounds(op: str) -> float:
    return 2.0 if op == "all_reduce" else 1.0


def _ring(
    op: str, size: Array, s: _Shape, link: Array, far: Array, p: CollectiveParameters
) -> dict[str, Array]:
    # One ring per network port of a domain: all ports carry it from domain to domain.
    rate = np.where(s.domains > 1, np.minimum(link, s.inside * far), link)
    chunk = size / s.chips
    steps = _rounds(op) * (s.chips - 1)
    crossings = _rounds(op) * np.where(s.domains > 1, s.domains, 0.0)
    return _protocols(p, np.maximum(steps - crossings, 0.0), crossings, steps * chunk, chunk, rate)


def _tree(
    op: str, size: Array, s: _Shape, link: Array, far: Array, p: CollectiveParameters
) -> dict[str, Array]:
    # A chain on each board, as libraries build it, and two complementary binary trees over the boards.
    rate = np.where(s.domains > 1, np.minimum(link, s.inside * far), link)
    board = np.minimum(s.inside, BOARD)
    near = board - 1 + np.ceil(np.log2(np.ceil(s.inside / board)))
    depth = np.ceil(np.log2(s.domains))
    sent = np.where(s.chips > 1, _rounds(op) * size, 0.0)
    return _protocols(p, _rounds(op) * near, _rounds(op) * depth, sent, size / s.chips, rate)


def _direct(
    op: str, size: Array, s: _Shape, link: Array, far: Array, p: CollectiveParameters
) -> dict[str, Array]:
    chunk = size / s.chips
    rounds = _rounds(op)
    # Peers are posted one after the other, but their messages travel together.
    posts = np.asarray(rounds * (1.0 + np.log2(s.chips)), np.float64)
    near = _protocols(p, posts, 0.0, rounds * (s.inside - 1) * chunk, chunk, link)
    # Without bulk each peer has a channel of its own, and all of them no more than the link's share.
    channel = rounds * chunk * np.maximum(1.0 / p.low, (s.inside - 1) / p.middle) / link
    near["low"] = posts * p.hop + channel
    beyond = _protocols(
        p,
        posts,
        np.where(s.domains > 1, rounds, 0.0),
        rounds * (s.chips - s.inside) * chunk,
        0.0,
        far,
    )
    # Messages between two chips are sent with flags or in bulk, never with packed flags.
    return {
        name: np.where(s.domains > 1, np.maximum(near[name], beyond[name]), near[name])
        for name in ("low", "bulk")
    }


def _one_shot(
    size: Array, s: _Shape, link: Array, far: Array, p: CollectiveParameters
) -> dict[str, Array]:
    sent = (s.chips - 1) * size
    rate = np.where(s.domains > 1, far, link)
    posts = np.asarray(1.0 + np.log2(s.chips), np.float64)
    return _protocols(p, posts, np.where(s.domains > 1, 1.0, 0.0), sent, 0.0, rate)


def _in_switch(size: Array, s: _Shape, link: Array, p: CollectiveParameters) -> dict[str, Array]:
    # A chip's whole buffer goes up to be reduced; its share of the sum goes up once to be spread.
    sent = size * (1.0 + 1.0 / s.chips) / p.switch
    return {"bulk": _protocols(p, 4.0, 0.0, sent, 0.0, link)["bulk"]}


def _hierarchical(
    op: str, size: Array, s: _Shape, link: Array, far: Array, p: CollectiveParameters
) -> dict[str, Array]:
    inner = _Shape(s.inside, s.inside, np.ones_like(s.inside))
    within = _ring("all_gather", size, inner, link, far, p)
    steps = _rounds(op) * (s.domains - 1)
    chunk = size / s.chips
    across = _protocols(p, 0.0, steps, steps * chunk, chunk, far)
    return {name: _rounds(op) * within[name] + across[name] for name in within}


def collective_terms(
    op: str,
    size: Number,
    chips: Number,
    chip: Chip,
    p: CollectiveParameters,
    *,
    in_switch: bool | NDArray[np.bool_],
) -> dict[str, Array]:
    """Return seconds by "algorithm, protocol"; infinite where an algorithm does not apply."""
    if op not in OPERATIONS:
        raise ValueError(f"{op}: unknown collective; known are {', '.join(OPERATIONS)}")
    s = _shape(chips, chip)
    link, far = np.asarray(chip.link, np.float64), np.asarray(chip.scaleout, np.float64)
    if np.any((s.chips > 1) & (link <= 0)) or np.any((s.domains > 1) & (far <= 0)):
        raise ValueError(
            "a collective of more than one chip needs the link's bytes/s, of more than one domain scale-out's"
        )
    link, far = np.where(link > 0, link, 1.0), np.where(far > 0, far, 1.0)
    buffer = np.asarray(size, np.float64)
    found = {"direct": _direct(op, buffer, s, link, far, p)}
    apply: dict[str, NDArray[np.bool_] | bool] = {"direct": True}
    if op != "all_to_all":
        found["ring"] = _ring(op, buffer, s, link, far, p)
        found["hierarchical"] = _hierarchical(op, buffer, s, link, far, p)
        apply |= {"ring": True, "hierarchical": s.domains > 1}
    if op == "all_reduce":
        found["tree"] = _tree(op, buffer, s, link, far, p)
        found["one-shot"] = _one_shot(buffer, s, link, far, p)
        found["in-switch"] = _in_switch(buffer, s, link, p)
        # Two chips have nothing to gain from the switch, and libraries do not ask it.
        reduces = np.asarray(in_switch, bool) & (s.chips > 2) & (s.domains == 1)
        apply |= {"tree": True, "one-shot": True, "in-switch": reduces}
    terms = {}
    for name, protocols in found.items():
        for protocol, seconds in protocols.items():
            terms[f"{name}, {protocol}"] = np.where(apply[name], p.start + seconds, np.inf)
    return terms


def collective(
    op: str,
    size: Number,
    chips: Number,
    chip: Chip,
    p: CollectiveParameters,
    *,
    in_switch: bool | NDArray[np.bool_] = False,
    menu: tuple[str, ...] = LIBRARY,
) -> tuple[Array, NDArray[np.int64]]:
    """Return the seconds of a collective over `size` bytes and the index in ALGORITHMS of the one taken.

    `in_switch` says that the switch can reduce this dtype: true of floats on NVSwitch from H100 on, not of int8.
    """
    taken = (*menu, "direct") if op == "all_to_all" else menu
    terms = collective_terms(op, size, chips, chip, p, in_switch=in_switch)
    names = [
        name
        for name in ALGORITHMS
        if name in taken and any(key.startswith(name + ",") for key in terms)
    ]
    if not names:
        raise ValueError(f"{op}: no algorithm of the menu applies: {', '.join(menu)}")
    times = [
        least(*(term for key, term in terms.items() if key.startswith(name + ",")))
        for name in names
    ]
    stacked = np.stack(np.broadcast_arrays(*times))
    index = np.asarray([ALGORITHMS.index(name) for name in names], np.int64)[
        np.argmin(stacked, axis=0)
    ]
    alone = np.broadcast_to(np.asarray(chips) <= 1, index.shape)
    seconds = np.where(alone, 0.0, np.min(stacked, axis=0))
    return seconds, np.where(alone, np.int64(ALGORITHMS.index("none")), index)
