# SPDX-License-Identifier: Apache-2.0
"""Greedy schedules on any links between chips: in each step every link carries a chunk that is rare where it goes.

Rare is what the fewest chips around its end have, and then what the fewest of all have. Links are taken in rounds in
which each chip receives once, so that a round is a handful of operations on arrays. Links count as equally fast;
switches, and routes of chunks that have one chip to go to, are not for this search.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.topology import Ints, Topology

Table = NDArray[np.int64]
"""Sends of a step, [sends, (source, target, chunk)]."""
FAR_MORE = 1e5
FARTHER = 0.3
"""What neighbours of neighbours count: without, a mesh of 64 x 4 takes 132 steps, with it the least of 128."""


def rounds_of(source: Ints, target: Ints) -> list[tuple[Ints, Ints]]:
    """Return links in rounds, each chip being the target of one at most in each of them."""
    order = np.argsort(target, kind="stable")
    ends = target[order]
    nth = np.arange(len(ends)) - np.searchsorted(ends, ends)
    picked = (order[nth == n] for n in range(int(nth.max(initial=-1)) + 1))
    return [(source[links], target[links]) for links in picked]


def spread(topology: Topology, begins: Ints, seed: int = 0) -> list[Table]:
    """Return the steps that bring every chunk from the chip where it begins to all; `ValueError` where none leads.

    `begins` has the chip of each chunk.
    """
    if topology.switches:
        raise ValueError(f"{topology.name}: a switch has no place for chunks")
    chance = np.random.default_rng(seed)
    chips, chunks = topology.chips, len(begins)
    rounds = rounds_of(topology.source, topology.target)
    has = np.zeros((chips, chunks), bool)
    has[begins, np.arange(chunks)] = True
    held = has.sum(0).astype(np.float64)
    leads = _neighbours(topology)
    steps: list[Table] = []
    while not has.all():
        will = has.copy()
        step = []
        # Counts of neighbours come first: there are never as many chips as this factor.
        near = (leads @ has.astype(np.float32)) * FAR_MORE
        for n in chance.permutation(len(rounds)):
            source, target = rounds[n]
            taken = _round(source, target, has, will, near, held, chance)
            will[taken[:, 1], taken[:, 2]] = True
            held += np.bincount(taken[:, 2], minlength=chunks)
            step.append(taken)
        made = np.concatenate(step) if step else np.zeros((0, 3), np.int64)
        if not len(made):
            raise ValueError(f"{topology.name}: not every chip can be reached")
        steps.append(made)
        has = will
    return steps


def _neighbours(topology: Topology) -> NDArray[np.float32]:
    """Return how much it counts for each chip what each has: 1 for its neighbours, less for theirs."""
    leads = np.zeros((topology.chips, topology.chips), np.float32)
    leads[topology.source, topology.target] = 1.0
    onwards = leads @ leads
    np.fill_diagonal(onwards, 0.0)
    return leads + np.float32(FARTHER) * onwards


def _round(
    source: Ints,
    target: Ints,
    has: NDArray[np.bool_],
    will: NDArray[np.bool_],
    near: NDArray[np.float32],
    held: NDArray[np.float64],
    chance: np.random.Generator,
) -> Table:
    """Return what the links of a round carry: of what is there and lacked, the rarest."""
    useful = has[source] & ~will[target]
    score = np.where(useful, near[target] + held + 0.5 * chance.random(useful.shape), np.inf)
    chunk = np.argmin(score, axis=1)
    some = useful[np.arange(len(chunk)), chunk]
    return np.stack([source[some], target[some], chunk[some]], 1).astype(np.int64)
