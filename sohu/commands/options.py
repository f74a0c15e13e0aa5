# SPDX-License-Identifier: Apache-2.0
"""The arguments of each command. What a command is called and does is in `sohu.commands.table`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dsl.whole_numbers import whole_number
from sohu.commands import values
from sohu.commands.collectives import ACTIONS
from sohu.commands.listing import KINDS

SHELLS = ("bash", "zsh", "fish")
LARGEST = 10**12 - 1
PROGRAM = (
    "a text, a port, a name of the zoo, or a model's folder or config.json, which is planned first"
)
TEXTS = "a text, a port, a folder with texts, - for standard input"
MAX_AMOUNT = 1e9
MAX_BUFFER = 1e15
"""Bytes of a collective."""
MAX_EXPONENT = 4.0


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def _long(parser: argparse.ArgumentParser) -> None:
    """Declare what commands take that tell how far they are."""
    parser.add_argument("--quiet", action="store_true", help="say nothing of the progress")
    _json(parser)


def port(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu port`."""
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
    _long(parser)


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


def check(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu check`."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE|DIR|-", help=f"{TEXTS}, a name of the zoo"
    )
    _json(parser)


def fmt(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu fmt`."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE|DIR|-", help=TEXTS)
    parser.add_argument("--check", action="store_true", help="only tell which files would change")
    _json(parser)


def cost(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu cost`."""
    parser.add_argument("path", type=Path, metavar="FILE|DIR", help=PROGRAM)
    _point(parser)
    _json(parser)


def fit(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu fit`."""
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


def run(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu run`."""
    parser.add_argument("path", type=Path, metavar="DIR|FILE")
    parser.add_argument("--tokens", type=Path, required=True, metavar="T.npy", help="int [B, S]")
    parser.add_argument("--logits", type=Path, required=True, metavar="L.npy", help="f32 [B, S, V]")
    _numerics(parser)
    parser.add_argument("--chunk", type=_positive, metavar="N", help="tokens a step")
    parser.add_argument(
        "--weights", metavar="W", help="a .safetensors file or a folder of them, or random:SEED"
    )
    _nodes(parser)
    _long(parser)


def validate(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu validate`."""
    parser.add_argument("path", type=Path, metavar="DIR|FILE")
    parser.add_argument(
        "--weights", type=Path, metavar="W", help="a .safetensors file or a folder of them"
    )
    _reference(parser)
    parser.add_argument(
        "--numerics", action="append", default=[], metavar="NAME", help="instead of f32 and bf16"
    )
    parser.add_argument("--device", metavar="D", help="with this device's accumulators")
    _mesh(parser)
    _rows(parser)
    _long(parser)


def diff(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu diff`."""
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--mesh", default="", metavar="tp=8",
        help="compare the chips of a mesh with one chip, not the port with its original",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="W", help="with --mesh: a .safetensors file, a folder, or random:SEED"
    )
    _long(parser)


def generate(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu generate`."""
    parser.add_argument("folder", type=Path, metavar="DIR")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--prompt", action="append", default=[], metavar="TEXT",
        help="several are answered together",
    )  # fmt: skip
    given.add_argument(
        "--prompt-file", action="append", default=[], type=Path, metavar="FILE",
        help="a prompt is all of a file, or of standard input (-)",
    )  # fmt: skip
    template = parser.add_mutually_exclusive_group()
    _system(template)
    template.add_argument("--raw", action="store_true", help="continue the text, without template")
    _manner(parser, 64)
    parser.add_argument(
        "--logprobs", type=_natural, metavar="N",
        help="log-probabilities of each token and of the N likeliest in its place",
    )  # fmt: skip
    _numerics(parser)
    _nodes(parser)
    _long(parser)


def chat(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu chat`."""
    parser.add_argument("folder", type=Path, metavar="DIR")
    _system(parser)
    _manner(parser, 512)
    _numerics(parser)
    parser.add_argument("--quiet", action="store_true", help="say nothing of the progress")


def _nodes(parser: argparse.ArgumentParser) -> None:
    """Declare on which nodes the chips of a mesh are."""
    parser.add_argument("--nodes", type=_positive, metavar="N", help="processes that have them")
    parser.add_argument(
        "--address", nargs="?", const="local", default="", metavar="A",
        help="nodes of a Ray cluster; without an address one is started here",
    )  # fmt: skip
    parser.add_argument("--faults", type=_natural, metavar="SEED", help="faults of links and nodes")
    parser.add_argument(
        "--reshard", action="store_true",
        help="where a node dies, go on without it on a smaller mesh",
    )  # fmt: skip


def _system(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--system", metavar="TEXT", help='system message; "" is one too')


def _manner(parser: argparse.ArgumentParser, most: int) -> None:
    parser.add_argument(
        "--max-new-tokens", type=_positive, default=most, metavar="N", help=f"an answer ({most})"
    )
    parser.add_argument(
        "--temperature", type=values.temperature, default=0.0, metavar="T",
        help="draw tokens at it; at 0 the likeliest is taken (0)",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", type=_natural, default=0, metavar="K", help="draw from the K likeliest; 0: all"
    )
    parser.add_argument(
        "--top-p", type=values.share, default=1.0, metavar="P",
        help="draw from the likeliest that make up P (1)",
    )  # fmt: skip
    parser.add_argument(
        "--min-p", type=values.part, default=0.0, metavar="P",
        help="draw from what is at least P times as likely as the likeliest (0)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=values.seed, default=0, metavar="N", help="another seed, other draws (0)"
    )
    parser.add_argument(
        "--stop", type=values.stop, action="append", default=[], metavar="TEXT",
        help="end an answer before this text; may be given again",
    )  # fmt: skip


def _numerics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--numerics", default="bf16", metavar="NAME", help="f32, bf16, f16, f8e4m3, int8, mxfp4, …"
    )
    parser.add_argument("--device", metavar="D", help="with this device's accumulators")
    _mesh(parser)


def _mesh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mesh", default="", metavar="tp=8", help="on so many chips along each axis; the same bits"
    )


def profile(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu profile`."""
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


def sweep(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu sweep`."""
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
    cluster(parser)
    _long(parser)


def cluster(parser: argparse.ArgumentParser) -> None:
    """Declare where work may be spread to."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        default="",
        metavar="ADDRESS",
        help="on a Ray cluster; without an address one is started here",
    )


def predict(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu predict`."""
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
    _long(parser)


def calibrate(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu calibrate`."""
    parser.add_argument("data", type=Path, metavar="DIR", help="a folder of measured times")
    parser.add_argument("--device", default="h100_sxm", metavar="D")
    parser.add_argument(
        "--section", action="append", default=[], metavar="NAME", help="only this part of it"
    )
    parser.add_argument("--out", type=Path, metavar="OUT", help="write the calibration")
    _long(parser)


def collective(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu collective`."""
    parser.add_argument("action", choices=tuple(ACTIONS), metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("what", metavar="FILE|NAME", help="a schedule; a template; what to find")
    parser.add_argument(
        "--topology", metavar="FILE", help='or such as "torus 4 x 4; link 90 GB/s, 1 us"'
    )
    parser.add_argument("--op", metavar="OP", help="such as all_gather, for a template")
    parser.add_argument(
        "--pieces", type=_positive, default=1, metavar="N", help="of a chip's share (1)"
    )
    parser.add_argument(
        "--exact", action="store_true", help="sums are exact, so that any order is the same"
    )
    parser.add_argument(
        "--bytes", type=_buffer, metavar="N", help="of the whole buffer of a chip, for a time"
    )
    parser.add_argument("--out", type=Path, metavar="OUT", help="write the schedule")
    parser.add_argument("--trace", type=Path, metavar="OUT", help="write a Perfetto trace")
    _json(parser)


def lsp(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu lsp`."""
    # Many clients add it; there is no other way to speak.
    parser.add_argument("--stdio", action="store_true", help="speak on standard input and output")


def explain(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu explain`."""
    parser.add_argument(
        "what", metavar="WHAT",
        help="a code, an operation, a text of the zoo (llama, blocks/norm); "
        "language, own-architecture, new-architecture",
    )  # fmt: skip
    _json(parser)


def list_(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu list`."""
    parser.add_argument("kind", choices=tuple(KINDS), metavar="KIND", help=", ".join(KINDS))
    _json(parser)


def nearest(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu nearest`."""
    parser.add_argument("model", metavar="MODEL", help="folder, hub id, .gguf file or config.json")
    _json(parser)


def env(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu env`."""
    _json(parser)


def completion(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu completion`."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def mcp(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu mcp`."""
    parser.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR",
        help="read and write in this folder alone (the current one)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-hub", action="store_true", help="let hub ids be named, fetched and read"
    )
    parser.add_argument(
        "--seconds", type=_positive, default=900, metavar="N", help="that a call may take (900)"
    )
    parser.add_argument(
        "--memory", type=_positive, metavar="GIB",
        help="that a call may fill (three quarters of the machine's)",
    )  # fmt: skip


def new(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sohu new`."""
    parser.add_argument("name", metavar="NAME", help="of the family; the file is NAME.sohu")
    _json(parser)


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


def _buffer(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_BUFFER:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MAX_BUFFER:g}")
    return value


def _exponent(text: str) -> float:
    value = float(text)
    if not 0 <= value < MAX_EXPONENT:
        raise argparse.ArgumentTypeError(f"{text} is no exponent from 0 to below {MAX_EXPONENT:g}")
    return value
