# SPDX-License-Identifier: Apache-2.0
"""Chips as threads: everyone gets everything in order, and whatever goes wrong is said at once, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from device_model.mesh.fabric import Array, Exchange
from device_model.mesh.threads import ThreadFabric, run_ranks
from dsl.diagnostics import Refused

GATHER = Exchange(0, "all_gather", (0, 1, 2), "tiny.sohu:7")


def ran(does: Callable[[int, ThreadFabric], object], ranks: tuple[int, ...] = (0, 1, 2)):
    fabric = ThreadFabric(ranks)
    return run_ranks(fabric, ranks, lambda rank: does(rank, fabric))


def part(rank: int) -> Array:
    return np.full((rank + 1, 2), rank, np.float32)


def test_everyone_gets_the_parts_in_order_of_the_group():
    group = Exchange(0, "all_gather", (2, 0, 1))
    made = ran(lambda rank, fabric: fabric.exchange(rank, 0, group, part(rank)))
    for parts in made.values():
        assert [(p.shape, p[0, 0]) for p in parts] == [((3, 2), 2), ((1, 2), 0), ((2, 2), 1)]


def test_a_sender_does_not_wait():
    first, second = Exchange(0, "send", (0, 1)), Exchange(1, "send", (0, 1))

    def does(rank: int, fabric: ThreadFabric) -> list[Array]:
        if rank == 0:
            fabric.send(0, 0, first, part(0))
            fabric.send(0, 0, second, part(1))
            return []
        return [fabric.receive(1, 0, first), fabric.receive(1, 0, second)]

    assert [p.shape for p in ran(does, (0, 1))[1]] == [(1, 2), (2, 2)]


def test_other_exchanges_are_named_with_both_places():
    other = Exchange(0, "all_reduce", (0, 1, 2), "tiny.sohu:9")
    with pytest.raises(Refused, match=r"S640.*tiny\.sohu:.*tiny\.sohu:"):
        ran(lambda rank, fabric: fabric.exchange(rank, 0, other if rank else GATHER, part(rank)))


@pytest.mark.parametrize("wrong", [part(1).astype(np.float64), part(1)[:, :1], part(1)[0]])
def test_another_type_or_shape_is_refused(wrong: Array):
    with pytest.raises(Refused, match=r"S640.*out of step"):
        ran(lambda r, fabric: fabric.exchange(r, 0, GATHER, wrong if r == 1 else part(r)))


def test_a_rank_that_does_not_come_is_named_at_once():
    def does(rank: int, fabric: ThreadFabric) -> list[Array]:
        return [] if rank == 2 else fabric.exchange(rank, 4, GATHER, part(rank))

    with pytest.raises(Refused, match=r"S641.*step 4.*rank 2 does not come, last at no exchange"):
        ran(does)


def test_ranks_that_wait_for_each_other_are_named():
    def does(rank: int, fabric: ThreadFabric) -> Array:
        return fabric.receive(rank, 0, Exchange(0, "send", (1 - rank, rank)))

    with pytest.raises(Refused, match=r"S641"):
        ran(does, (0, 1))


def test_what_a_rank_raises_is_raised_and_told_to_the_others():
    told: list[str] = []

    def does(rank: int, fabric: ThreadFabric) -> None:
        if rank == 1:
            raise ValueError("no such weight")
        try:
            fabric.exchange(rank, 0, GATHER, part(rank))
        except Refused as refused:
            told.append(str(refused))
            raise

    with pytest.raises(ValueError, match="no such weight"):
        ran(does)
    assert told == ["S646: rank 1 failed: ValueError: no such weight"] * 2
