# SPDX-License-Identifier: Apache-2.0
"""The tools that agents get: of each its words, its arguments, and the command line that it stands for.

A tool is a command with `--json`, so that people and agents get the same answers. Which values an argument may have is
`arguments`; nothing runs here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sohu.agents.arguments import Argument, ArgumentKind, Value

SIZE = 10**12 - 1
MAX_TEXT = 250_000

PATH = "in the folder that this server is limited to"
PROGRAM = (
    f"a .sohu text, a port's folder, a model's folder or config.json {PATH}, or a name of the zoo"
)
MODEL = (
    f"a model's folder, .gguf file or config.json {PATH}, or `demo`; a hub id where that is allowed"
)
_MODEL = Argument("model", ArgumentKind.MODEL, MODEL, required=True)
_OUT = Argument(
    "out", ArgumentKind.PATH, f"where to write the port, {PATH} (ports/NAME)", option="--out"
)
_FAMILY = Argument(
    "family",
    ArgumentKind.PATH,
    f"port with the family of this .sohu file {PATH}",
    option="--family",
)
_DEVICE = Argument(
    "device", ArgumentKind.DEVICE, "h100, sohu, …, or a .toml description", option="--device"
)
_MESH = Argument("mesh", ArgumentKind.WORD, "chips along mesh axes: tp=8,ep=2", option="--mesh")
_NUMERICS = Argument(
    "numerics", ArgumentKind.WORD, "format of products: bf16, f8e4m3", option="--numerics"
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: what it is for, the words of its command, its arguments; `writes` where it leaves files."""

    about: str
    words: tuple[str, ...]
    arguments: tuple[Argument, ...] = ()
    writes: bool = False


def _load(name: str, about: str, least: int = 1) -> Argument:
    return Argument(name, ArgumentKind.NUMBER, about, option=f"--{name}", least=least, most=SIZE)


TOOLS: Mapping[str, Tool] = {
    "plan": Tool(
        "Plan a port without reading weights: the family, the text, keys and tensors and what became of each, or "
        "why it is refused. Writes the text and a report. The first thing to do with a model.",
        ("port", "--plan"),
        (_MODEL, _FAMILY, _OUT),
        writes=True,
    ),
    "check": Tool(
        "Check a .sohu text, a file or a folder of them, or a text that is given inline. Each diagnostic has a code, "
        "the place (`span`: line and column from 0), notes and often a `help` that says what to change.",
        ("check",),
        (
            Argument("path", ArgumentKind.PROGRAM, PROGRAM),
            Argument("text", ArgumentKind.TEXT, "a whole text, instead of a path", most=MAX_TEXT),
        ),
    ),
    "nearest": Tool(
        "Name the family that claims a model's architecture, or else the nearest one: which config keys it reads, "
        "which keys nothing there reads, and what the language lacks, if anything is known to be lacking.",
        ("nearest",),
        (_MODEL,),
    ),
    "ops": Tool(
        "List the operations of the language, or show one: signature, constraints, semantics, an example.",
        ("list", "ops"),
        (Argument("name", ArgumentKind.WORD, "an operation, such as matmul"),),
    ),
    "explain": Tool(
        "Explain a diagnostic code; or show a page (language, new-architecture, own-architecture) or a text of the "
        "zoo (llama, blocks/attention).",
        ("explain",),
        (Argument("what", ArgumentKind.WORD, "a code, a page or the name of a text", required=True),),
    ),
    "port": Tool(
        "Port a model and prove it against the original in float64: the gate. `proof` in the answer says what is "
        "proven and what is not. Takes minutes for a model of billions of weights.",
        ("port",),
        (
            _MODEL, _FAMILY, _OUT, _DEVICE, _MESH, _NUMERICS,
            Argument("prompts", ArgumentKind.TEXTS, "texts to judge too", option="--prompt", most=20_000),
            Argument("force", ArgumentKind.FLAG, "write over an edited model.sohu", option="--force"),
        ),
        writes=True,
    ),
    "diff": Tool(
        "Walk a port beside its original and name the first operation that departs: for a port that fails. Slow: "
        "each part runs in float64.",
        ("diff",),
        (Argument("folder", ArgumentKind.PATH, f"a port's folder {PATH}", required=True),),
        writes=True,
    ),
    "profile": Tool(
        "Time a program on a device by the cost model, and say what holds it up; no device is needed.",
        ("profile",),
        (
            Argument("path", ArgumentKind.PROGRAM, PROGRAM, required=True),
            Argument("device", ArgumentKind.DEVICE, _DEVICE.about, required=True, option="--device"),
            _MESH, _NUMERICS,
            _load("batch", "sequences (1)"),
            _load("seq", "tokens of a prompt, where not the context"),
            _load("context", "tokens cached before a decode step (4096)", least=0),
            Argument("explain", ArgumentKind.WORD, "how the numbers of a task came about", option="--explain"),
        ),
    ),
}  # fmt: skip
"""By name, in the order in which an agent needs them."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The command line that a call stands for, after `sohu`, and what it reads on standard input."""

    words: tuple[str, ...]
    given: str = ""


def asked(name: str, values: Mapping[str, Value]) -> CommandLine:
    """Return the command of a call whose values are admitted.

    Values never begin an option: they stand behind `=` or after `--`.
    """
    tool = TOOLS[name]
    if name == "ops" and "name" in values:
        return CommandLine(("explain", "--json", "--", str(values["name"])))
    words, positional = [*tool.words, "--json"], []
    for argument in tool.arguments:
        value = values.get(argument.name)
        if value is None or value is False or argument.kind is ArgumentKind.TEXT:
            continue
        if argument.option:
            words += _option(argument.option, value)
        else:
            positional.append(str(value))
    if "text" in values:
        return CommandLine((*words, "--", "-"), str(values["text"]))
    return CommandLine((*words, "--", *positional))


def _option(option: str, value: Value) -> Sequence[str]:
    if value is True:
        return [option]
    if isinstance(value, tuple):
        return [f"{option}={part}" for part in value]
    return [f"{option}={value}"]
