# SPDX-License-Identifier: Apache-2.0
"""Texts in files, folders and ports, of the zoo by name, and on standard input."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import sohu
from sohu.commands.cli import main
from tests.test_architecture import ROOT

ZOO = ROOT / "model_zoo"
PORT = ZOO / "ports" / "qwen3-8b.sohu"
LOOSE = "sohu 1.0\nblock b(x:   dtype[D]) -> dtype[D] { return x }\n"


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.sohu", "inner/a.sohu", ".hidden/c.sohu", "notes.txt"):
        (tmp_path / name).write_text(LOOSE)
    return tmp_path


def test_a_folder_is_its_texts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [f["path"] for f in shown["files"]] == [str(folder / n) for n in ("b.sohu", "inner/a.sohu")]  # fmt: skip
    assert main(["fmt", "--check", str(folder)]) == 1
    assert (folder / "b.sohu").read_text() == LOOSE
    assert main(["fmt", str(folder)]) == 0
    assert main(["fmt", "--check", str(folder)]) == 0
    assert (folder / ".hidden" / "c.sohu").read_text() == LOOSE


def test_a_port_is_its_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.sohu").write_bytes(PORT.read_bytes())
    assert main(["check", str(folder), "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["path"] == str(folder / "model.sohu")


def test_a_folder_leads_nowhere_else(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "other.sohu"
    outside.write_text(LOOSE)
    (folder / "link.sohu").symlink_to(outside)
    (folder / "linked").symlink_to(outside.parent)
    assert main(["fmt", str(folder)]) == 2
    assert "error[S512]" in capsys.readouterr().err
    assert outside.read_text() == LOOSE


def test_a_folder_without_texts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("check", "fmt"):
        assert main([command, str(tmp_path)]) == 2
        assert "error[S108]: the folder has no .sohu file" in capsys.readouterr().err


def test_standard_input_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, PORT.read_bytes())
    assert main(["check", "-"]) == 0
    assert capsys.readouterr().out.startswith("<stdin>: ok (family qwen3")
    feed(monkeypatch, PORT.read_bytes().replace(b"rms_norm(", b"rms_nor("))
    assert main(["check", "-"]) == 2
    assert "--> <stdin>:" in capsys.readouterr().err


@pytest.mark.parametrize(("data", "code"), [(b"\xff", "S108"), (b" " * 1_000_001, "S106")])
def test_standard_input_may_be_anything(
    data: bytes, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("check", "fmt"):
        feed(monkeypatch, data)
        assert main([command, "-"]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert f"error[{code}]" in shown.err


def test_standard_input_is_formatted_byte_for_byte() -> None:
    marked = "# caf\N{LATIN SMALL LETTER E WITH ACUTE}\N{RIGHT-TO-LEFT MARK}\n"
    loose = LOOSE.replace("block", marked + "block")
    command = [sys.executable, "-m", "sohu", "fmt", "-"]
    done = subprocess.run(command, input=loose.encode(), capture_output=True, check=True, cwd=ROOT)
    assert marked.encode() in done.stdout
    assert b"x: dtype[D]" in done.stdout
    again = subprocess.run(command, input=done.stdout, capture_output=True, check=True, cwd=ROOT)
    assert again.stdout == done.stdout


def test_format_tells_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, LOOSE.encode())
    assert main(["fmt", "-", "--check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"verdict": "fail", "changed": ["<stdin>"]}
    feed(monkeypatch, LOOSE.encode())
    assert main(["fmt", "-", "--json"]) == 0
    assert "x: dtype[D]" in json.loads(capsys.readouterr().out)["text"]


def test_the_zoo_is_known_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (["cost"], ["fit", "--device", "h200"], ["profile", "--device", "h200"]):
        shown = []
        for program in ("qwen3-8b", str(PORT)):
            assert main([given[0], program, *given[1:], "--json"]) == 0
            shown.append(capsys.readouterr().out)
        assert shown[0] == shown[1]
    assert main(["check", "qwen3-8b", "blocks/norm", "llama"]) == 0
    assert sohu.load("qwen3-8b").graph.family == "qwen3"
    # What lies there stands before the zoo.
    (tmp_path / "qwen3-8b").write_text("nothing")
    assert main(["cost", "qwen3-8b"]) == 2
    assert "error[S101]" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["qwen3-8", "elsewhere/qwen3-8b.sohu"])
def test_a_name_that_is_near_is_offered(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["cost", name], ["check", name]):
        assert main(given) == 2
        shown = capsys.readouterr().err
        assert "error[S108]: there is no such file" in shown
        assert "did you mean `qwen3-8b`?" in shown


def test_format_leaves_the_zoo_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fmt", "llama"]) == 2
    assert "error[S108]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mesh", "meant"),
    [("tp8", "tp=8"), ("tp:4", "tp=4"), ("2", "tp=2"), ("TP8", "tp=8"), ("", None), ("tp", "tp=8")],
)
def test_a_mesh_is_axes_with_numbers(
    mesh: str, meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", str(PORT), "--mesh", mesh]) == (2 if meant else 0)
    shown = capsys.readouterr().err
    assert ("error[S306]" in shown) == bool(meant)
    assert f"help: write {meant}\n" in shown or not meant


def test_a_mesh_with_too_many_chips_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(PORT), "--device", "h100", "--mesh", "tp=17"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("error[S305]") == 1
    assert "tp may be 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16\n" in shown


def test_explain_is_json_where_that_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "S111", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["what"] == "S111"
    assert answer["text"].startswith("S111: ")
