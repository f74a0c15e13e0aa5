# SPDX-License-Identifier: Apache-2.0
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

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from device_model.cost.chip import Array, Chip, Number, least, overlapped
from dsl.ops import AREAS, OPS
from dsl.ops.spec import Work

EXCHANGES = {s.name: "all_to_all" for s in AREAS["exchange"]}
"""What operations of the language are, where they have another name there."""
_NAMES = (s.name for s in OPS.values() if s.work is Work.COLLECTIVE)
OPERATIONS = tuple(dict.fromkeys(EXCHANGES.get(name, name) for name in _NAMES))
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
class _Exchange:
    """A buffer among chips: how many bytes, how the chips lie in domains, what their links send a second."""

    size: Array
    """Bytes of the full buffer."""
    chips: Array
    inside: Array
    """Chips in each domain."""
    domains: Array
    link: Array
    """Bytes/s of a chip inside of its domain."""
    far: Array
    """Bytes/s of a chip outside of it."""
    rounds: float
    """How often the buffer goes around: a reduction to all is a scattering and a gathering."""

    @property
    def chunk(self) -> Array:
        """Return the bytes of one chip's share."""
        return self.size / self.chips

    @property
    def ring_rate(self) -> Array:
        """Return the bytes/s of a ring: one per network port of a domain, all of which carry it on."""
        return np.where(self.domains > 1, np.minimum(self.link, self.inside * self.far), self.link)


def _exchange(
    op: str, size: Number, chips: Number, chip: Chip, inside: Number | None, domains: Number | None
) -> _Exchange:
    """Return an exchange; raises `ValueError` where the chip's links do not reach."""
    count = np.maximum(np.asarray(chips, np.float64), 1.0)
    domain = np.maximum(np.asarray(chip.domain, np.float64), 1.0)
    inside = np.minimum(count, domain if inside is None else inside)
    domains = np.ceil(count / inside) if domains is None else np.asarray(domains, np.float64)
    link, far = np.asarray(chip.link, np.float64), np.asarray(chip.scaleout, np.float64)
    if np.any((count > 1) & (link <= 0)) or np.any((domains > 1) & (far <= 0)):
        raise ValueError(
            "a collective of more than one chip needs the link's bytes/s, of more than one domain scale-out's"
        )
    link, far = np.where(link > 0, link, 1.0), np.where(far > 0, far, 1.0)
    rounds = 2.0 if op == "all_reduce" else 1.0
    return _Exchange(np.asarray(size, np.float64), count, inside, domains, link, far, rounds)


def _protocols(
    p: CollectiveParameters, near: Number, far: Number, sent: Array, chunk: Number, rate: Array
) -> dict[str, Array]:
    """Return seconds by protocol after the start, for hops near and far and for bytes sent at a rate."""
    # Hops (fitted: `hop`, `bulk_hop`; assumed: `far_hop`).
    beyond = np.asarray(far) * p.far_hop
    hops = np.asarray(near) * p.bulk_hop + beyond
    # Bytes at a share of the link (fitted: `low`, `middle`, `bulk`), the own chunk copied beside (fitted: `copy`).
    payload = (sent + p.copy * np.asarray(chunk)) / (p.bulk * rate)
    # With the best number of pieces, pipelining costs the root of the transfer (fitted: `fill`).
    piped = payload + 2.0 * np.sqrt(p.fill * payload)
    return {
        "low": np.asarray(near) * p.hop + beyond + sent / (p.low * rate),
        "middle": overlapped(SHARPNESS, hops, sent / (p.middle * rate)),
        "bulk": overlapped(SHARPNESS, p.bulk_start + hops, piped),
    }


def _ring(s: _Exchange, p: CollectiveParameters) -> dict[str, Array]:
    """Each chunk goes around the ring, chip by chip; each domain is left once a round."""
    steps = s.rounds * (s.chips - 1)
    crossings = s.rounds * np.where(s.domains > 1, s.domains, 0.0)
    crossings = np.minimum(crossings, steps)
    return _protocols(p, steps - crossings, crossings, steps * s.chunk, s.chunk, s.ring_rate)


def _tree(s: _Exchange, p: CollectiveParameters) -> dict[str, Array]:
    """A chain on each board, as libraries build it, and two complementary binary trees over the boards."""
    board = np.minimum(s.inside, BOARD)
    near = board - 1 + np.ceil(np.log2(np.ceil(s.inside / board)))
    depth = np.ceil(np.log2(s.domains))
    sent = np.where(s.chips > 1, s.rounds * s.size, 0.0)
    return _protocols(p, s.rounds * near, s.rounds * depth, sent, s.chunk, s.ring_rate)


def _direct(s: _Exchange, p: CollectiveParameters) -> dict[str, Array]:
    """Each chip sends to all others at once; near and far messages travel beside each other."""
    # Peers are posted one after the other, but their messages travel together.
    posts = np.asarray(s.rounds * (1.0 + np.log2(s.chips)), np.float64)
    near = _protocols(p, posts, 0.0, s.rounds * (s.inside - 1) * s.chunk, s.chunk, s.link)
    # Without bulk each peer has a channel of its own, and all of them no more than the link's share.
    channel = s.rounds * s.chunk * np.maximum(1.0 / p.low, (s.inside - 1) / p.middle) / s.link
    near["low"] = posts * p.hop + channel
    crossings = np.where(s.domains > 1, s.rounds, 0.0)
    beyond = s.rounds * (s.chips - s.inside) * s.chunk
    outside = _protocols(p, posts, crossings, beyond, 0.0, s.far)
    # Messages between two chips are sent with flags or in bulk, never with packed flags.
    return {
        name: np.where(s.domains > 1, np.maximum(near[name], outside[name]), near[name])
        for name in ("low", "bulk")
    }


def _one_shot(s: _Exchange, p: CollectiveParameters) -> dict[str, Array]:
    """Each chip sends its whole buffer to all others, which reduce it themselves."""
    rate = np.where(s.domains > 1, s.far, s.link)
    posts = np.asarray(1.0 + np.log2(s.chips), np.float64)
    crossings = np.where(s.domains > 1, 1.0, 0.0)
    return _protocols(p, posts, crossings, (s.chips - 1) * s.size, 0.0, rate)


def _in_switch(s: _Exchange, p: CollectiveParameters) -> dict[str, Array]:
    """The switch reduces, at a share of the bulk rate (fitted: `switch`), over four hops (assumed)."""
    # A chip's whole buffer goes up to be reduced; its share of the sum goes up once to be spread.
    sent = s.size * (1.0 + 1.0 / s.chips) / p.switch
    return {"bulk": _protocols(p, 4.0, 0.0, sent, 0.0, s.link)["bulk"]}


def _hierarchical(s: _Exchange, p: CollectiveParameters) -> dict[str, Array]:
    """A ring inside of each domain, and one of each chip's share across domains."""
    alone = replace(s, chips=s.inside, domains=np.ones_like(s.inside), rounds=1.0)
    within = _ring(alone, p)
    steps = s.rounds * (s.domains - 1)
    across = _protocols(p, 0.0, steps, steps * s.chunk, s.chunk, s.far)
    return {name: s.rounds * within[name] + across[name] for name in within}


def collective_terms(
    op: str,
    size: Number,
    chips: Number,
    chip: Chip,
    p: CollectiveParameters,
    *,
    in_switch: bool | NDArray[np.bool_],
    inside: Number | None = None,
    domains: Number | None = None,
) -> dict[str, Array]:
    """Return seconds by "algorithm, protocol"; infinite where an algorithm does not apply.

    `inside` and `domains` say how the chips lie, by default packed into as few domains as hold them.
    """
    if op not in OPERATIONS:
        raise ValueError(f"{op}: unknown collective; known are {', '.join(OPERATIONS)}")
    s = _exchange(op, size, chips, chip, inside, domains)
    everywhere = np.ones((), bool)
    menu = {"direct": (_direct, everywhere)}
    if op != "all_to_all":
        menu |= {"ring": (_ring, everywhere), "hierarchical": (_hierarchical, s.domains > 1)}
    if op == "all_reduce":
        # Two chips have nothing to gain from the switch, and libraries do not ask it.
        reduces = np.asarray(in_switch, bool) & (s.chips > 2) & (s.domains == 1)
        menu |= {"tree": (_tree, everywhere), "one-shot": (_one_shot, everywhere)}
        menu |= {"in-switch": (_in_switch, reduces)}
    return {
        f"{name}, {protocol}": np.where(applies, p.start + seconds, np.inf)
        for name, (algorithm, applies) in menu.items()
        for protocol, seconds in algorithm(s, p).items()
    }


def collective(
    op: str,
    size: Number,
    chips: Number,
    chip: Chip,
    p: CollectiveParameters,
    *,
    in_switch: bool | NDArray[np.bool_] = False,
    menu: tuple[str, ...] = LIBRARY,
    inside: Number | None = None,
    domains: Number | None = None,
) -> tuple[Array, NDArray[np.int64]]:
    """Return the seconds of a collective over `size` bytes and the index in ALGORITHMS of the one taken.

    `in_switch` says that the switch can reduce this dtype: true of floats on NVSwitch from H100 on, not of int8.
    `inside` are the chips of the group in one domain and `domains` how many it lies in; by default it is packed.
    """
    taken = (*menu, "direct") if op == "all_to_all" else menu
    terms = collective_terms(
        op, size, chips, chip, p, in_switch=in_switch, inside=inside, domains=domains
    )
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
