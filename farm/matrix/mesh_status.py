# SPDX-License-Identifier: Apache-2.0
"""Run the cells of the tier "mesh" on worker processes, and show what came out: a line a type, and a page.

Compares nothing: `meshes` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dsl.diagnostics import Refused, render
from farm.matrix.markdown import table
from farm.matrix.meshes import SAME, MeshCell, MeshResult, judge_meshes
from farm.matrix.workers import outcomes
from porting.planning.library import write_text
from porting.verdict.compiling import compile_kernels

PAGE = "mesh-status.md"
INTRODUCTION = (
    "The tiny oracle of every covered type, and of every quantised published config, on meshes beside one chip. A "
    "comparison is one mesh, one numerics and one mode: all results of all sequences must have the same bits, with "
    "no tolerance. Sizes of the oracles differ pairwise, so tp=3 divides few of them; at tp=8 most have chips with "
    "copies of keys and values, and some have chips without a head."
)


def run_meshes(
    wanted: Sequence[MeshCell], jobs: int, told: Callable[[str, int, int], None]
) -> tuple[list[MeshResult], dict[str, str]]:
    """Return what each cell showed, and the cells that broke with the reason; `told` hears a line of each."""
    compile_kernels(lambda _stage, _done, _total: None)
    results: dict[str, MeshResult] = {}
    broken: dict[str, str] = {}
    for cell, outcome in outcomes(judge_meshes, wanted, jobs):
        if isinstance(outcome, BaseException):
            broken[cell.name] = _why(outcome)
            line = f"broken  {cell.name}"
        else:
            results[cell.name] = outcome
            line = line_of(outcome)
        told(line, len(results) + len(broken), len(wanted))
    return [results[cell.name] for cell in wanted if cell.name in results], broken


def _why(error: BaseException) -> str:
    if isinstance(error, Refused):
        return "; ".join(render(each) for each in error.diagnostics)
    return f"{type(error).__name__}: {error}"


def line_of(result: MeshResult) -> str:
    """Return a result in a line: how many comparisons have one chip's bits, and on which meshes."""
    same = len(result.compared) - len(result.failed)
    verdict = "differs" if result.failed else "same"
    meshes = "  ".join(result.meshes)
    return f"{verdict:<8}{result.name:<34}{result.seconds:6.1f} s  {same} of {len(result.compared)}  {meshes}"


def summary(results: Sequence[MeshResult], broken: Mapping[str, str]) -> str:
    """Return how much has the bits of one chip, in a line."""
    compared = sum(len(result.compared) for result in results)
    failed = sum(len(result.failed) for result in results)
    sound = sum(not result.failed for result in results)
    return (
        f"{sound} of {len(results) + len(broken)} oracles have one chip's bits on every mesh: "
        f"{compared - failed} of {compared} comparisons"
    )


def write_mesh_status(
    results: Sequence[MeshResult], broken: Mapping[str, str], folder: Path
) -> Path:
    """Write the page into a folder, and return its path."""
    page = folder / PAGE
    write_text(page, mesh_markdown(results, broken))
    return page


def mesh_markdown(results: Sequence[MeshResult], broken: Mapping[str, str]) -> str:
    """Return the page: by mesh, by type, and all that does not hold."""
    parts = [
        "# The same bits on every mesh",
        f"{INTRODUCTION}\n\n```\n$ python -m farm mesh --out docs\n```",
        f"{summary(results, broken)}.",
        "## By mesh",
        table(("mesh", "numerics", "oracles", "comparisons", "same bits"), _by_mesh(results), 2),
        "## By oracle",
        table(
            ("oracle", "family", "meshes", "comparisons", "same bits"),
            [_of_type(result) for result in sorted(results, key=lambda r: r.name)],
            left=3,
        ),
    ]
    failed = [(result.name, each.line()) for result in results for each in result.failed]
    failed += list(broken.items())
    if failed:
        parts += ["## What does not hold", table(("oracle", "what"), failed, left=2)]
    return "\n\n".join(parts) + "\n"


def _by_mesh(results: Sequence[MeshResult]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for result in results:
        for each in result.compared:
            of_group = groups.setdefault((each.mesh, each.numerics), [])
            of_group.append((result.name, each.verdict == SAME))
    return [
        (
            *group,
            str(len({name for name, _ in rows})),
            str(len(rows)),
            str(sum(same for _, same in rows)),
        )
        for group, rows in groups.items()
    ]


def _of_type(result: MeshResult) -> tuple[str, ...]:
    same = len(result.compared) - len(result.failed)
    meshes = " · ".join(result.meshes)
    return result.name, result.family, meshes, str(len(result.compared)), str(same)
