# SPDX-License-Identifier: Apache-2.0
"""`sohu diff DIR --mesh …` for the command line: the first operation whose bits differ from one chip's, and the chips.

No original is asked: a program alone can be compared so, on weights of any kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from device_model.memory.meshes import mesh_sizes, several
from device_model.mesh.comparing import BesideOne, OtherResult, beside_one
from device_model.mesh.lockstep import Unlike
from dsl.diagnostics import Diagnostic, refuse, render
from porting.files.progress import Progress
from porting.report.proof import Proof
from porting.verdict.compiling import compile_kernels
from porting.verdict.validate import NUMERICS
from sohu.api.model import load
from sohu.api.running import reader_of
from sohu.terminal import console


def diff_chips(path: Path, mesh: str, weights: str | None, progress: Progress) -> BesideOne:
    """Compare the chips of a mesh with one chip; raises `Refused` where the program has no such mesh."""
    if not mesh.strip():
        help_ = (
            "--mesh tp=2; without a mesh a port is compared with its original, on its own weights"
        )
        raise refuse("S306", "no mesh is given", place="--mesh", help=help_)
    model = load(path)
    sizes = mesh_sizes(model.graph, mesh)
    vocabulary = model.vocabulary
    reader = reader_of(path, model.graph, weights, progress)
    compile_kernels(progress)
    return beside_one(model.graph, reader, sizes, vocabulary, NUMERICS, progress)


def as_dict(compared: BesideOne) -> dict[str, object]:
    """Return a comparison as JSON data, with what it proves."""
    return {
        "verdict": "pass" if compared.same_bits else "fail",
        "mesh": dict(compared.mesh),
        "numerics": list(compared.numerics),
        "fed": list(compared.fed),
        "nodes": compared.nodes,
        "guilty": None if compared.unlike is None else _node(compared.unlike),
        "result": None if compared.result is None else _result(compared.result),
        "proof": proof(compared).as_dict(),
    }


def proof(compared: BesideOne) -> Proof:
    """Return what a comparison shows and what it does not."""
    ways = f"in {' and '.join(compared.numerics)}, fed {' and '.join(compared.fed)}"
    rest = (
        "that the program is the original: `validate` judges that",
        "rows of other tokens and lengths",
    )
    if not compared.same_bits:
        return Proof((), (f"{ways}: the chips' bits are not one chip's", *rest))
    shown = f"{ways}, every chip has one chip's bits after each of {compared.nodes:,} operations"
    return Proof((shown, "the compiled chips' results have one chip's bits"), rest)


def show(compared: BesideOne) -> None:
    """Print that all bits are one chip's, or what differs first."""
    ways = f"in {' and '.join(compared.numerics)}, fed {' and '.join(compared.fed)}"
    if compared.same_bits:
        every = f"Every chip of {_mesh(compared.mesh)} has one chip's bits"
        console.say(f"{every} after each of {compared.nodes:,} operations, {ways}.")
        return
    if compared.unlike is not None:
        console.say(render(_of_node(compared.unlike, ways)))
    if compared.result is not None:
        console.say(render(_of_result(compared.result, ways)))


def _mesh(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{axis} = {size}" for axis, size in several(sizes).items())


def _of_node(unlike: Unlike, ways: str) -> Diagnostic:
    where = "outside of the layers" if unlike.layer < 0 else f"in layer {unlike.layer}"
    message = f"`{unlike.node.op}` differs first from one chip, {where}, {_chips(unlike)}"
    return Diagnostic("S582", message, unlike.node.span, notes=tuple(_notes(unlike, ways)))


def _chips(unlike: Unlike) -> str:
    named = ["(" + ", ".join(f"{a} {n}" for a, n in at.items()) + ")" for at in unlike.chips]
    return f"on chip {named[0]}" if len(named) == 1 else f"on chips {', '.join(named)}"


def _notes(unlike: Unlike, ways: str) -> Iterator[str]:
    far = "" if unlike.away == float("inf") else f", by at most {unlike.away:.1e}"
    yield (
        f"{ways}: what it is given has one chip's bits, its result `{unlike.what}` has not, first at token "
        f"{unlike.row} of step {unlike.step + 1}{far}"
    )
    if unlike.weight is not None:
        yield f"its weight `{unlike.weight}` is not that chip's part of the whole one"


def _of_result(result: OtherResult, ways: str) -> Diagnostic:
    message = f"the compiled chips give another result, first of sequence {result.sequence} at token {result.token}"
    notes = (f"{ways}: in plain numpy every operation has one chip's bits",)
    help_ = "a kernel's compiled form is at fault, or how chips meet, not the program"
    return Diagnostic("S582", message, notes=notes, help=help_)


def _node(unlike: Unlike) -> dict[str, object]:
    row, column = unlike.node.span.source.position(unlike.node.span.start)
    return {
        "op": unlike.node.op,
        "layer": unlike.layer,
        "place": f"{unlike.node.span.source.name}:{row + 1}:{column + 1}",
        "text": unlike.node.span.source.line(row).strip(),
        "chips": [dict(at) for at in unlike.chips],
        "value": unlike.what,
        "step": unlike.step,
        "token": unlike.row,
        "away": _number(unlike.away),
        "weight": unlike.weight,
    }


def _result(result: OtherResult) -> dict[str, object]:
    return {"sequence": result.sequence, "token": result.token, "away": _number(result.away)}


def _number(value: float) -> float | None:
    """Return a number that JSON has."""
    return None if value == float("inf") else value
