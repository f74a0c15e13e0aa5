"""Run the cells of the matrix on worker processes that load torch once, and keep each result as it comes.

Decides nothing about a cell: `farm.cells` judges.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from farm.cells import Cell, Result, judge, key_of
from farm.registry import family_types
from farm.shrink import runs_in
from farm.store import Store
from porting.reference import libraries
from porting.validate import MODES, NUMERICS, compile_kernels

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CELLS_PER_WORKER = 40
"""A pool is replaced after this many cells a worker: torch and the linker of kernels keep what they once allocated.

Not by `max_tasks_per_child`, with which a pool of Python 3.11 may stop for ever (cpython issue 115634).
"""

ALL_MODES = tuple(mode.name for mode in MODES)
QUICK = (MODES[0].name, MODES[-1].name)


def cells(
    types: Sequence[str],
    numerics: Sequence[str],
    modes: Sequence[str],
    families: Sequence[str] = (),
) -> list[Cell]:
    """Return a cell for each covered type asked for; nothing asked for means all."""
    covered = family_types()
    wanted = [name for name in covered if not types or name in types]
    if families:
        wanted = [name for name in wanted if covered[name].stem in families]
    made = [whole(name, numerics, modes) for name in wanted]
    return [cell for cell in made if cell.numerics]


def whole(
    model_type: str, numerics: Sequence[str] = NUMERICS, modes: Sequence[str] = ALL_MODES
) -> Cell:
    """Return the cell of a type, without the numerics in which the original does not run."""
    return Cell(model_type, tuple(n for n in numerics if runs_in(model_type, n)), tuple(modes))


def run(
    wanted: Sequence[Cell], store: Store, jobs: int, told: Callable[[Result, int, int], None]
) -> list[Result]:
    """Return a result for each cell, those in the store as they are; `told` hears of every one."""
    known = store.load()
    results = {key: known[key] for cell in wanted if (key := key_of(cell)) in known}
    for number, result in enumerate(results.values(), 1):
        told(result, number, len(wanted))
    missing = [cell for cell in wanted if key_of(cell) not in results]
    if missing:
        compile_kernels(lambda _stage, _done, _total: None)
    for result in _judged(missing, jobs):
        results[result.key] = known[result.key] = result
        store.save(known.values())
        told(result, len(results), len(wanted))
    return [results[key_of(cell)] for cell in wanted]


def _judged(missing: Sequence[Cell], jobs: int) -> Iterator[Result]:
    """Yield results as workers finish; a worker that dies takes no other cell with it."""
    if jobs == 1:
        _prepare()
        yield from (judge(cell) for cell in missing)
        return
    round_ = jobs * CELLS_PER_WORKER
    for start in range(0, len(missing), round_):
        yield from _round(missing[start : start + round_], jobs)


def _round(wanted: Sequence[Cell], jobs: int) -> Iterator[Result]:
    left = list(wanted)
    while left:
        with _pool(min(jobs, len(left))) as pool:
            futures = {pool.submit(judge, cell): cell for cell in left}
            dead: list[Cell] = []
            for future in as_completed(futures):
                cell = futures[future]
                if isinstance(future.exception(), BrokenProcessPool):
                    dead.append(cell)
                    continue
                left.remove(cell)
                yield _result(future, cell)
        if not dead:
            return
        # Whose cell killed the worker is not known; the first goes alone.
        with _pool(1) as pool:
            yield _result(pool.submit(judge, dead[0]), dead[0])
        left = dead[1:]


def _pool(jobs: int) -> ProcessPoolExecutor:
    for name in ONE_THREAD:
        os.environ[name] = "1"
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, spawn, initializer=_prepare)


def _prepare() -> None:
    torch, _ = libraries()
    torch.set_num_threads(1)


def _result(future: Future[Result], cell: Cell) -> Result:
    """Return a worker's result, or what it raised as one: a mistake of ours, which must not end the run."""
    error = future.exception()
    if error is None:
        return future.result()
    family = family_types()[cell.model_type].stem
    problem = f"{type(error).__name__}: {error}"
    return Result(key_of(cell), cell.model_type, family, "broken", problem)
