# SPDX-License-Identifier: Apache-2.0
"""Processes that compile: every part comes back, a failure says why, and stopping early stops them."""

import sys

import pytest

from device_model.machine import workers
from device_model.machine.workers import CompilerError, compile_parts

ECHO = """
import sys
from device_model.machine.workers import serve

def make(part):
    print("a library says", part)
    if part == "bad":
        raise ValueError("no such part")
    return part.encode() * 3

serve(make)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "echo.py").write_text(ECHO)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return "echo"


@pytest.mark.parametrize("names", [(), ("a",), ("a", "b", "c", "d", "e")])
def test_every_part_comes_back(module, names):
    assert dict(compile_parts(module, names)) == {name: name.encode() * 3 for name in names}


def test_the_current_folder_is_not_looked_into(module, tmp_path, monkeypatch):
    (folder := tmp_path / "untrusted").mkdir()
    for name in ("echo", "device_model", "subprocess"):
        (folder / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert dict(compile_parts(module, ("a",))) == {"a": b"aaa"}


def test_a_failure_says_what_the_process_said(module):
    with pytest.raises(CompilerError, match=r"`bad` was not compiled(?s:.*)no such part"):
        dict(compile_parts(module, ("bad",)))


def test_who_stops_early_leaves_no_process(module, monkeypatch):
    started = []

    class Counted(workers._Worker):
        def __init__(self, *given):
            super().__init__(*given)
            started.append(self._process)

    monkeypatch.setattr(workers, "_Worker", Counted)
    parts = compile_parts(module, ("a", "b", "c"))
    next(parts)
    parts.close()
    assert [process.poll() is not None for process in started] == [True] * workers.processes(3)
