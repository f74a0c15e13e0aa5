# SPDX-License-Identifier: Apache-2.0
"""Answers to the commands that a page tells, in this process where they are ours: torch and kernels load once."""

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

OURS = {"sohu": main, "port": port_main}


def answer(command: str) -> str:
    """Return what a command says: on standard error where it is refused; other programs must succeed, unheard."""
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
