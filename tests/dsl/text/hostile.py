# SPDX-License-Identifier: Apache-2.0
"""Texts that would exhaust a careless checker, and a program that runs them all within limits of time and memory.

Run in a process of its own by `test_hostile.py`: it prints a line when a text begins and one when it has ended.
"""

from __future__ import annotations

import resource
import sys
import time

from dsl.diagnostics import Diagnostic, Refused, render_all
from dsl.inference.inference import check, check_block
from dsl.linking.program import link
from dsl.source import Source
from dsl.text.formatter import format_file
from dsl.text.parser import MAX_CHARACTERS, parse
from tests.dsl.snippets import family

MANY = 100_000
MEMORY = 2 * 2**30


def diagnose(text: str) -> tuple[Diagnostic, ...]:
    """Return everything that is said about a text; a sound one is formatted and parsed again, too."""
    source = Source("hostile.sohu", text)
    try:
        program = link(parse(source), lambda path: parse(Source(path.value, "sohu 1.0")))
        if parse(Source("again.sohu", format_file(program.file))) != program.file:
            raise RuntimeError("the formatted text is another program")
        found = [check(f, program.blocks) for f in program.families]
        found += [check_block(b, program.blocks) for b in program.file.blocks]
    except Refused as refused:
        return refused.diagnostics
    return tuple(d for c in found for d in c.diagnostics)


def _value(expression: str) -> str:
    return family(f"input x: bf16[B]\noutput y: bf16[B] = {expression}")


def _lines(line: str, count: int) -> str:
    return "".join(line.format(i=i, j=i + 1) for i in range(count))


def _blocks(calls: str, depth: int = 15) -> str:
    first = "sohu 1.0\nblock b0(x: bf16[B], at: string) -> bf16[B] {{ return x }}\n".replace(
        "{{", "{"
    )
    rest = "block b{j}(x: bf16[B], at: string) -> bf16[B] {{ return CALLS }}\n"
    return first.replace("}}", "}") + _lines(rest.replace("CALLS", calls), depth)


def _flagged(count: int, body: str) -> str:
    flags = _lines("f{i} = key_{i} ?? false\n", count)
    tests = _lines("if f{i} {{ x = silu(x) }}\n", count)
    return family(f"input x: bf16[B]\n{tests}{body}output y: bf16[B] = x", config=flags)


TEXTS = {
    "parentheses": _value("(" * MANY + "x" + ")" * MANY),
    "brackets": _value("[" * MANY + "x" + "]" * MANY),
    "braces": "sohu 1.0\n" + "{" * MANY + "}" * MANY,
    "open brackets": "sohu 1.0\nfamily f for " + "(" * MANY,
    "minus signs": _value("-" * (MANY // 5) + "x"),
    "nots": _value("not " * (MANY // 5) + "true"),
    "a long sum": _value("+".join("a" * (MANY // 10))),
    "a long conjunction": _value(" and ".join(["true"] * (MANY // 10))),
    "a long product of groups": _value("*".join(["(x)"] * (MANY // 20))),
    "nested calls": _value("f(" * (MANY // 2) + "x" + ")" * (MANY // 2)),
    "nested indices": _value("a[" * (MANY // 2) + "0" + "]" * (MANY // 2)),
    "a list of many": _value("[" + "1," * (MANY // 10) + "]"),
    "a call of many": _value("concat(" + "x," * 2000 + ")"),
    "else if": family("if true { }" + " else if true { }" * (MANY // 10)),
    "config else if": family("", config="if true { }" + " else if true { }" * (MANY // 10)),
    "nested ifs": family("if true { " * 5000 + "}" * 5000),
    "comments": "sohu 1.0\n" + "#\n" * (MANY // 5),
    "one long comment": "sohu 1.0 #" + "x" * (2 * MANY),
    "one long name": _value("x" * (2 * MANY)),
    "one long string": _value('"' + "{a}" * (MANY // 2) + '"'),
    "one long hole": family('weight w: bf16[B] from "' + "{" * MANY + '"'),
    "one too long text": "sohu 1.0\n" + "\n" * MAX_CHARACTERS,
    "400 digits": _value("9" * 400),
    "a huge exponent": _value("1e999999999"),
    "a product of huge integers": _value("*".join(["9999999999999999"] * 90)),
    "a product of huge reals": _value("*".join(["1e300"] * 90)),
    "a huge quotient": _value("x * (1e300 / 1e-300)"),
    "an axis of a huge size": family("input x: bf16[999999999999999999 * 9]"),
    "a long row of statements": family("x = x\n" * 5000),
    "a huge repeat": family(f"input x: bf16[B]\nrepeat i < {10**17} carry x {{ x = silu(x) }}"),
    "a negative repeat": family("input x: bf16[B]\nrepeat i < 0 - 5 carry x { x = silu(x) }"),
    "a huge stack": family(f'weight w: bf16[{10**17}, B] from stack(e < {10**17}, "{{e}}")'),
    "layers that all differ": family(
        "input x: bf16[B]\nrepeat i < 1500 carry x { x = x * (i + 1) }\noutput y: bf16[B] = x"
    ),
    "squares of a name": family("A0 = B\n" + _lines("A{j} = A{i} * A{i}\n", 1000)),
    "squares of a sum": family("A0 = B + S + C + 1\n" + _lines("A{j} = A{i} * A{i}\n", 100)),
    "quotients of quotients": family("A0 = B\n" + _lines("A{j} = A{i} // S + A{i} // 7\n", 300)),
    "remainders": family("A0 = B\n" + _lines("A{j} = (A{i} % C) * A{i}\n", 300)),
    "minima": family("A0 = B\n" + _lines("A{j} = min(A{i} + 1, A{i} * 2)\n", 300)),
    "sums of an unknown": family("a0 = eps\n" + _lines("a{j} = a{i} + a{i}\n", 300), config="eps = e"),
    "calls of an unknown": family("a0 = eps\n" + _lines("a{j} = max(a{i}, a{i})\n", 300), config="eps = e"),
    "lists of lists": family("a0 = [1]\n" + _lines("a{j} = [a{i}, a{i}]\n", 300)),
    "blocks that call blocks": _blocks("b{i}(b{i}(b{i}(x, at), at), at)", 11),
    "blocks that grow a name": _blocks('b{i}(x, "' + "{{at}}" * 100 + '")'),
    "paths": _flagged(40, ""),
    "paths through a long program": _flagged(12, "x = silu(x)\n" * 3000),
    "a long program": family("input x: bf16[B]\n" + "x = silu(x)\n" * 4000 + "output y: bf16[B] = x"),
    "many faults": family(_lines('weight weight_number_{i}: bf16[B] from "{i}"\n', 1000)
        + _lines("x{i} = silu(wieght_number_{i})\n", 1000)),
    "many faulty binds": family("", config=_lines("name_{i} = key ?? naem_{i}\n", 2000)),
    "many uses": "sohu 1.0\n" + _lines('use "f{i}.sohu"\n', 5000),
    "many families": "sohu 1.0\n" + _lines('family f{i} for "F" {{ }}\n', 500),
    "many keywords": _value("silu(" + _lines("k{i}=x, ", 2000) + ")"),
    "many parameters": "sohu 1.0\nblock b(" + _lines("p{i}: dim, ", 2000) + ") -> bf16[B] { }",
    "many axes": family("input x: bf16[" + "B, " * 5000 + "]\noutput y: bf16[B] = silu(x)"),
    "many targets": family(_lines("a{i}, ", 10_000) + "z = split(x, 1)"),
    "names of sympy": family(
        'input x: bf16[B, S, N, E, I, Q, O]\nweight w: bf16[beta, O] from "w"\n'
        "output y: bf16[B, S, N, E, I, Q, beta] = matmul(x, w)",
        config="\n".join(f"{n} = key" for n in ("N", "E", "I", "Q", "O", "beta")),
    ),
    "names of Python": family(
        "input x: bf16[C_, lambda, __class__]\noutput y: bf16[C_, lambda, __class__] = x",
        config="\n".join(f"{n} = key" for n in ("C_", "lambda", "__class__", "None_", "zoo", "oo")),
    ),
    "every role is the same": family("").replace("S: seq", "B: seq").replace("C: context", "B: context"),
    "nothing": "",
    "only zeros": "\x00" * 1000,
    "a byte order mark": "\ufeffsohu 1.0",
    "unpaired surrogates": _value('"\ud800"'),
    "carriage returns": _value("x").replace("\n", "\r\n"),
    "other line ends": _value("x").replace("\n", "\u2028"),
    "other digits": _value("x * ٣"),
    "other letters": _value("\uff58"),
}  # fmt: skip


def main(part: int, parts: int) -> None:
    """Check every so-manieth text, with the address space limited."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name, text in list(TEXTS.items())[part::parts]:
        print(f"begin {name}", flush=True)
        start = time.perf_counter()
        found = diagnose(text)
        shown = render_all(found)
        codes = " ".join(sorted({d.code for d in found})) or "ok"
        print(f"end {name}: {codes} {time.perf_counter() - start:.1f} s, {len(shown)}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
