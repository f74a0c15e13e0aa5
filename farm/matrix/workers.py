# SPDX-License-Identifier: Apache-2.0
"""Run a function over items on worker processes that load torch once.

Knows nothing of what it runs; an exception is an outcome like any other.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from porting.original.reference import libraries
from sohu.nodes.on_ray import joined
from sohu.nodes.on_ray import outcomes as outcomes_on

Item = TypeVar("Item")
Made = TypeVar("Made")

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ITEMS_PER_WORKER = 40
"""A pool is replaced after this many items a worker: torch and the linker of kernels keep what they once allocated.

Not by `max_tasks_per_child`, with which a pool of Python 3.11 may stop for ever (cpython issue 115634).
"""


def outcomes(
    function: Callable[[Item], Made], items: Sequence[Item], jobs: int, cluster: str = ""
) -> Iterator[tuple[Item, Made | BaseException]]:
    """Yield each item with its result, or with what it raised, as workers finish.

    A worker that dies takes no other item with it. One job runs in this process, and raises. `cluster` is the address
    of a Ray cluster, whose workers are used then; what a lost one had is done again.
    """
    if cluster:
        with joined(cluster, jobs) as ray:
            yield from outcomes_on(ray, function, items)
        return
    if jobs == 1:
        _prepare()
        yield from ((item, function(item)) for item in items)
        return
    size = jobs * ITEMS_PER_WORKER
    for start in range(0, len(items), size):
        yield from _round(function, items[start : start + size], jobs)


def collected(
    function: Callable[[str], Made],
    names: Sequence[str],
    jobs: int,
    told: Callable[[str, int, int], None],
) -> tuple[dict[str, Made], dict[str, str]]:
    """Return what each name gave, in the order of the names, and those that broke with the reason."""
    made: dict[str, Made] = {}
    broken: dict[str, str] = {}
    for name, outcome in outcomes(function, names, jobs):
        if isinstance(outcome, BaseException):
            broken[name] = f"{type(outcome).__name__}: {outcome}"
        else:
            made[name] = outcome
        told(name, len(made) + len(broken), len(names))
    return {name: made[name] for name in names if name in made}, broken


def _round(
    function: Callable[[Item], Made], items: Sequence[Item], jobs: int
) -> Iterator[tuple[Item, Made | BaseException]]:
    left = list(items)
    while left:
        with _pool(min(jobs, len(left))) as pool:
            futures = {pool.submit(function, item): item for item in left}
            dead: list[Item] = []
            for future in as_completed(futures):
                item, error = futures[future], future.exception()
                if isinstance(error, BrokenProcessPool):
                    dead.append(item)
                    continue
                left.remove(item)
                yield item, error or future.result()
        if not dead:
            return
        # Whose item killed the worker is not known; the first goes alone.
        with _pool(1) as pool:
            future = pool.submit(function, dead[0])
            yield dead[0], future.exception() or future.result()
        left = dead[1:]


def _pool(jobs: int) -> ProcessPoolExecutor:
    for name in ONE_THREAD:
        os.environ[name] = "1"
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, spawn, initializer=_prepare)


def _prepare() -> None:
    torch, _ = libraries()
    torch.set_num_threads(1)
