"""docs/your-own-architecture.md happens as it is told; `tox -e wheel` does the same with the wheel alone."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from sohu.commands.cli import main, port_main
from tests.sohu.told_pages import OWN_ARCHITECTURE, Told, follow

OURS = {"sohu": main, "port": port_main}


def test_the_page_happens_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delitem(sys.modules, "heron", raising=False)

    def answer(command: str) -> str:
        words = shlex.split(command)
        with pytest.MonkeyPatch.context() as patch:
            while "=" in words[0]:
                patch.setenv(*words.pop(0).split("="))
            if words[0] not in OURS:
                path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
                patch.setenv("PATH", path)
                subprocess.run(words, check=True)
                return ""
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                status = OURS[words[0]](words[1:])
        return (err if status == 2 else out).getvalue()

    assert follow(OWN_ARCHITECTURE, tmp_path, answer) == 10
    sys.modules.pop("heron", None)


@pytest.mark.parametrize(
    ("lines", "agrees"),
    [
        (("a", "b 1.00e-05"), True),
        (("a",), False),
        (("a", "…"), True),
        (("…", "b 2.34e-07"), True),
        (("…", "b", "…"), False),
        (("b 1.00e-05", "a"), False),
        ((), False),
    ],
)
def test_an_answer_is_compared_line_by_line(lines: tuple[str, ...], agrees: bool) -> None:
    assert Told("", lines).agrees("a  \n\nb 9.99e-06\n") is agrees
