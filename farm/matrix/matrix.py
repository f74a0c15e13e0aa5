# SPDX-License-Identifier: Apache-2.0
"""Run the cells of the matrix on worker processes that load torch once, and keep each result as it comes.

Decides nothing about a cell: `cells` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from farm.matrix.cells import Cell, Result, judge, key_of
from farm.matrix.registry import family_types, published_of
from farm.matrix.store import Store
from farm.matrix.workers import outcomes
from farm.oracles.shrink import runs_in
from porting.verdict.compiling import compile_kernels
from porting.verdict.feeding import MODES
from porting.verdict.validate import NUMERICS

ALL_MODES = tuple(mode.name for mode in MODES)
DEFAULTS, PUBLISHED = ORACLES = ("defaults", "published")
"""What an oracle is made of: the defaults of a type's class, or a published config of it."""
QUICK = (MODES[0].name, MODES[-1].name)


def cells(
    types: Sequence[str],
    numerics: Sequence[str],
    modes: Sequence[str],
    families: Sequence[str] = (),
    oracles: Sequence[str] = ORACLES,
) -> list[Cell]:
    """Return the cells of each covered type asked for; nothing asked for means all.

    A type has one of its class's defaults, and one of each published config.
    """
    covered = family_types()
    wanted = [name for name in covered if not types or name in types]
    if families:
        wanted = [name for name in wanted if covered[name].stem in families]
    named = published_of(wanted)
    made = [whole(name, numerics, modes) for name in wanted if DEFAULTS in oracles]
    made += [
        whole(kind, numerics, modes, name)
        for kind, names in named.items()
        for name in names
        if PUBLISHED in oracles
    ]
    return [cell for cell in made if cell.numerics]


def whole(
    model_type: str,
    numerics: Sequence[str] = NUMERICS,
    modes: Sequence[str] = ALL_MODES,
    published: str = "",
) -> Cell:
    """Return a cell of a type, without the numerics in which the original does not run."""
    runs = tuple(n for n in numerics if runs_in(model_type, n))
    return Cell(model_type, runs, tuple(modes), published)


def run(
    wanted: Sequence[Cell],
    store: Store,
    jobs: int,
    told: Callable[[Result, int, int], None],
    cluster: str = "",
) -> list[Result]:
    """Return a result for each cell, those in the store as they are; `told` hears of every one.

    `cluster` is the address of a Ray cluster to work on.
    """
    known = store.load()
    results = {key: known[key] for cell in wanted if (key := key_of(cell)) in known}
    for number, result in enumerate(results.values(), 1):
        told(result, number, len(wanted))
    missing = [cell for cell in wanted if key_of(cell) not in results]
    if missing:
        compile_kernels(lambda _stage, _done, _total: None)
    for cell, outcome in outcomes(judge, missing, jobs, cluster):
        result = _broken(cell, outcome) if isinstance(outcome, BaseException) else outcome
        results[result.key] = known[result.key] = result
        store.save(known.values())
        told(result, len(results), len(wanted))
    return [results[key_of(cell)] for cell in wanted]


def _broken(cell: Cell, error: BaseException) -> Result:
    """Return what a worker raised as a result: a mistake of ours, which must not end the run."""
    family = family_types()[cell.model_type].stem
    problem = f"{type(error).__name__}: {error}"
    key = key_of(cell)
    return Result(key, cell.model_type, family, "broken", problem, published=cell.published)
