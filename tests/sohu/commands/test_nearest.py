# SPDX-License-Identifier: Apache-2.0
"""`sohu nearest`: who claims a model, what it lacks, where to begin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sohu.commands.cli import main

CONFIG = {
    "architectures": ["HeronForCausalLM"], "model_type": "heron", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 97, "heron_feathers": 3,
}  # fmt: skip


def answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, **changed: object
) -> dict[str, object]:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG | changed))
    assert main(["nearest", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_unknown_class_has_a_nearest_family(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = answer(capsys, tmp_path)
    assert found["claimed_by"] is None
    assert "heron_feathers" in found["nearest"]["unread"]
    assert "hidden_size" in found["nearest"]["read"]
    assert main(["nearest", str(tmp_path / "config.json")]) == 0
    assert "nothing there reads: heron_feathers" in capsys.readouterr().out


def test_a_claimed_class_needs_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = answer(capsys, tmp_path, architectures=["LlamaForCausalLM"], model_type="llama")
    assert (found["claimed_by"], found["nearest"]) == ("llama", None)


def test_a_kind_outside_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = answer(capsys, tmp_path, architectures=["BertForMaskedLM"], model_type="bert")
    assert "missing" in str(found["outside"])
