# SPDX-License-Identifier: Apache-2.0
"""What each command does, between its arguments and its exit status.

Heavy libraries are imported by the command that needs them, so that `check` and `fmt` start fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsl.extras import require
from sohu.terminal import console

if TYPE_CHECKING:
    from sohu.api.model import Model

OK, FAILED = 0, 1


def port(options: argparse.Namespace) -> int:
    """Run the whole pipeline and report."""
    from porting.report.model import FILES, Verdict
    from porting.report.proof import with_proof
    from sohu.api.port import port as run

    # A base with an adapter, from whichever side they are named.
    model, adapter = options.model, options.adapter
    if options.base is not None:
        model, adapter = options.base, options.model
    with console.bars(quiet=options.json or options.quiet) as progress:
        result = run(
            model,
            out=options.out,
            revision=options.revision,
            adapter=adapter,
            device=options.device,
            mesh=options.mesh,
            numerics=options.numerics,
            plan=options.plan,
            validate=not options.no_validate,
            prompts=options.prompt,
            tokens=_token_rows(options.tokens),
            family=options.family,
            reference=options.reference,
            force=options.force,
            progress=progress,
        )
    if options.json:
        console.emit(with_proof(result.report))
    else:
        console.report(result.report)
        console.say("\n".join(str(result.folder / name) for name in FILES))
    return FAILED if result.verdict is Verdict.FAIL else OK


def _token_rows(paths: Sequence[Path]) -> list[Any]:
    """Return the arrays of token ids in some files; whose ids they are is seen where the model is known."""
    from sohu.api.tokens import read_tokens

    return [read_tokens(path) for path in paths]


def check(options: argparse.Namespace) -> int:
    """Check texts."""
    from sohu.commands.texts import check as run

    return run(options)


def fmt(options: argparse.Namespace) -> int:
    """Rewrite texts in the canonical layout, or tell which would change."""
    from sohu.commands.texts import fmt as run

    return run(options)


def _loaded(options: argparse.Namespace) -> Model:
    """Return the program that is asked about, and say what was assumed of one that was planned for it."""
    from sohu.api.model import load

    model = load(options.path)
    for note in model.notes:
        console.note(note)
    return model


def cost(options: argparse.Namespace) -> int:
    """Show memory and work of a bound program."""
    from sohu.performance import costing

    found = _loaded(options).cost(
        mesh=options.mesh,
        batch=options.batch,
        seq=options.seq,
        context=options.context,
        numerics=options.numerics,
        logits=options.logits,
    )
    if options.json:
        console.emit(found.as_dict())
    else:
        costing.show_cost(found)
    return OK


def fit(options: argparse.Namespace) -> int:
    """Tell whether a program fits a device, and how far it could grow there."""
    from sohu.performance import fitting

    found = _loaded(options).fit(
        options.device,
        mesh=options.mesh,
        batch=options.batch,
        seq=options.seq,
        context=options.context,
        numerics=options.numerics,
        logits=options.logits,
    )
    if options.json:
        console.emit(fitting.fit_as_dict(found))
    else:
        fitting.show_fit(found)
    return OK if found.fits else FAILED


def run(options: argparse.Namespace) -> int:
    """Run a program on given tokens and write its logits."""
    from sohu.commands.running import run_tokens
    from sohu.commands.values import mesh_as_dict

    with console.bars(quiet=options.json or options.quiet) as progress:
        shape = run_tokens(options, progress)
    if options.json:
        console.emit(
            {
                "logits": str(options.logits),
                "shape": list(shape),
                "mesh": mesh_as_dict(options.mesh),
            }
        )
    else:
        console.say(f"{options.logits}: float32 {list(shape)}")
    return OK


def validate(options: argparse.Namespace) -> int:
    """Validate an existing port again."""
    from porting.report.model import Verdict
    from porting.report.proof import with_proof
    from sohu.api.model import Model

    # Not `load`: a text that no longer checks is a verdict here.
    model = Model(options.path)
    with console.bars(quiet=options.json or options.quiet) as progress:
        report = model.validate(
            numerics=options.numerics,
            device=options.device,
            mesh=options.mesh,
            prompts=options.prompt,
            tokens=_token_rows(options.tokens),
            weights=options.weights,
            reference=options.reference,
            progress=progress,
        )
    if options.json:
        console.emit(with_proof(report))
    else:
        console.report(report)
    return OK if report.verdict is Verdict.PASS else FAILED


def diff(options: argparse.Namespace) -> int:
    """Name the first operation of a port that departs from the original model, or of chips from one chip."""
    from sohu.api.model import VALIDATION

    if options.mesh or options.weights is not None:
        return _diff_chips(options)
    from sohu.commands import diffing

    require(*VALIDATION)
    with console.bars(quiet=options.json or options.quiet) as progress:
        found = diffing.diff(options.folder, progress)
    if options.json:
        console.emit(found.as_dict() | {"proof": diffing.proof(found).as_dict()})
    else:
        diffing.show(found)
    return FAILED if found.sources else OK


def _diff_chips(options: argparse.Namespace) -> int:
    """Name the first operation whose bits on a mesh are not one chip's."""
    from sohu.api.model import RUNNING

    require(*RUNNING)
    from sohu.commands import diffing_chips

    with console.bars(quiet=options.json or options.quiet) as progress:
        compared = diffing_chips.diff_chips(options.folder, options.mesh, options.weights, progress)
    if options.json:
        console.emit(diffing_chips.as_dict(compared))
    else:
        diffing_chips.show(compared)
    return OK if compared.same_bits else FAILED


def generate(options: argparse.Namespace) -> int:
    """Show the answers of a port to prompts."""
    from sohu.commands.generating import generate as run

    return run(options)


def chat(options: argparse.Namespace) -> int:
    """Talk to a port."""
    from sohu.commands.chatting import chat as run

    return run(options)


def explain(options: argparse.Namespace) -> int:
    """Explain a diagnostic code, or print a page or a text of the zoo."""
    from sohu.commands.explaining import explained

    text = explained(options.what)
    if options.json:
        console.emit({"what": options.what, "text": text})
    else:
        console.say(text, end="")
    return OK


def new(options: argparse.Namespace) -> int:
    """Write a first text and say what to do with it."""
    from sohu.commands.beginning import NEXT, begin

    path = begin(options.name)
    following = [f"sohu {command.format(path)}" for command in NEXT]
    if options.json:
        console.emit({"path": str(path), "next": following})
        return OK
    console.say("\n".join([f"wrote {path}; next:", *(f"  {line}" for line in following)]))
    return OK


def list_(options: argparse.Namespace) -> int:
    """List what there is of a kind, a line each."""
    from sohu.commands.listing import listed

    entries = listed(options.kind)
    if options.json:
        rows = [{"name": entry.name, "about": entry.about} for entry in entries]
        console.emit({"kind": options.kind, "entries": rows})
        return OK
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        console.say(f"{entry.name:{width}}  {entry.about}")
    return OK


def lsp(options: argparse.Namespace) -> int:
    """Serve an editor until it goes."""
    require("pygls", "lsprotocol")
    from sohu.language_server.server import serve

    serve()
    return OK


def nearest(options: argparse.Namespace) -> int:
    """Name the family that claims a model, or the nearest one."""
    from sohu.commands.nearest import show, start_of

    start = start_of(options.model)
    if options.json:
        console.emit(start.as_dict())
    else:
        show(start)
    return OK


def env(options: argparse.Namespace) -> int:
    """Tell what results and faults depend on here."""
    from sohu.commands.environment import environment, show

    there = environment()
    if options.json:
        console.emit(there.as_dict())
    else:
        show(there)
    return OK


def completion(options: argparse.Namespace) -> int:
    """Print the script of a shell."""
    from sohu.commands.completion import script

    console.hand_on(script(options.shell, options.described()))
    return OK


def mcp(options: argparse.Namespace) -> int:
    """Serve the tools of agents."""
    from sohu.commands.agents import mcp as run

    return run(options)


def profile(options: argparse.Namespace) -> int:
    """Time a program on a device and say what holds it up."""
    from sohu.commands.profiling import profile as run

    return run(options)


def sweep(options: argparse.Namespace) -> int:
    """Vary a design and plot what it would do."""
    from sohu.commands.sweeping import sweep as run

    return run(options)


def collective(options: argparse.Namespace) -> int:
    """Check, time or make a schedule of a collective."""
    from sohu.commands.collectives import collective as run

    return run(options)


def predict(options: argparse.Namespace) -> int:
    """Predict the times of a table's rows."""
    from sohu.commands.predicting import predicted, show

    with console.bars(quiet=options.json or options.quiet) as progress:
        found = predicted(
            options.data, options.op, options.device, options.dtype, options.out, progress
        )
    if options.json:
        console.emit(found.as_dict())
    else:
        show(found)
    return OK


def calibrate(options: argparse.Namespace) -> int:
    """Fit the cost formulas to measured times."""
    require("pyarrow", "scipy")
    from sohu.commands.calibrating import calibrate as run

    return run(options)
