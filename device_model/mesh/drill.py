# SPDX-License-Identifier: Apache-2.0
"""A drill: a model of a few numbers on a mesh, to try links, faults and recovery without a port.

Every token depends on every exchange of every step before it, and on nothing else, so that a wrong, lost or repeated
part shows in the tokens; they are the same on 1, 2, 4 and 8 ranks, since its sums are trees over eight leaves.
No model of the zoo is like it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_model.mesh.fabric import Array, Exchange, Program

LEAVES, WIDTH, VOCABULARY, LAYERS = 8, 16, 64, 2
SIZES = (1, 2, 4, 8)


class Drill:
    """One rank's share of a drill, with the state that its steps leave."""

    def __init__(self, seed: int, rank: int, size: int) -> None:
        if size not in SIZES:
            raise ValueError(f"a drill runs on {SIZES} ranks")
        draws = np.random.default_rng(seed)
        self.mine = slice(rank * LEAVES // size, (rank + 1) * LEAVES // size)
        self.table = draws.standard_normal((VOCABULARY, WIDTH), np.float32)
        leaf = (LAYERS, LEAVES, WIDTH, WIDTH // LEAVES)
        self.weights = draws.standard_normal(leaf, np.float32)[:, self.mine]
        head = (LEAVES, VOCABULARY // LEAVES, WIDTH)
        self.head = draws.standard_normal(head, np.float32)[self.mine]
        self.group = tuple(range(size))
        self.state = np.zeros(WIDTH, np.float32)

    def step(self, tokens: Sequence[int]) -> Program[Array]:
        """Return the logits [V] after some more tokens."""
        number = 0
        for token in tokens:
            hidden = self.table[token % VOCABULARY] + self.state
            for layer in range(LAYERS):
                columns = hidden.reshape(LEAVES, 1, -1)[self.mine]
                owed = (self.weights[layer] * columns).sum(-1)
                place = f"drill.sohu:{layer + 1}"
                parts = yield Exchange(number, "all_reduce", self.group, place), owed
                hidden = hidden + _squashed(_tree(np.concatenate(parts)))
                number += 1
            self.state = _squashed(hidden)
        owed = (self.head * self.state).sum(-1).reshape(-1)
        parts = yield Exchange(number, "all_gather", self.group, "drill.sohu:9"), owed
        return np.concatenate(parts)


def chosen(logits: Array) -> int:
    """Return the token of the largest logit, the first where several are."""
    return int(np.argmax(logits))


def _tree(leaves: Array) -> Array:
    while len(leaves) > 1:
        leaves = leaves[0::2] + leaves[1::2]
    kept: Array = leaves[0]
    return kept


def _squashed(values: Array) -> Array:
    kept: Array = values / (1 + np.abs(values))
    return kept
