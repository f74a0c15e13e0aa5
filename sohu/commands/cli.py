"""The command line: `sohu COMMAND` and `port MODEL`. Parses arguments and turns outcomes into exit statuses.

0: every verdict passes; 1: a verdict fails; 2: the input is refused; 70: a fault of ours; 130, 143: interrupted, ended;
141: nobody reads on. What commands do is in `sohu.commands.table`.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from dsl.harmless import harmless
from dsl.whole_numbers import whole_number

EXIT_REFUSED, EXIT_FAULT = 2, 70
EXIT_INTERRUPTED, EXIT_UNREAD, EXIT_ENDED = 130, 141, 143
ENDING = (signal.SIGTERM, signal.SIGHUP)
LARGEST = 10**12 - 1
PROGRAM = "a text, a port, or a model's folder or config.json, which is planned first"
MAX_AMOUNT = 1e9
MAX_EXPONENT = 4.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sohu` and return its exit status."""
    _print_anything()
    options = _parser().parse_args(arguments)
    try:
        with _ending():
            return _answered(options)
    except _Ended:
        return EXIT_ENDED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        from sohu.terminal import console  # noqa: PLC0415 - as below

        console.abandon()
        return EXIT_UNREAD


def _answered(options: argparse.Namespace) -> int:
    """Run a command; every outcome but an interruption becomes a status, and says what it is."""
    # Imported now: `--help` and usage errors need none of it.
    from dsl.diagnostics import Refused  # noqa: PLC0415
    from dsl.extras import naming_extras  # noqa: PLC0415
    from sohu.commands import arguments, table  # noqa: PLC0415
    from sohu.terminal import console  # noqa: PLC0415

    try:
        with naming_extras():
            arguments.check_arguments(options)
            status = table.COMMANDS[options.command](options)
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


def port_main(arguments: Sequence[str] | None = None) -> int:
    """Run `port`, which is `sohu port`."""
    given = sys.argv[1:] if arguments is None else arguments
    return main(["port", *given])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sohu", description="Port transformer models to an accelerator, check and run them."
    )
    parser.add_argument("--version", action=_Version, help="print the version and stop")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _port(commands.add_parser("port", help="port a model: plan, validate, report"))
    _check(commands.add_parser("check", help="parse, bind and infer .sohu files"))
    _fmt(commands.add_parser("fmt", help="rewrite .sohu files in the canonical layout"))
    _cost(commands.add_parser("cost", help="memory and work: formulas and values"))
    _fit(commands.add_parser("fit", help="whether a program fits a device, and how far it grows"))
    _run(commands.add_parser("run", help="run a port on given tokens"))
    _validate(
        commands.add_parser("validate", help="validate a port again, or a text on weights of yours")
    )
    _diff(commands.add_parser("diff", help="name the first operation that departs"))
    _generate(commands.add_parser("generate", help="greedy text from a port"))
    _profile(commands.add_parser("profile", help="time on a device, and what holds it up"))
    _sweep(commands.add_parser("sweep", help="what if the device, mesh, batch … were others"))
    _predict(commands.add_parser("predict", help="predicted times for a table of shapes"))
    _calibrate(commands.add_parser("calibrate", help="fit the cost formulas to measured times"))
    _explain(
        commands.add_parser("explain", help="what a code means; the language; texts of the zoo")
    )
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with arguments as they may be printed."""

    def error(self, message: str) -> NoReturn:
        """Print how the command is used and what is wrong, and stop."""
        super().error(harmless(message))


class _Version(argparse.Action):
    """Prints the version, which is read for nobody who does not ask."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it as other programs do: the name, then the number."""
        from sohu.api.version import version  # noqa: PLC0415 - for this alone

        print(f"{parser.prog} {version()}")
        parser.exit()


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def _port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder, hub id, .gguf file, config.json (with --plan), or demo; or an adapter's folder",
    )
    pair = parser.add_mutually_exclusive_group()
    pair.add_argument("--adapter", metavar="FOLDER", help="port MODEL with this PEFT adapter")
    pair.add_argument("--base", metavar="BASE", help="port this model with the adapter MODEL")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write the port")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of a hub id")
    parser.add_argument(
        "--family", type=Path, metavar="FILE", help="use the family of this .sohu file"
    )
    parser.add_argument("--device", metavar="D", help="also tell whether it fits, as sohu fit")
    parser.add_argument("--mesh", default="", metavar="tp=8", help="chips along each mesh axis")
    _products(parser)
    parser.add_argument("--plan", action="store_true", help="stop before weights are read")
    parser.add_argument("--no-validate", action="store_true", help="write without a verdict")
    parser.add_argument("--force", action="store_true", help="write over an edited model.sohu")
    _reference(parser)
    _rows(parser)
    _json(parser)


def _reference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reference", metavar="R",
        help="judge by this, not by transformers: module:function, or L.npy for the rows of --tokens",
    )  # fmt: skip


def _rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt", action="append", default=[], metavar="TEXT", help="judge this text too"
    )
    parser.add_argument(
        "--tokens", action="append", default=[], type=Path, metavar="T.npy",
        help="judge these rows of token ids too, [S] or [B, S]",
    )  # fmt: skip


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    _json(parser)


def _fmt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="only tell which files would change")


def _cost(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="FILE|DIR", help=PROGRAM)
    _point(parser)
    _json(parser)


def _fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="FILE|DIR", help=PROGRAM)
    parser.add_argument("--device", required=True, metavar="D", help="such as h100 or sohu")
    _point(parser)
    _json(parser)


def _point(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mesh", default="", metavar="tp=8", help="chips along each mesh axis")
    parser.add_argument("--batch", type=_positive, default=1, metavar="B", help="sequences")
    parser.add_argument(
        "--seq", type=_positive, default=1, metavar="S", help="tokens of a prompt, where not C"
    )
    parser.add_argument(
        "--context",
        type=_natural,
        default=4096,
        metavar="C",
        help="tokens cached before a decode step (4096), which then holds C + 1",
    )
    _products(parser)
    parser.add_argument(
        "--logits", choices=("last", "all"), default="last", help="of which new tokens (last)"
    )


def _products(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--numerics", default="bf16", metavar="NAME", help="format of products (bf16)"
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="DIR|FILE")
    parser.add_argument("--tokens", type=Path, required=True, metavar="T.npy", help="int [B, S]")
    parser.add_argument("--logits", type=Path, required=True, metavar="L.npy", help="f32 [B, S, V]")
    _numerics(parser)
    parser.add_argument("--chunk", type=_positive, metavar="N", help="tokens a step")
    parser.add_argument(
        "--weights", metavar="W", help="a .safetensors file or a folder of them, or random:SEED"
    )
    _json(parser)


def _validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="DIR|FILE")
    parser.add_argument(
        "--weights", type=Path, metavar="W", help="a .safetensors file or a folder of them"
    )
    _reference(parser)
    parser.add_argument(
        "--numerics", action="append", default=[], metavar="NAME", help="instead of f32 and bf16"
    )
    parser.add_argument("--device", metavar="D", help="with this device's accumulators")
    _rows(parser)
    _json(parser)


def _diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR")
    _json(parser)


def _generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--system", metavar="TEXT", help='system message; "" is one too')
    parser.add_argument("--max-new-tokens", type=_positive, default=64, metavar="N")
    _numerics(parser)


def _numerics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--numerics", default="bf16", metavar="NAME", help="f32, bf16, f16, f8e4m3, int8, mxfp4, …"
    )
    parser.add_argument("--device", metavar="D", help="with this device's accumulators")


def _profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="FILE|DIR", help=PROGRAM)
    parser.add_argument(
        "--device", required=True, metavar="D", help="such as h100, sohu or my.toml"
    )
    _point(parser)
    _times(parser)
    parser.add_argument("--trace", type=Path, metavar="OUT", help="write a Perfetto trace")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a page with plots")
    parser.add_argument("--explain", metavar="OP", help="how the numbers of a task came about")
    _json(parser)


def _times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skew", type=_exponent, default=0.0, metavar="A", help="power law of expert loads (even)"
    )
    parser.add_argument(
        "--host", type=_amount, default=0.0, metavar="MS", help="milliseconds between steps"
    )


def _sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="FILE|DIR", help=PROGRAM)
    parser.add_argument(
        "--device", required=True, metavar="D", help="such as h100, sohu or my.toml"
    )
    _point(parser)
    _times(parser)
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="a quantity of the device, batch, seq, context or a mesh axis: 1,2,4 or 4e12:8e12:9",
    )
    parser.add_argument("--out", type=Path, metavar="OUT", help="every point as .csv or .parquet")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a page with plots")
    _json(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="a .parquet or .csv table of shapes"
    )
    parser.add_argument(
        "--op",
        required=True,
        choices=(
            "gemm", "attention_context", "attention_generation", "moe", "collective", "serving",
        ),
    )  # fmt: skip
    parser.add_argument(
        "--device", required=True, metavar="D", help="such as h100, sohu or my.toml"
    )
    parser.add_argument("--dtype", default="bf16", metavar="T", help="format of products (bf16)")
    parser.add_argument("--out", type=Path, required=True, metavar="P", help=".parquet or .csv")
    _json(parser)


def _calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DIR", help="a folder of measured times")
    parser.add_argument("--device", default="h100_sxm", metavar="D")
    parser.add_argument(
        "--section", action="append", default=[], metavar="NAME", help="only this part of it"
    )
    parser.add_argument("--out", type=Path, metavar="OUT", help="write the calibration")
    _json(parser)


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="WHAT",
        help="a code; language, own-architecture, new-architecture; or a text of the zoo: llama, blocks/norm",
    )  # fmt: skip


def _positive(text: str) -> int:
    value = _natural(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _natural(text: str) -> int:
    value = whole_number(text, LARGEST)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no whole number")
    return value


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_AMOUNT:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MAX_AMOUNT:g}")
    return value


def _exponent(text: str) -> float:
    value = float(text)
    if not 0 <= value < MAX_EXPONENT:
        raise argparse.ArgumentTypeError(f"{text} is no exponent from 0 to below {MAX_EXPONENT:g}")
    return value
