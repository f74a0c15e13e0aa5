# SPDX-License-Identifier: Apache-2.0
"""Edits of a port's text: one mistake each, of the kinds that people make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import pytest

from dsl.source import Source
from dsl.text.parser import parse
from farm.mutants import port_verdicts
from farm.mutants.port_edits import Edit, edits
from farm.mutants.port_verdicts import judge, subjects
from farm.oracles.shrink import causal_types
from porting.report.model import Verdict

TEXT = """sohu 1.0

family toy for "ToyForCausalLM" {
  config {
    W     = 1000   # sliding_window
    T     = 3      # num_experts_per_tok
    eps   = 1e-05  # rms_norm_eps
    tied  = true   # tie_word_embeddings
    act   = "silu" # hidden_act
    dtype = "bf16" # dtype
    _longest = 8192  # max_position_embeddings
  }
  x = attention(q, k, v, window=W)
}
"""


def test_every_constant_is_changed_alone() -> None:
    made = list(edits(TEXT, {1000}))
    assert [e.now for e in made if e.name == "W"] == ["500", "999", "1001", "2000", "0"]
    assert {e.name for e in made} == {"W", "T", "eps", "tied", "act", "window"}
    assert Counter(e.kind for e in made)["length"] == 6
    for edit in made:
        changed = [
            a for a, b in zip(TEXT.splitlines(), edit.text.splitlines(), strict=True) if a != b
        ]
        assert len(changed) == 1
        parse(Source("edited", edit.text))


def test_subjects_are_types_that_exist() -> None:
    assert {entry["type"] for entry in subjects().values()} <= set(causal_types())


def test_the_verdict_notices_mistakes_in_a_small_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def router(text: str, lengths: Collection[int]) -> list[Edit]:
        return [edit for edit in edits(text, lengths) if edit.kind == "router"]

    monkeypatch.setattr(port_verdicts, "edits", router)
    judged = judge("mixtral")
    bugs = [j for j in judged if j.is_bug]
    # Chosen before or after the softmax, shares that are made to add up to 1 are the same.
    assert "order of choice and function" in {j.constant for j in judged if not j.is_bug}
    assert {"function of the scores", "gain of the shares"} <= {j.constant for j in bugs}
    assert [j for j in bugs if not j.caught] == []
    assert {j.verdict for j in bugs} == {Verdict.FAIL.value}
