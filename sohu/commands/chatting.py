# SPDX-License-Identifier: Apache-2.0
"""`sohu chat`: a conversation line by line, at a terminal or from standard input.

At a terminal a line that is refused is told and the conversation goes on; elsewhere it ends the command.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from dsl.diagnostics import Refused, did_you_mean, refuse
from porting.text.tokenizer import MAX_PROMPT
from sohu.api.chatting import Chat
from sohu.api.model import load
from sohu.commands.generating import sampling_of, say_cut
from sohu.terminal import console

SIGN = "> "
ORDER = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Order:
    """What a line that begins with a slash does; None where the conversation ends."""

    help: str
    does: Callable[[Chat, str | None], None] | None


def _system(chat: Chat, text: str | None) -> None:
    chat.begin(text)
    console.say(
        f"begun anew, {'without' if text is None else 'with this'} system message", error=True
    )


def _reset(chat: Chat, _text: str | None) -> None:
    chat.reset()
    console.say("begun anew", error=True)


def _help(_chat: Chat, _text: str | None) -> None:
    for name, order in ORDERS.items():
        console.say(f"/{name:<8} {order.help}", error=True)


ORDERS = {
    "reset": Order("forget what was said", _reset),
    "system": Order("begin anew with the system message that follows, or with none", _system),
    "help": Order("this list", _help),
    "exit": Order("end, as the end of input does", None),
}


def chat(options: argparse.Namespace) -> int:
    """Answer lines until there are no more."""
    model = load(options.folder)
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    sampling = sampling_of(options)
    with console.bars(quiet=options.quiet) as progress:
        talk = model.chat(
            max_new_tokens=options.max_new_tokens,
            system=options.system,
            sampling=sampling,
            stop=options.stop,
            numerics=options.numerics,
            device=options.device,
            mesh=options.mesh,
            progress=progress,
        )
    if at_terminal:
        console.say("/help lists what can be typed beside messages; /exit ends", error=True)
    for line in _lines(at_terminal):
        try:
            if not _answered(talk, line):
                break
        except Refused as refused:
            if not at_terminal:
                raise
            console.diagnostics(refused.diagnostics)
    return 0


def _answered(talk: Chat, line: str) -> bool:
    """Answer a line, or do what it orders; False where it ends the conversation. A blank one says nothing."""
    line = line.rstrip()
    if not line:
        return True
    order = ORDER.fullmatch(line)
    if order is not None:
        return _obeyed(talk, order[1], order[2])
    for piece in talk.say(line.strip()):
        console.say(piece, end="", flush=True)
    console.say()
    if talk.answer is not None:
        say_cut(talk.answer, "the answer")
    return True


def _obeyed(talk: Chat, name: str, text: str | None) -> bool:
    if name not in ORDERS:
        known = [f"/{one}" for one in ORDERS]
        others = f"there are {', '.join(known)}; a message may begin with a space"
        near = did_you_mean(f"/{name}", known) or others
        raise refuse("S111", f"there is no `/{name[:80]}`", help=near)
    does = ORDERS[name].does
    if does is not None:
        does(talk, text)
    return does is not None


def _lines(at_terminal: bool) -> Iterator[str]:
    """Yield lines of standard input; what is no UTF-8 is left for the tokenizer to refuse."""
    if sys.stdin is None or sys.stdin.closed:
        raise refuse("S547", "standard input is closed", place="<stdin>")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    if at_terminal:
        with suppress(ImportError):
            import readline  # noqa: F401, PLC0415 - lets `input` edit lines
    while True:
        line = _line(at_terminal)
        if not line:
            return
        yield line


def _line(at_terminal: bool) -> str:
    """Return a line with its end, nothing at the end of input."""
    if at_terminal and sys.stdout.isatty():
        with suppress(EOFError):
            return f"{input(SIGN)}\n"
        console.say(error=True)
        return ""
    if at_terminal:
        console.say(SIGN, end="", error=True, flush=True)
    return sys.stdin.readline(MAX_PROMPT + 2)
