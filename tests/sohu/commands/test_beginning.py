# SPDX-License-Identifier: Apache-2.0
"""`sohu new`: the text passes, is named as asked, and nothing is written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from sohu.commands.cli import main


def test_a_new_text_passes_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my-Model2"]) == 0
    path = tmp_path / "my-Model2.sohu"
    assert 'family my_model2 for "MyModel2ForCausalLM"' in path.read_text()
    assert main(["check", str(path)]) == 0
    assert main(["fmt", "--check", str(path)]) == 0
    path.write_text("mine")
    assert main(["new", "my-Model2"]) == 2
    assert "S112" in capsys.readouterr().err
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["../a", "a/b", "", "1a", "a" * 65, "a\nb"])
def test_what_is_no_name_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", name]) == 2
    assert not list(tmp_path.iterdir())
