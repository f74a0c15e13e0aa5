# SPDX-License-Identifier: Apache-2.0
"""What a reader is told of operations, blocks, words and names, as Markdown. Each fact is another room's."""

from __future__ import annotations

from collections.abc import Mapping

from dsl.ops.spec import OpSpec, Param, Required
from dsl.text import syntax as sx
from dsl.text.printing import print_type
from dsl.types import DTYPES

MAX_STATEMENT = 400

STATEMENTS: Mapping[str, type[sx.Syntax]] = {
    "family": sx.Family,
    "block": sx.Block,
    "part": sx.Part,
    "use": sx.Use,
    "include": sx.Include,
    "config": sx.Config,
    "dims": sx.Dims,
    "mesh": sx.Mesh,
    "entry": sx.Entry,
    "input": sx.Input,
    "weight": sx.WeightSyntax,
    "unused": sx.Unused,
    "state": sx.StateSyntax,
    "output": sx.OutputSyntax,
    "repeat": sx.RepeatSyntax,
    "if": sx.If,
    "require": sx.Require,
    "return": sx.Return,
}
"""The node that a word begins; its docstring is what hovering over the word says."""


def code(text: str) -> str:
    """Return a block of the language's text."""
    return f"```sohu\n{text}\n```"


def operation(spec: OpSpec) -> str:
    """Return the signature of an operation, what it computes, and what it asks of its arguments."""
    rules = [f"- `{spec.name}_c{i}`: {rule}" for i, rule in enumerate(spec.constraints, 1)]
    computed = f"`{spec.semantics}`" if "\n" not in spec.semantics else code(spec.semantics)
    parts = [code(spec.signature), spec.summary, computed, "\n".join(rules), code(spec.example)]
    return "\n\n".join(part for part in parts if part)


def parameter(op: str, param: Param) -> str:
    """Return what an operation's parameter takes."""
    default = "" if isinstance(param.default, Required) else f", {param.default} by default"
    choices = f": {', '.join(param.choices)}" if param.choices else ""
    return f"`{param.name}` of `{op}`: {param.role.value}{choices}{default}"


def header(block: sx.Block) -> str:
    """Return how a block is called and what it gives."""
    params = ", ".join(param.span.text for param in block.params)
    results = ", ".join(print_type(type_) for type_ in block.results)
    line = f"block {block.name.id}({params}) -> {results}"
    if len(line) <= 100:
        return line
    rows = "".join(f"  {param.span.text},\n" for param in block.params)
    return f"block {block.name.id}(\n{rows}) -> {results}"


def remark(node: sx.Declaration) -> str:
    """Return the comment that stands directly above a declaration."""
    source = node.span.source
    row = source.position(node.span.start)[0] - 1
    lines: list[str] = []
    while row >= 0 and source.line(row).startswith("#"):
        lines.append(source.line(row).lstrip("# ").rstrip())
        row -= 1
    return " ".join(reversed(lines))


def declared(node: sx.Block | sx.Part) -> str:
    """Return what a block or part is, for a reader of a text that uses it."""
    head = header(node) if isinstance(node, sx.Block) else f"part {node.name.id}"
    said = remark(node)
    return f"{code(head)}\n\n{said}" if said else code(head)


def word(keyword: str) -> str:
    """Return what a word of the language begins, nothing for one that begins nothing."""
    kind = STATEMENTS.get(keyword)
    return (kind.__doc__ or "") if kind else ""


def dtype(name: str) -> str:
    """Return what a data type is."""
    kind = DTYPES[name]
    return f"`{name}`: {kind.kind.value}, {kind.bits} bits"


def statement(node: sx.Syntax) -> str:
    """Return a statement as it is written, a body left out."""
    text = node.span.text
    if isinstance(node, (sx.RepeatSyntax, sx.If, sx.Mesh)):
        text = text.partition("{")[0] + "{ … }" if "{" in text else text
    return text if len(text) <= MAX_STATEMENT else f"{text[:MAX_STATEMENT]}…"
