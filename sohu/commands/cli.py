# SPDX-License-Identifier: Apache-2.0
"""The command line: `sohu COMMAND` and `port MODEL`. Turns outcomes into exit statuses.

0: every verdict passes; 1: a verdict fails; 2: the input is refused; 70: a fault of ours; 130, 143: interrupted, ended;
141: nobody reads on. Which commands there are is in `sohu.commands.table`.
"""

from __future__ import annotations

import argparse
import gc
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from dsl.diagnostics import Refused
from dsl.extras import naming_extras
from sohu.commands import arguments, parsing, table
from sohu.terminal import console

EXIT_REFUSED, EXIT_FAULT = 2, 70
EXIT_INTERRUPTED, EXIT_UNREAD, EXIT_ENDED = 130, 141, 143
COLLECT_AFTER = 100_000
"""Objects after which garbage is looked for: a text is many that stay, and Python's 700 cost a third of a check."""
ENDING = (signal.SIGTERM, signal.SIGHUP)
Parse: TypeAlias = Callable[[list[str]], argparse.Namespace | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sohu` and return its exit status; `--help` and `--version` raise `SystemExit`, as argparse has it."""
    return _run(list(sys.argv[1:] if arguments is None else arguments), parsing.parsed)


def port_main(arguments: Sequence[str] | None = None) -> int:
    """Run `port`, which is `sohu port`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return _run(given, lambda words: parsing.parser_of("port", prog="port").parsed(words))


def _run(given: list[str], parse: Parse) -> int:
    _print_anything()
    gc.set_threshold(COLLECT_AFTER)
    try:
        options = _understood(given, parse)
        if options is None:
            return EXIT_REFUSED
        with _ending():
            return _answered(options)
    except _Ended:
        return EXIT_ENDED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        console.abandon()
        return EXIT_UNREAD


def _understood(given: list[str], parse: Parse) -> argparse.Namespace | None:
    """Return the options of a command, None where there is none to run and it was said why."""
    try:
        options = parse(given)
    except parsing.Misused as misused:
        console.misused(misused.message, misused.help, misused.parser, json="--json" in given)
        return None
    except SystemExit:  # help or the version, which are still to be handed on
        sys.stdout.flush()
        raise
    if options is None:
        console.say(parsing.overview().format_help(), end="", error=True)
    return options


def _answered(options: argparse.Namespace) -> int:
    """Run a command; every outcome but an interruption becomes a status, and says what it is."""
    try:
        with naming_extras():
            arguments.check_arguments(options)
            arguments.check_outputs(options)
            arguments.find_program(options)
            status = table.COMMANDS[options.command].does(options)
        console.finish()
    except Refused as refused:
        console.refused(refused, options)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        console.interrupted()
        raise
    except (SystemExit, BrokenPipeError):
        raise
    except BaseException as error:  # noqa: BLE001 - the last resort; a library's panic is no Exception
        from sohu.terminal.faults import fault  # noqa: PLC0415

        console.faulty(fault(error), options)
        return EXIT_FAULT
    return status


class _Ended(KeyboardInterrupt):
    """Somebody ends the process: what is open is closed as after Ctrl-C."""


@contextmanager
def _ending() -> Iterator[None]:
    """Treat the signals that end a process as an interruption, so that nothing is left half-written."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once: the second one would break the cleaning up
        raise _Ended

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_anything() -> None:
    """Let a terminal of few characters show the others as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
