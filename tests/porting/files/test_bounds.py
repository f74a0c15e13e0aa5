# SPDX-License-Identifier: Apache-2.0
"""A process that is limited to a folder reads models and writes results nowhere else, whatever files name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsl.diagnostics import Refused
from porting.files import bounds
from porting.files.atomic import replace_directory, replace_file
from porting.origin.resolve import resolve
from porting.planning.library import load_program, zoo_texts
from sohu.commands.cli import main

TEXT = 'sohu 1.0\n\nuse "blocks/norm.sohu"\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "families"
    (root / "model").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    for folder in (root / "model", outside):
        (folder / "config.json").write_text("{}")
    (root / "link").symlink_to(outside)
    (outside / "secret.sohu").write_text(TEXT)
    monkeypatch.setenv(bounds.ROOT, str(root))
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(root)
    return root


def refused(model: str) -> str:
    with pytest.raises(Refused) as error:
        resolve(model, plan_only=True)
    return error.value.diagnostics[0].code


@pytest.mark.parametrize(
    "model", ["../outside", "link", "link/config.json", "model/../../outside", "nobody/nothing"]
)
def test_a_model_outside_is_refused(root: Path, model: str) -> None:
    assert resolve("model").directory == Path("model")
    assert refused(model) == "S118"


def test_a_hub_id_is_read_with_leave(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bounds.HUB, "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused("nobody/nothing") == "S515"


def test_a_base_that_an_adapter_names_outside_is_refused(root: Path) -> None:
    adapter = root / "adapter"
    adapter.mkdir()
    for base in (str(root.parent / "outside"), "nobody/nothing"):
        settings = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 1, "lora_alpha": 1}
        settings["target_modules"] = ["q_proj"]
        (adapter / "adapter_config.json").write_text(json.dumps(settings))
        assert refused("adapter") == "S118"


@pytest.mark.parametrize("command", ["validate", "diff"])
def test_a_source_that_a_report_names_outside_is_refused(
    root: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = root / "port"
    port.mkdir()
    (port / "model.sohu").write_text(zoo_texts()["llama-3.1-8b"].read_text())
    source = str(root.parent / "outside")
    (port / "report.json").write_text(json.dumps({"model": {"source": source}}))
    assert main([command, str(port), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["diagnostics"][0]["code"] == "S118"


def test_a_text_outside_is_refused_and_the_zoo_is_not(root: Path) -> None:
    (root.parent / "own.sohu").write_text("sohu 1.0\n")
    (root / "mine.sohu").write_text(TEXT)
    load_program(root / "mine.sohu")  # which uses the zoo's
    # A folder called `families` looks beside itself too.
    (root / "other.sohu").write_text('sohu 1.0\n\nuse "own.sohu"\n')
    for path in (root / "link" / "secret.sohu", root / "other.sohu"):
        with pytest.raises(Refused) as error:
            load_program(path)
        assert error.value.diagnostics[0].code == "S118"


def test_nothing_is_written_outside_but_in_the_cache(root: Path) -> None:
    with pytest.raises(PermissionError):
        replace_file(root / "link" / "x", lambda stream: None)
    with pytest.raises(PermissionError):
        replace_directory(root / "link", {"x": b""})
    assert not (root.parent / "outside" / "x").exists()
    replace_directory(root / "new", {"x": b""})
    replace_file(root.parent / "cache" / "x", lambda stream: None)


def test_without_bounds_all_is_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(bounds.ROOT)
    assert resolve("link").directory == Path("link")
    replace_file(root / ".." / "x", lambda stream: None)
