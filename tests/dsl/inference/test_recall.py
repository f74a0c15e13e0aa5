# SPDX-License-Identifier: Apache-2.0
"""A call that is not inferred again leaves what it would have left: the same faults, on the same paths."""

from __future__ import annotations

import pytest

from dsl.diagnostics import render_all
from dsl.inference.inference import Checked, check
from dsl.inference.recall import Recall
from dsl.linking.program import Program
from porting.planning.library import ZOO, load_program
from tests.dsl.snippets import family, program

CONFIG = "D = d\nF = f\nL = l\nflag = flag\nkind = kind\nother = other"
X, OUT = "input x: bf16[B, S, D]\n", "\noutput y: bf16[B, S, D] = x"

PRODUCT = """block product(at: string, x: dtype[B, S, N], n: int = 1) -> dtype[B, S, D] {
  weight w: dtype[D, N] from "{at}.w"
  y = matmul(x, w)
  if flag { y = silu(y) }
  if kind == "a" { y = y * n }
  return y
}
"""
KEEP = """block keep(cache: bf16[B, C, D], x: bf16[B, S, D]) -> bf16[B, C, D] {
  return append(cache, x)
}
"""
PAIR = """block pair(x: bf16[B, S, D], y: bf16[B, S, D], flag: bool) -> bf16[B, S, D] {
  if flag { z = x }
  else { z = y }
  return z
}
"""
SPLIT = """block halves(x: bf16[B, S, D], n: int) -> bf16[B, S, D // n], bf16[B, S, D // n] {
  require D % n == 0
  a, b = split(x, axis=2, sizes=[D // n, D // n])
  return a, b
}
"""
NAMED = """block named(x: bf16[B, S, D]) -> bf16[B, S, D] {
  y = silu(x)
  z = y
  return silu(y)
}
"""

# The blocks of a program and its family's statements, with what must be found in any case.
TEXTS = {
    "sound": (PAIR, "x = pair(x, silu(x), flag)\nx = pair(x, silu(x), flag)", ""),
    "twice": (PAIR, "h = pair(x, x, flag)\nk = pair(x, silu(x), flag)\nx = h + k", ""),
    "idle": (PAIR, "h = pair(x, x, flag)\nk = pair(x, x, flag)\nx = silu(x)", "S215"),
    "idle on one path": (
        PAIR,
        "k = silu(x)\nif flag { x = pair(x, x, other) }\nelse { x = pair(x, silu(x), other) }",
        "S215",
    ),
    "named in vain": (NAMED, "x = named(named(x))", ""),
    "types differ": (
        PAIR,
        'weight w: bf16[F, D] from "w"\nh = silu(x)\nif other { h = matmul(x, w) }\nx = pair(x, h, flag)',
        "S213",
    ),
    "a whole number is no truth": (PAIR, "x = pair(x, x, true)\nx = pair(x, x, 1)", "S207"),
    "a fact of a call": (
        SPLIT,
        "a, b = halves(x, 2)\nc, d = split(a, axis=2, sizes=[D // 4, D // 4])\nx = x",
        "",
    ),
}


def answers(made: Program, monkeypatch: pytest.MonkeyPatch) -> tuple[Checked, Checked]:
    """Return what checking says with and without what earlier calls gave."""
    kept = check(made.family(), made.blocks)
    with monkeypatch.context() as patch:
        patch.setattr(Recall, "replay", lambda *_: None)
        return kept, check(made.family(), made.blocks)


@pytest.mark.parametrize(("blocks", "body", "code"), TEXTS.values(), ids=TEXTS.keys())
def test_faults_are_those_of_every_call_inferred(
    blocks: str, body: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = family(f"{X}{body}{OUT}", config=CONFIG, head=blocks)
    kept, inferred = answers(program(text), monkeypatch)
    assert render_all(kept.diagnostics) == render_all(inferred.diagnostics)
    assert kept.paths == inferred.paths
    if code:
        assert code in {d.code for d in kept.diagnostics}


def test_a_state_is_written_twice_by_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"{X}state c: bf16[B, C, D]\nk = keep(c, x)\nn = keep(c, x)\nx = x{OUT}"
    kept, inferred = answers(program(family(body, config="D = d", head=KEEP)), monkeypatch)
    assert "S217" in {d.code for d in kept.diagnostics}
    assert render_all(kept.diagnostics) == render_all(inferred.diagnostics)


def test_a_split_batch_is_seen_inside_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    block = """block deep(x: bf16[B, S, D], F: dim) -> bf16[B, S, D] {
      weight w: bf16[F @tp, D] from "w"
      weight v: bf16[D, F @tp] from "v"
      return all_reduce(matmul(matmul(x, w), v), tp)
    }
    """
    body = f"{X}if flag {{ x = silu(x) }}\nx = deep(x, F){OUT}"
    text = family(body, config="D = d\nF = f\nflag = flag", head=block)
    text = text.replace("B: batch", "B @tp: batch")
    kept, inferred = answers(program(text), monkeypatch)
    assert {d.code for d in kept.diagnostics} == {"S307"}
    assert render_all(kept.diagnostics) == render_all(inferred.diagnostics)


@pytest.mark.parametrize("name", ["gpt_neox", "llama"])
def test_the_zoo_is_walked_along_the_same_paths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, inferred = answers(load_program(ZOO / "families" / f"{name}.sohu"), monkeypatch)
    assert (kept.diagnostics, kept.paths) == (inferred.diagnostics, inferred.paths) != ((), 0)


def test_a_call_is_inferred_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kept_calls = []
    keep = Recall.keep
    monkeypatch.setattr(
        Recall, "keep", lambda self, *given: (kept_calls.append(given[0]), keep(self, *given))
    )
    body = f"{X}h = pair(x, x, flag)\nk = pair(x, x, flag)\nx = h + k{OUT}"
    text = family(body, config="D = d\nflag = flag", head=PAIR)
    made = program(text)
    checked = check(made.family(), made.blocks)
    assert checked.diagnostics == ()
    assert checked.paths == len(kept_calls) == 2
