# SPDX-License-Identifier: Apache-2.0
"""The seeded bugs: every operator is a change that the rule notices where it applies, and a sound graph has none."""

from __future__ import annotations

import pytest

from farm.mutants.bugs import OPERATORS, bugs
from farm.mutants.detection import CACHE_OFFSET, findings
from tests.dsl.snippets import graph

SMALL = """sohu 1.0
family demo for "Demo" {
  config {
    D = hidden_size
    V = vocab_size
  }
  dims { B: batch, S: seq, C: context }
  mesh { tp }
  input tokens: i32[B, S]
  weight embed: bf16[V, D] from "embed"
  x = gather(embed, tokens) * 3.0
  repeat i < 2 carry x {
    weight norm: bf16[D] from "norm.{i}"
    weight w: bf16[D, D] from "w.{i}"
    x = x + silu(matmul(rms_norm(x, norm, eps=0.00001), w))
  }
  output y: f32[B, S, V] = matmul(x, embed, dtype="f32")
}
"""
APPLYING = {
    "norm forgotten",
    "1+w and w exchanged",
    "epsilon of another model",
    "norm without its weight",
    "layer norm for rms norm",
    "activation of another model",
    "residual forgotten",
    "branch forgotten",
    "multiplier lost",
}


def test_there_are_thirty_operators_of_different_names() -> None:
    assert len({operator.name for operator in OPERATORS}) == len(OPERATORS) >= 30


def test_operators_apply_where_they_can() -> None:
    sound = graph(SMALL, hidden_size=8, vocab_size=11)
    made = list(bugs(sound))
    assert {bug.operator for bug in made} == APPLYING
    assert all(bug.graph != sound and bug.places for bug in made)


@pytest.mark.f32
def test_every_bug_of_a_type_is_caught_and_named() -> None:
    seeded = list(findings("qwen3"))
    assert len(seeded) >= 12
    assert [f.operator for f in seeded if not f.caught] == []
    blamed = [f for f in seeded if f.operator != CACHE_OFFSET]
    assert len(blamed) == len(seeded) - 1
    assert [(f.operator, f.named) for f in blamed if not f.right] == []
