# SPDX-License-Identifier: Apache-2.0
"""Small programs around one expression: their inputs are declared from the types that a test writes.

A type may begin with `state`, or with `partial` for a tensor that is a partial sum over `tp`. Capitals are free
dimensions of the config, except for B, S and C.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dsl.diagnostics import Diagnostic
from dsl.graph import Graph
from dsl.inference.inference import Checked, check, infer
from dsl.linking.program import Program, link
from dsl.source import Source
from dsl.text.parser import parse

RUNTIME = {"B", "S", "C"}
_DIM = re.compile(r"\b[A-Z]\w*")


def program(text: str) -> Program:
    """Parse a text that uses no other files."""
    return link(
        parse(Source("test.sohu", text)), lambda path: parse(Source(path.value, "sohu 1.0"))
    )


def family(body: str, *, config: str = "", head: str = "", mesh: str = "tp, ep") -> str:
    """Return the text of a family with this body."""
    return (
        f'sohu 1.0\n{head}\nfamily demo for "DemoForCausalLM" {{\nconfig {{\n{config}\n}}\n'
        f"dims {{ B: batch, S: seq, C: context }}\nmesh {{ {mesh} }}\n{body}\n}}\n"
    )


def checked(text: str) -> Checked:
    """Check the only family of a text."""
    made = program(text)
    return check(made.family(), made.blocks)


def graph(text: str, **config: object) -> Graph:
    """Return the graph of the only family of a text, bound to config keys."""
    made = program(text)
    outcome = infer(made.family(), made.blocks, config)
    assert outcome.diagnostics == ()
    assert outcome.graph is not None
    return outcome.graph


def codes(text: str) -> list[str]:
    """Return the codes that checking the only family of a text reports."""
    return [d.code for d in checked(text).diagnostics]


def found(
    call: str, results: Sequence[str] = (), require: Sequence[str] = (), **types: str
) -> tuple[Diagnostic, ...]:
    """Return what the check says about a call with arguments of these types and results of those."""
    names = [f"r{i}" for i in range(max(len(results), 1))]
    lines = [_declared(name, type_) for name, type_ in types.items()]
    lines.append(f"{', '.join(names)} = {call}")
    for name, type_ in zip(names, results, strict=False):
        lines.append(f"output out_{name}: {type_} = {name}")
    body = "\n".join(lines)
    dims = sorted(set(_DIM.findall(" ".join([body, *require]))) - RUNTIME)
    config = "\n".join(
        [*(f"{d} = key_{d.lower()}" for d in dims), *(f"require {r}" for r in require)]
    )
    return checked(family(body, config=config)).diagnostics


def violated(call: str, require: Sequence[str] = (), **types: str) -> str:
    """Return the number of the one constraint that a call violates."""
    (diagnostic,) = found(call, (), require, **types)
    assert diagnostic.span is not None
    assert diagnostic.code in ("S203", "S302")
    return diagnostic.constraint


def gives(call: str, *results: str, require: Sequence[str] = (), **types: str) -> bool:
    """Tell whether a call is sound and its results have exactly these types."""
    said = found(call, results, require, **types)
    assert [d.message for d in said] == []
    return True


def _declared(name: str, type_: str) -> str:
    if type_.startswith("state "):
        return f"state {name}: {type_.removeprefix('state ')}"
    if not type_.startswith("partial "):
        return f"input {name}: {type_}"
    # A contraction over a sharded axis, with heads split off again where the type has any.
    dtype, *axes = re.split(r"\[|, |\]", type_.removeprefix("partial "))[:-1]
    lead, last = ", ".join(axes[:-1]), axes[-1]
    return (
        f"input {name}_x: {dtype}[{lead}, Z @tp]\n"
        f"input {name}_w: {dtype}[{last}, Z @tp]\n"
        f"{name} = matmul({name}_x, {name}_w)"
    )
