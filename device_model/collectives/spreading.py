# SPDX-License-Identifier: Apache-2.0
"""Plans of one chip's data on a symmetric topology: trees that bring it to everyone, routes that bring each its part.

A search in time: whenever a lane is free it takes the move that is nearest to where its piece began. On rings, tori
and switches this reaches the bound, as all chips follow the same plan shifted; where a network is slow each node is
sent each piece once, unless the network has time to spare.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from device_model.collectives.symmetric import Lane, Move, Symmetry

Offer = tuple[int, int, int]
"""Moves from the beginning, piece, chip."""


def trees(group: Symmetry, pieces: int, piece_bytes: float) -> list[Move]:
    """Return the moves that bring every piece of chip 0 to all chips, in order of their starts."""
    return _Trees(group, pieces, piece_bytes).search()


class _Clock:
    """When lanes are free; time goes on to the next moment at which something may change."""

    def __init__(self, lanes: int) -> None:
        self.free = np.zeros(lanes)
        self.moments: set[float] = set()
        self.now = 0.0

    def busy(self, lane: int, until: float, arrives: float) -> None:
        """Note that a lane is taken, and when what it carries is there."""
        self.free[lane] = until
        self.moments |= {until, arrives}

    def idle(self) -> Iterator[int]:
        """Yield the lanes that are free now."""
        yield from np.flatnonzero(self.free <= self.now).tolist()

    def advance(self) -> bool:
        """Go on to the next moment; false where there is none."""
        later = [moment for moment in self.moments if moment > self.now]
        self.moments = set(later)
        self.now = min(later, default=self.now)
        return bool(later)


class _Trees:
    """The search for trees: where a lane looks for its next move, and what every chip lacks."""

    def __init__(self, group: Symmetry, pieces: int, piece_bytes: float) -> None:
        chips = group.chips
        self.group, self.size = group, piece_bytes
        everyone = np.arange(chips)[:, None]
        self.reach = [group.plus(everyone, lane.offsets[None, :]) for lane in group.lanes]
        self.missing = np.ones((pieces, chips), bool)
        self.missing[:, 0] = False
        self.node = np.arange(chips) // group.node
        self.entered = np.zeros((pieces, chips // group.node), bool)
        self.entered[:, 0] = True
        self.clock = _Clock(len(group.lanes))
        self.inner = next((n for n, lane in enumerate(group.lanes) if not lane.crosses), -1)
        self.arriving: list[tuple[float, int, int, int]] = []
        # For each lane what it may pass on: into new nodes, and anywhere.
        self.offers: list[tuple[list[Offer], list[Offer]]] = [([], []) for _ in group.lanes]
        for piece in range(pieces):
            self._offer((0, piece, 0))

    def search(self) -> list[Move]:
        """Return the moves; raises `ValueError` where not every chip can be reached."""
        moves: list[Move] = []
        while self.missing.any():
            for lane in self.clock.idle():
                move = self._next(lane)
                if move is not None:
                    moves.append(move)
            if not self.clock.advance():
                raise ValueError("not every chip can be reached")
            while self.arriving and self.arriving[0][0] <= self.clock.now:
                self._offer(heappop(self.arriving)[1:])
        return moves

    def _offer(self, offer: Offer) -> None:
        """Let all lanes pass on a piece from where it is now; fewer moves from the beginning come first."""
        for queues in self.offers:
            for queue in queues:
                heappush(queue, offer)

    def _next(self, index: int) -> Move | None:
        """Take the best move of a free lane, None where there is none now."""
        lane = self.group.lanes[index]
        bound_for_new = lane.crosses and self.inner >= 0
        if not bound_for_new:
            return self._take(index, new=False)
        move = self._take(index, new=True)
        if move is not None or not self._in_time(lane):
            return move
        return self._take(index, new=False)

    def _in_time(self, lane: Lane) -> bool:
        """Tell whether all nodes have all pieces, and a move over the network is there before the others end."""
        if not self.entered.all():
            return False
        within, now = self.group.lanes[self.inner], self.clock.now
        left = np.count_nonzero(self.missing) * within.per_byte * self.size
        end = max(float(self.clock.free[self.inner]), now) + left + within.latency
        return bool(now + lane.per_byte * self.size + lane.latency <= end)

    def _take(self, index: int, *, new: bool) -> Move | None:
        """Take the first move of a lane that is wanted; offers without one are none any more."""
        queue = self.offers[index][0 if new else 1]
        while queue:
            depth, piece, source = queue[0]
            targets = self.reach[index][source]
            wanted = self.missing[piece, targets]
            if new:
                wanted = wanted & ~self.entered[piece, self.node[targets]]
            best = int(np.argmax(wanted))
            if wanted[best]:
                return self._moved(index, depth, piece, source, int(targets[best]))
            heappop(queue)
        return None

    def _moved(self, index: int, depth: int, piece: int, source: int, target: int) -> Move:
        lane, start = self.group.lanes[index], self.clock.now
        until = start + lane.per_byte * self.size
        end = until + lane.latency
        self.clock.busy(index, until, end)
        heappush(self.arriving, (end, depth + 1, piece, target))
        self.missing[piece, target] = False
        self.entered[piece, self.node[target]] = True
        return Move(piece, source, target, index, start, end)


def routes(group: Symmetry, pieces: int, piece_bytes: float) -> list[Move]:
    """Return the moves that bring each chip its own pieces of chip 0, in order of their starts.

    Piece `target * pieces + n` is the n-th of `target`.
    """
    return _Routes(group, pieces, piece_bytes).search()


class _Routes:
    """The search for routes: where each piece is, and how many moves it still needs along each lane."""

    def __init__(self, group: Symmetry, pieces: int, piece_bytes: float) -> None:
        self.group, self.size = group, piece_bytes
        self.target = np.repeat(np.arange(group.chips), pieces)
        self.at = np.zeros(len(self.target), np.int64)
        self.ready = np.zeros(len(self.target))
        self.need = self._needs(np.tile(np.arange(pieces), group.chips))
        self.clock = _Clock(len(group.lanes))

    def _needs(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often each piece takes each lane, [pieces, lanes]."""
        need = np.zeros((len(self.target), len(self.group.lanes)), np.int64)
        for index, lane in enumerate(self.group.lanes):
            if len(lane.offsets) > 1 or not self._grid():
                need[:, index] = np.isin(self.target, lane.offsets)
        if not self._grid():
            return need
        away = np.stack(np.unravel_index(self.target, self.group.sizes), 1)
        for axis, size in enumerate(self.group.sizes):
            lanes = self._lanes(axis)
            if not lanes:
                continue
            back = away[:, axis] > size // 2
            # What is as far both ways goes one way for one half of the others, and the other way for the rest.
            tied = (2 * away[:, axis] == size) & (size > 2)
            parity = away.sum(1) - away[:, axis] + number
            back |= tied & (parity % 2 == 1)
            need[:, lanes[0]] = np.where(back, 0, away[:, axis])
            if len(lanes) > 1:
                need[:, lanes[1]] = np.where(back, size - away[:, axis], 0)
        return need

    def _grid(self) -> bool:
        return len(self.group.lanes) <= 2 * len(self.group.sizes) and all(
            len(lane.offsets) == 1 for lane in self.group.lanes
        )

    def _lanes(self, axis: int) -> list[int]:
        """Return the lanes along a dimension, forwards first."""
        sizes = self.group.sizes
        moved = [np.unravel_index(int(lane.offsets[0]), sizes)[axis] for lane in self.group.lanes]
        return [n for n, by in enumerate(moved) if by]

    def search(self) -> list[Move]:
        """Return the moves; raises `ValueError` where not every chip can be reached."""
        moves: list[Move] = []
        while self.need.any():
            for lane in self.clock.idle():
                move = self._next(lane)
                if move is not None:
                    moves.append(move)
            if not self.clock.advance():
                raise ValueError("not every chip can be reached")
        return moves

    def _next(self, index: int) -> Move | None:
        """Take the piece that has the farthest to go of those that wait for a lane."""
        waiting = np.flatnonzero((self.need[:, index] > 0) & (self.ready <= self.clock.now))
        if not len(waiting):
            return None
        piece = int(waiting[np.argmax(self.need[waiting].sum(1))])
        lane, source, start = self.group.lanes[index], int(self.at[piece]), self.clock.now
        offset = lane.offsets if len(lane.offsets) == 1 else self.target[piece : piece + 1]
        target = int(self.group.plus(np.asarray([source]), offset)[0])
        until = start + lane.per_byte * self.size
        self.clock.busy(index, until, until + lane.latency)
        self.at[piece], self.ready[piece] = target, until + lane.latency
        self.need[piece, index] -= 1
        return Move(piece, source, target, index, start, until + lane.latency)
