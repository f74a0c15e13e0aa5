"""The farm's command line: `python -m farm run`, `python -m farm status`, `python -m farm strength`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dsl.diagnostics import Refused
from farm.matrix.cells import Result
from farm.matrix.matrix import QUICK, cells, run
from farm.matrix.registry import family_types
from farm.matrix.store import DEFAULT, Store
from porting.validate import MODES, NUMERICS
from sohu.terminal.console import bars, diagnostics

MODE_NAMES = {mode.name.split()[0]: mode.name for mode in MODES}
"""The modes by the first word of their names."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the status is 1 where a cell does not pass, 2 where the command makes no sense."""
    options = _parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except Refused as refused:
        diagnostics(refused.diagnostics)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m farm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run_ = commands.add_parser(
        "run", help="port and validate the tiny oracle of every covered type"
    )
    run_.add_argument("--types", nargs="+", default=[], metavar="TYPE")
    run_.add_argument("--families", nargs="+", default=[], metavar="FAMILY")
    run_.add_argument("--numerics", nargs="+", default=list(NUMERICS), choices=NUMERICS)
    run_.add_argument("--modes", nargs="+", default=list(MODE_NAMES), choices=list(MODE_NAMES))
    run_.add_argument("--quick", action="store_true", help="f32, in one go and as a ragged batch")
    run_.add_argument("--jobs", type=int, default=2, metavar="N", help="worker processes")
    run_.add_argument("--store", type=Path, default=DEFAULT, metavar="FILE")
    status = commands.add_parser("status", help="write the page of what is covered, and how well")
    status.add_argument("--store", type=Path, default=DEFAULT, metavar="FILE")
    status.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR")
    strength = commands.add_parser("strength", help="measure which bugs the harness notices")
    strength.add_argument("--types", nargs="+", default=[], metavar="TYPE")
    strength.add_argument("--jobs", type=int, default=2, metavar="N", help="worker processes")
    strength.add_argument("--out", type=Path, default=None, metavar="FILE")
    return parser


def _run(options: argparse.Namespace) -> int:
    if _unknown(options.types):
        return 2
    modes = QUICK if options.quick else [MODE_NAMES[name] for name in options.modes]
    numerics = ("f32",) if options.quick else options.numerics
    wanted = cells(options.types, numerics, modes, options.families)
    if not wanted:
        print("there is nothing to run", file=sys.stderr)
        return 2
    with bars(quiet=not sys.stderr.isatty()) as progress:

        def told(result: Result, done: int, total: int) -> None:
            print(line(result), flush=True)
            progress("farm", done, total)

        results = run(wanted, Store(options.store), max(1, options.jobs), told)
    failed = [result for result in results if not result.passed]
    print(f"{len(results) - len(failed)} of {len(results)} types pass")
    for result in failed:
        print(f"\n{result.model_type}: {result.verdict}\n{result.problem}".rstrip())
    return 1 if failed else 0


def line(result: Result) -> str:
    """Return a result in one line: the worst error of each numerics, with its mode and limit."""
    parts = [f"{result.verdict:<8}{result.model_type:<24}{result.seconds:6.1f} s"]
    for numerics in dict.fromkeys(case["numerics"] for case in result.cases):
        cases = [case for case in result.cases if case["numerics"] == numerics]
        worst = max(cases, key=lambda case: case["rmse"] / case["limit"])
        parts.append(f"{numerics} {worst['rmse']:.1e} of {worst['limit']:.1e} ({worst['mode']})")
    return "  ".join(parts)


def _status(options: argparse.Namespace) -> int:
    from farm.matrix.status import write_status

    for path in write_status(Store(options.store), options.out):
        print(path)
    return 0


def _strength(options: argparse.Namespace) -> int:
    from farm.mutants.campaign import LEAST_CAUGHT, PAGE, gaps, run, share_caught, write

    if _unknown(options.types):
        return 2
    types = options.types or list(family_types())
    with bars(quiet=not sys.stderr.isatty()) as progress:

        def told(model_type: str, done: int, total: int) -> None:
            print(model_type, flush=True)
            progress("strength", done, total)

        measured, broken = run(types, max(1, options.jobs), told)
    page = options.out or (None if options.types else PAGE)
    if page:
        write(measured, broken, page)
        print(page)
    caught = share_caught(measured)
    found = [*gaps(measured), *(f"{name}: {what}" for name, what in broken.items())]
    print("\n".join([*found, f"the rule catches {caught:.1%} of the seeded bugs"]))
    return 1 if found or caught < LEAST_CAUGHT else 0


def _unknown(types: Sequence[str]) -> bool:
    """Tell whether a type is covered by no family, and say so."""
    unknown = sorted(set(types) - set(family_types()))
    if unknown:
        print(f"no family covers {', '.join(unknown)}", file=sys.stderr)
    return bool(unknown)


COMMANDS = {"run": _run, "status": _status, "strength": _strength}

if __name__ == "__main__":
    sys.exit(main())
