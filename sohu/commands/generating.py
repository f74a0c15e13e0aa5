# SPDX-License-Identifier: Apache-2.0
"""`sohu generate`: prompts from arguments or files, answers as they are made, and how fast that was."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from device_model.sampling.policy import GREEDY, Sampling
from dsl.diagnostics import refuse
from dsl.regular_file import TooLarge, read_at_most, read_regular
from porting.text.tokenizer import MAX_PROMPT
from sohu.api.answering import Answer, Answering, End, Pace
from sohu.api.model import Model, load
from sohu.commands.on_nodes import placed
from sohu.commands.values import mesh_as_dict
from sohu.terminal import console

STANDARD_INPUT = Path("-")
TITLE = 60
CUT = {
    End.LENGTH: "it is cut after {0} tokens; --max-new-tokens {1} lets it be longer",
    End.POSITIONS: "it is cut after {0} tokens, where the model's positions end",
}


def generate(options: argparse.Namespace) -> int:
    """Show the answers to all prompts, as they are made, or as JSON when they are."""
    model = load(options.folder)
    with placed(options, model):
        return _generated(options, model)


def _generated(options: argparse.Namespace, model: Model) -> int:
    prompts = options.prompt or [_read(path) for path in options.prompt_file]
    sampling = sampling_of(options)
    with console.bars(quiet=options.json or options.quiet) as progress:
        answering = model.answers(
            prompts,
            max_new_tokens=options.max_new_tokens,
            system=options.system,
            sampling=sampling,
            stop=options.stop,
            logprobs=options.logprobs,
            raw=options.raw,
            numerics=options.numerics,
            device=options.device,
            mesh=options.mesh,
            progress=progress,
        )
    if options.json:
        for _ in answering:
            pass
        console.emit(_as_dict(prompts, answering, sampling, options.numerics, options.mesh))
        return 0
    _stream(prompts, answering)
    if options.logprobs is not None:
        for number, answer in enumerate(answering.answers, 1):
            _show_likelihoods(answer, f"answer {number}" if len(prompts) > 1 else "answer")
    for number, answer in enumerate(answering.answers, 1):
        say_cut(answer, f"answer {number}" if len(prompts) > 1 else "the answer")
    console.say(_pace(answering.answers, answering.pace), error=True)
    return 0


def sampling_of(options: argparse.Namespace) -> Sampling:
    """Return how tokens are chosen, and note what has no effect because nothing is drawn."""
    given = {name: getattr(options, name) for name in ("top_k", "top_p", "min_p", "seed")}
    sampling = Sampling(temperature=options.temperature, **given)
    idle = [f"--{n.replace('_', '-')}" for n, x in given.items() if x != getattr(GREEDY, n)]
    if sampling.is_greedy and idle:
        console.note(f"{', '.join(idle)}: no effect, as the temperature is 0; try --temperature 1")
    return sampling


def say_cut(answer: Answer, name: str) -> None:
    """Note that an answer is cut, where it is."""
    if answer.end in CUT:
        count = len(answer.ids)
        console.note(f"{name} is not at its end: {CUT[answer.end].format(count, 4 * count)}")


def _read(path: Path) -> str:
    """Return the prompt in a file, without the new line at its end; raises `Refused` (S547) where there is no text."""
    name = "<stdin>" if path == STANDARD_INPUT else str(path)
    try:
        data = _standard_input() if path == STANDARD_INPUT else read_regular(path, 4 * MAX_PROMPT)
        text = data.decode()
    except TooLarge as error:
        raise refuse("S547", f"the prompt is {error.strerror}", place=name) from None
    except OSError as error:
        raise refuse("S547", f"cannot be read: {error.strerror}", place=name) from None
    except UnicodeDecodeError as error:
        raise refuse("S547", f"not UTF-8 at byte {error.start}", place=name) from None
    return text.removesuffix("\n").removesuffix("\r")


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.closed:
        raise refuse("S547", "standard input is closed", place="<stdin>")
    return read_at_most(sys.stdin.buffer, 4 * MAX_PROMPT)


def _stream(prompts: Sequence[str], answering: Answering) -> None:
    """Print an answer as it is made, each of several under a heading; those behind it are made meanwhile, and wait."""
    waiting = [""] * len(prompts)
    shown = 0
    _head(prompts, 0)
    for row, piece in answering:
        waiting[row] += piece
        while True:
            console.say(waiting[shown], end="", flush=True)
            waiting[shown] = ""
            if answering.answers[shown].end is None or shown + 1 == len(prompts):
                break
            shown += 1
            _head(prompts, shown)
    for last in range(shown, len(prompts)):
        if last > shown:
            _head(prompts, last)
        console.say(waiting[last], end="")
    console.say()


def _head(prompts: Sequence[str], row: int) -> None:
    """Print the heading of an answer where there are several, a blank line after the one before."""
    if len(prompts) > 1:
        line = " ".join(prompts[row].split())
        title = line if len(line) <= TITLE else f"{line[: TITLE - 1]}…"
        console.say(f"{'' if row == 0 else chr(10) * 2}[{row + 1}] {title}")


def _show_likelihoods(answer: Answer, title: str) -> None:
    rows = [
        (
            repr(chosen.token)[1:-1], f"{chosen.id:,}", f"{chosen.logprob:.4f}",
            "  ".join(f"{x.token!r} {x.logprob:.4f}" for x in likeliest),
        )
        for chosen, *likeliest in answer.likelihoods
    ]  # fmt: skip
    heads = ("token", "id", "log-probability", "likeliest")
    console.table(f"Log-probabilities of the {title}", heads, rows, left=(0, 3))


def _pace(answers: Sequence[Answer], pace: Pace) -> str:
    """Return how fast answers were made, in a line."""
    read = sum(len(answer.prompt) for answer in answers)
    made = sum(len(answer.ids) for answer in answers)
    rate = pace.tokens_per_second
    after = "" if rate is None else f", then {rate:,.1f} tokens/s"
    return f"{read:,} tokens read, {made:,} made: {pace.first:.2f} s to the first{after}"


def _as_dict(
    prompts: Sequence[str],
    answering: Answering,
    sampling: Sampling,
    numerics: str,
    mesh: str,
) -> dict[str, object]:
    pace = answering.pace
    return {
        "answers": [
            {"prompt": prompt, **answer.as_dict()}
            for prompt, answer in zip(prompts, answering.answers, strict=True)
        ],
        "sampling": asdict(sampling),
        "numerics": numerics,
        "mesh": mesh_as_dict(mesh),
        "seconds": {"first_token": pace.first, "all": pace.last},
        "tokens_per_second": pace.tokens_per_second,
    }
