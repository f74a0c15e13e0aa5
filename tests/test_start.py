# SPDX-License-Identifier: Apache-2.0
"""Pins stand in one place, and commands start without what they do not need."""

from __future__ import annotations

import subprocess
import sys
import tomllib

from tests.test_architecture import HEAVY, ROOT


def test_the_weights_of_the_demo_are_pinned_alike():
    from porting.origin.resolve import DEMO_INSTALL

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pin,) = project["dependency-groups"]["demo-weights"]
    assert DEMO_INSTALL.split()[-1] == pin


def test_check_starts_without_heavy_libraries():
    family = ROOT / "model_zoo" / "families" / "llama.sohu"
    command = [sys.executable, "-X", "importtime", "-m", "sohu", "check", str(family)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    loaded = {
        line.rsplit("|", 1)[-1].strip().split(".")[0]
        for line in result.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "dsl" in loaded
    assert loaded & HEAVY == set()


def test_the_language_imports_no_number_library():
    script = "import dsl, sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert loaded & (HEAVY | {"numpy", "safetensors", "device_model", "porting", "sohu"}) == set()
