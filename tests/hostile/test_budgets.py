# SPDX-License-Identifier: Apache-2.0
"""Small texts that ask for much: layers, classes of them, calls, files, formulas. Each is answered or refused soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import arguments
from tests.hostile.generator import Input
from tests.hostile.guard import outcomes

CHECK = ("check", "{case}/y.sohu")
COST = ("cost", "{case}/y.sohu")
RUN = (*arguments.RUN[:1], "{case}/y.sohu", *arguments.RUN[2:], "--weights", "random:1")


def family(body: str, above: str = "") -> bytes:
    return f'sohu 1.0\n{above}family f for "X" {{\ndims {{ B: batch, S: seq, C: context }}\n{body}\n}}\n'.encode()


def layers(count: int, body: str) -> bytes:
    return family(
        f"input x: f32[B, S]\nrepeat i < {count} carry x {{\n{body}\n}}\noutput y: f32[B, S] = x"
    )


def each(count: int, line: str) -> str:
    return "".join(line.format(i=i, j=i + 1) + "\n" for i in range(count))


CALLED = "block b0(x: f32[B, S]) -> f32[B, S] { return silu(x) }\n" + each(
    14, "block b{j}(x: f32[B, S]) -> f32[B, S] {{ y = b{i}(x) z = b{i}(y) return z }}"
)
POWERS = "A0 = S\nC0 = C\n" + each(30, "A{j} = A{i} * S") + each(16, "C{j} = C{i} * C")
VALUES = "".join(
    f"input x{i}_{j}: f32[A{i}, C{j}]\noutput y{i}_{j}: f32[A{i}, C{j}] = silu(x{i}_{j})\n"
    for i in range(30)
    for j in range(16)
)
REPEATS = "input x: f32[B, S]\n" + each(1500, "repeat i < 4096 carry x {{ x = silu(x) }}")
PARTS = "part p0 { A = B }\n" + each(30, "part p{j} {{ include p{i} include p{i} }}")
TEXTS: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "10^9 layers": (layers(10**9, "x = silu(x)"), CHECK, "S218"),
    "classes": (layers(4096, each(300, "if i == {i} {{ x = silu(x) }} else {{ x = x + x }}")), CHECK, "S218"),
    "conditions": (layers(4096, each(1500, "if i + {i} < 9000 {{ x = x + x }}")), CHECK, "S218"),
    "layers that differ": (layers(4096, "x = x * (i + 1)"), CHECK, "S218"),
    "many repeats": (family(REPEATS + "output y: f32[B, S] = x"), CHECK, "S218"),
    "operations": (layers(4096, "x = silu(x)\n" * 3000), COST, "S218"),
    "calls": (family("input x: f32[B, S]\noutput y: f32[B, S] = b14(x)", CALLED), CHECK, "S218"),
    "parts": (family("include p30", PARTS), CHECK, "S202"),
    "terms": (family(POWERS + VALUES), COST, "S218"),
    "no tokens": (layers(4, "x = silu(x)"), RUN, "S532"),
    "an input into layers": (layers(4, "x = silu(x)"), COST, "0"),
    "classes of a real size": (layers(120, "x = silu(x)\n" + each(6, "if i % 7 == {i} {{ x = x + x }}")), COST, "0"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_asks_for_much_is_answered_soon(case: Path, name: str) -> None:
    text, command, ends = TEXTS[name]
    (ended,) = outcomes((Input(name, {"y.sohu": text}, command),), case)
    assert (ended.answer, ended.fault) == (ends, "")


def test_files_that_use_many_are_answered_soon(case: Path) -> None:
    files = {
        f"f{n}.sohu": ("sohu 1.0\n" + each(300, f"block b{n}_{{i}}(x: f32[B]) -> f32[B] {{{{ return x }}}}")).encode()
        for n in range(60)
    }  # fmt: skip
    files["y.sohu"] = ("sohu 1.0\n" + each(60, 'use "f{i}.sohu"')).encode()
    (ended,) = outcomes((Input("fan", files, CHECK),), case)
    assert (ended.answer, ended.fault) == ("S218", "")
