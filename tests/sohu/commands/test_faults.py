# SPDX-License-Identifier: Apache-2.0
"""What ends a command otherwise than by its own outcome: faults, signals, closed pipes, arguments that are no names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sohu.commands.cli import main
from tests.sohu.commands.doing import does
from tests.test_architecture import ROOT

PORT = ROOT / "model_zoo" / "ports" / "llama-3.1-8b.sohu"


class Panic(BaseException):
    """As a library that is not written in Python raises it."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "faults"


@pytest.mark.parametrize(
    "error", [ValueError("a \x1b[31m b"), RecursionError(), MemoryError(), Panic("x\ny")]
)
def test_a_fault_is_a_line_with_its_own_status(
    error: BaseException, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    def fails(_: object) -> int:
        raise error

    does(monkeypatch, "check", fails)
    assert main(["check", str(PORT)]) == 70
    said = capsys.readouterr().err
    assert said.startswith(f"error[S999]: internal fault, {type(error).__name__}")
    assert "\x1b" not in said
    assert "Traceback" not in said
    (saved,) = cache.iterdir()
    assert str(saved) in said
    assert "in fails" in saved.read_text()
    assert saved.stat().st_mode & 0o077 == 0


def test_a_fault_without_a_place_to_save_it_is_still_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOHU_CACHE", str(tmp_path / "file"))
    does(monkeypatch, "fit", lambda _: 1 // 0)
    assert main(["fit", str(PORT), "--device", "h100", "--json"]) == 70
    said = capsys.readouterr()
    assert "could not be saved" in said.err
    assert json.loads(said.out)["diagnostics"][0]["code"] == "S999"


def test_only_the_last_faults_are_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    does(monkeypatch, "check", lambda _: 1 // 0)
    cache.mkdir(parents=True, mode=0o700)
    for number in range(30):
        (cache / f"2020{number:04}.txt").write_text("")
    assert main(["check", str(PORT)]) == 70
    assert len(list(cache.iterdir())) == 20
    assert "2020" not in capsys.readouterr().err.partition("traceback")[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_is_an_interruption(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = []

    def ended(_: object) -> int:
        try:
            os.kill(os.getpid(), number)
        finally:
            closed.append(True)
        return 0

    before = signal.getsignal(number)
    does(monkeypatch, "check", ended)
    assert main(["check", str(PORT)]) == 143
    assert closed == [True]
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(number) == before


def test_a_reader_that_stops_is_no_verdict() -> None:
    command = [sys.executable, "-m", "sohu", "cost", str(PORT)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        said = run.stderr.read()
    assert (run.returncode, said) == (141, b"")


def test_a_full_disk_is_named() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no full device")
    command = [sys.executable, "-m", "sohu", "explain", "S101"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error[S530]: standard output cannot be written")


def test_a_terminal_of_few_characters_shows_escapes() -> None:
    command = [sys.executable, "-m", "sohu", "fit", str(PORT), "--device", "µ"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"\\xb5" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "a" * 300),
        ("cost", "a/" * 200 + "a"),
        ("cost", "a" * 5000),
        ("validate", "a\0b"),
        ("check", "\udcff"),
        ("port", "\udcff", "--plan"),
        ("port", "x", "--out", "LOOP"),
        ("check", "LOOP/below"),
        ("generate", "x", "--prompt", "a \udcff"),
        ("run", "x", "--tokens", "t.npy", "--logits", "\udcff"),
        ("port", "x", "--tokens", "a", "--tokens", "b\0"),
    ],
)
def test_an_argument_that_is_no_name_is_refused(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    given = [a.replace("LOOP", str(tmp_path / "loop")) for a in arguments]
    assert main(given) == 2
    assert capsys.readouterr().err.startswith("error[S110]: ")


@pytest.mark.parametrize("size", ["²", "9" * 5000, "٣", "-1", "1e3"])
def test_numbers_are_ascii_digits(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", str(PORT), "--mesh", f"tp={size}"]) == 2
    assert capsys.readouterr().err.startswith("error[S306]")
    assert main(["cost", str(PORT), "--batch", size]) == 2
    assert capsys.readouterr().err.startswith("error[S111]")
