# SPDX-License-Identifier: Apache-2.0
"""The farm's command line: `python -m farm COMMAND`, one for each question that the rooms answer.

Parses and prints; what is measured, and how, is decided in the rooms.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dsl.diagnostics import Refused
from farm.matrix.cells import Result
from farm.matrix.matrix import ORACLES, QUICK, cells, run
from farm.matrix.registry import family_types
from farm.matrix.store import DEFAULT, Store
from farm.oracles.shrink import causal_types, outside
from porting.planning.library import write_text
from porting.verdict.feeding import MODES
from porting.verdict.validate import NUMERICS
from sohu.nodes.on_ray import LOCAL
from sohu.terminal.console import bars, diagnostics

MODE_NAMES = {mode.name.split()[0]: mode.name for mode in MODES}
"""The modes by the first word of their names."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what it does in a line, its arguments, and the function that returns the exit status."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the status is 1 where something does not pass, 2 where the command makes no sense."""
    options = _parser().parse_args(arguments)
    try:
        return COMMANDS[options.command].run(options)
    except Refused as refused:
        diagnostics(refused.diagnostics)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m farm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        command.arguments(commands.add_parser(name, help=command.help, description=command.help))
    return parser


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--types", nargs="+", default=[], metavar="TYPE")
    parser.add_argument("--families", nargs="+", default=[], metavar="FAMILY")
    parser.add_argument("--numerics", nargs="+", default=list(NUMERICS), choices=NUMERICS)
    parser.add_argument("--modes", nargs="+", default=list(MODE_NAMES), choices=list(MODE_NAMES))
    parser.add_argument("--oracles", nargs="+", default=[], choices=ORACLES)
    parser.add_argument("--quick", action="store_true", help="f32, in one go and as a ragged batch")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="worker processes")
    parser.add_argument(
        "--ray", nargs="?", const=LOCAL, default="", metavar="ADDRESS",
        help="on a Ray cluster; without an address one is started here",
    )  # fmt: skip
    parser.add_argument("--store", type=Path, default=DEFAULT, metavar="FILE")


def _run(options: argparse.Namespace) -> int:
    if _uncovered(options.types):
        return 2
    modes = QUICK if options.quick else [MODE_NAMES[name] for name in options.modes]
    numerics = ("f32",) if options.quick else options.numerics
    wanted = cells(options.types, numerics, modes, options.families, options.oracles or ORACLES)
    if not wanted:
        print("there is nothing to run", file=sys.stderr)
        return 2
    with bars(quiet=False) as progress:

        def told(result: Result, done: int, total: int) -> None:
            print(line(result), flush=True)
            progress("farm", done, total)

        results = run(wanted, Store(options.store), max(1, options.jobs), told, options.ray)
    failed = [result for result in results if not result.passed]
    print(f"{len(results) - len(failed)} of {len(results)} oracles pass")
    for result in failed:
        print(f"\n{result.name}: {result.verdict}\n{result.problem}".rstrip())
    return 1 if failed else 0


def line(result: Result) -> str:
    """Return a result in one line: the worst error of each numerics, with its mode and limit."""
    parts = [f"{result.verdict:<8}{result.name:<24}{result.seconds:6.1f} s"]
    for numerics in dict.fromkeys(case["numerics"] for case in result.cases):
        cases = [case for case in result.cases if case["numerics"] == numerics]
        worst = max(cases, key=lambda case: case["error"] / case["limit"])
        parts.append(f"{numerics} {worst['error']:.1e} of {worst['limit']:.1e} ({worst['mode']})")
    return "  ".join(parts)


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, default=DEFAULT, metavar="FILE")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR")


def _status(options: argparse.Namespace) -> int:
    from farm.matrix.status import write_status

    for path in write_status(Store(options.store), options.out):
        print(path)
    return 0


def _strength_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--types", nargs="+", default=[], metavar="TYPE")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="worker processes")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE")


def _strength(options: argparse.Namespace) -> int:
    from farm.mutants.campaign import LEAST_CAUGHT, PAGE, gaps, run, share_caught, write

    if _uncovered(options.types):
        return 2
    types = options.types or list(family_types())
    with bars(quiet=False) as progress:

        def told(model_type: str, done: int, total: int) -> None:
            print(model_type, flush=True)
            progress("strength", done, total)

        measured, broken = run(types, max(1, options.jobs), told)
    page = options.out or (None if options.types else PAGE)
    if page:
        write(measured, broken, page)
        print(page)
    caught = share_caught(measured)
    faults = [*gaps(measured), *(f"{name}: {what}" for name, what in broken.items())]
    print("\n".join([*faults, f"the rule catches {caught:.1%} of the seeded bugs"]))
    return 1 if faults or caught < LEAST_CAUGHT else 0


def _bugs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("types", nargs="+", metavar="TYPE")
    parser.add_argument("--each", type=int, default=1, metavar="N", help="lines a bug is seeded at")


def _bugs(options: argparse.Namespace) -> int:
    from farm.mutants.detection import findings

    if _uncovered(options.types):
        return 2
    for model_type in options.types:
        for finding in findings(model_type, options.each):
            print(json.dumps(asdict(finding)), flush=True)
    return 0


def _flips_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("types", nargs="+", metavar="TYPE")


def _flips(options: argparse.Namespace) -> int:
    from farm.mutants.config_flips import flips

    if _uncovered(options.types):
        return 2
    faulty = False
    for model_type in options.types:
        for flip in flips(model_type):
            print(json.dumps(asdict(flip)), flush=True)
            faulty |= flip.faulty
    return int(faulty)


def _layouts_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("types", nargs="*", metavar="TYPE")


def _layouts(options: argparse.Namespace) -> int:
    from farm.mutants.config_layouts import DIFFERS, SAME, layouts

    if _uncovered(options.types):
        return 2
    faulty = False
    for model_type in options.types or family_types():
        for layout in layouts(model_type):
            if layout.verdict != SAME:
                print(json.dumps(asdict(layout)), flush=True)
            faulty |= layout.verdict == DIFFERS
    return int(faulty)


def _describe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE")


def _describe(options: argparse.Namespace) -> int:
    from farm.oracles.describe import describe

    if _unknown(options.type):
        return 2
    print(describe(options.type))
    return 0


def _oracle_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="a type, or the name of a published config")
    parser.add_argument("directory", type=Path, metavar="DIR")


def _oracle(options: argparse.Namespace) -> int:
    from farm.oracles.published_models import published, tiny_published
    from farm.oracles.tiny import tiny

    if options.type in published():
        print(tiny_published(options.directory, options.type))
        return 0
    if _unknown(options.type):
        return 2
    print(tiny(options.directory, options.type))
    return 0


def _examine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="each oracle in a folder here")


def _examine(options: argparse.Namespace) -> int:
    from farm.oracles.examine import examine_all

    with bars(quiet=False) as progress:
        outcomes = examine_all(options.directory, progress)
    print("\n".join(outcome.line() for outcome in outcomes))
    print("\n".join(f"{name:<26} outside: {why}" for name, why in outside().items()))
    failed = [outcome for outcome in outcomes if outcome.problem]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} run, {len(outside())} are outside")
    return 1 if failed else 0


def _verdicts_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="of subjects.toml")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="worker processes")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE")


def _verdicts(options: argparse.Namespace) -> int:
    from farm.mutants.port_verdicts import LEAST_CAUGHT, PAGE, run, share_caught, subjects, write

    if unknown := sorted(set(options.models) - set(subjects())):
        print(f"subjects.toml has no {', '.join(unknown)}", file=sys.stderr)
        return 2
    names = options.models or list(subjects())
    with bars(quiet=False) as progress:
        judged, broken = run(
            names,
            max(1, options.jobs),
            lambda _name, done, total: progress("verdicts", done, total),
        )
    page = options.out or (None if options.models else PAGE)
    if page:
        write(judged, broken, page)
        print(page)
    missed = [j for j in judged if j.is_bug and not j.caught]
    lines = [f"{j.subject}: {j.constant} = {j.was} → {j.now} is not noticed" for j in missed]
    lines += [f"{name}: {what}" for name, what in broken.items()]
    caught = share_caught(judged)
    print("\n".join([*lines, f"the verdict catches {caught:.1%} of the mistakes"]))
    return 1 if broken or caught < LEAST_CAUGHT else 0


def _draws_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a type, demo, a path")
    parser.add_argument("--numerics", nargs="+", default=list(NUMERICS), metavar="NAME")
    parser.add_argument("--draws", type=int, default=50, metavar="N")
    parser.add_argument(
        "--coarse", nargs="+", type=int, default=[], metavar="BITS",
        help="also with weights of so few bits below f32, which must fail or pass on every draw",
    )  # fmt: skip


def _draws(options: argparse.Namespace) -> int:
    from farm.matrix.draws import luck

    changing = False
    with bars(quiet=False) as progress:
        for model in options.models:

            def told(done: int, total: int, name: str = model) -> None:
                progress(name, done, total)

            for row in luck(model, options.numerics, max(1, options.draws), told, options.coarse):
                print(row.line(), flush=True)
                changing |= row.passed not in (0, len(row.cases))
    return 1 if changing else 0


def _classes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=None, metavar="FILE")


def _classes(options: argparse.Namespace) -> int:
    from farm.classes.table import OUT, table, text

    path = options.out or OUT
    write_text(path, text(table()))
    print(path)
    return 0


def _configs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="each .json file in it")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE")


def _configs(options: argparse.Namespace) -> int:
    from farm.matrix.configs import PAGE, outcomes, page

    rows = []
    for row in outcomes(options.folder):
        print(f"{row.verdict:<10}{row.name:<56}{row.reason}"[:160].rstrip(), flush=True)
        rows.append(row)
    out = options.out or PAGE
    write_text(out, page(rows))
    print(out)
    return 0


def _mesh_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--types", nargs="+", default=[], metavar="TYPE")
    parser.add_argument(
        "--quick", action="store_true", help="f32, few meshes, in one go and as a ragged batch"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="worker processes")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="write the page here")


def _mesh(options: argparse.Namespace) -> int:
    from farm.matrix.mesh_status import run_meshes, summary, write_mesh_status
    from farm.matrix.meshes import mesh_cells

    if _uncovered(options.types):
        return 2
    wanted = mesh_cells(options.types, quick=options.quick)
    with bars(quiet=False) as progress:

        def told(line: str, done: int, total: int) -> None:
            print(line, flush=True)
            progress("mesh", done, total)

        results, broken = run_meshes(wanted, max(1, options.jobs), told)
    if options.out:
        print(write_mesh_status(results, broken, options.out))
    failed = [f"{result.name}: {each.line()}" for result in results for each in result.failed]
    failed += [f"{name}: {what}" for name, what in broken.items()]
    print("\n".join([*failed, summary(results, broken)]))
    return 1 if failed else 0


def _sharding_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--types", nargs="+", default=[], metavar="TYPE")
    parser.add_argument(
        "--each", type=int, default=36, metavar="N", help="mistakes in a family; thrice in its port"
    )
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="every Nth is a pair")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="worker processes")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE")


def _sharding(options: argparse.Namespace) -> int:
    from farm.mutants import sharding_page as sharding

    if _uncovered(options.types):
        return 2
    types = options.types or list(sharding.TYPES)
    with bars(quiet=False) as progress:

        def told(model_type: str, done: int, total: int) -> None:
            print(model_type, flush=True)
            progress("sharding", done, total)

        made, broken = sharding.run_sharding(
            types, max(1, options.each), max(0, options.pairs), max(1, options.jobs), told
        )
    page = options.out or (None if options.types else sharding.PAGE)
    if page:
        sharding.write_sharding(made, broken, page)
        print(page)
    faults = sharding.sharding_faults(made) + [f"{name}: {what}" for name, what in broken.items()]
    print("\n".join([*faults, sharding.sharding_summary(made)]))
    return 1 if faults or sharding.share_refused(made) < sharding.LEAST_REFUSED else 0


def _uncovered(types: Sequence[str]) -> bool:
    """Tell whether a type is covered by no family, and say so."""
    uncovered = sorted(set(types) - set(family_types()))
    if uncovered:
        print(f"no family covers {', '.join(uncovered)}", file=sys.stderr)
    return bool(uncovered)


def _unknown(model_type: str) -> bool:
    """Tell whether a type is none of transformers' causal types, and say so."""
    unknown = model_type not in causal_types()
    if unknown:
        print(f"{model_type} is no causal type of transformers", file=sys.stderr)
    return unknown


COMMANDS = {
    "run": Command("port and validate the tiny oracle of every covered type", _run_arguments, _run),
    "mesh": Command("compare meshes with one chip, bit by bit", _mesh_arguments, _mesh),
    "status": Command(
        "write the page of what is covered, and how well", _status_arguments, _status
    ),
    "sharding": Command("seed mistakes in how programs are split", _sharding_arguments, _sharding),
    "strength": Command("measure which bugs the harness notices", _strength_arguments, _strength),
    "verdicts": Command(
        "seed mistakes into ports of models with real lengths, and validate each",
        _verdicts_arguments,
        _verdicts,
    ),
    "draws": Command("judge models on other draws of rows", _draws_arguments, _draws),
    "bugs": Command("seed bugs into types, one JSON line each", _bugs_arguments, _bugs),
    "flips": Command(
        "flip every config key of types, one JSON line each", _flips_arguments, _flips
    ),
    "layouts": Command(
        "plan configs in other layouts, and as transformers saves them",
        _layouts_arguments,
        _layouts,
    ),
    "describe": Command("show a type's keys, tensors and code", _describe_arguments, _describe),
    "oracle": Command("write the tiny oracle of a type", _oracle_arguments, _oracle),
    "configs": Command(
        "plan published configs, and write the page of them", _configs_arguments, _configs
    ),
    "classes": Command("write what transformers' config classes say", _classes_arguments, _classes),
    "examine": Command("write every oracle and see if it runs", _examine_arguments, _examine),
}

if __name__ == "__main__":
    sys.exit(main())
