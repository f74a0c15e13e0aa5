# SPDX-License-Identifier: Apache-2.0
"""The wheel: it holds every module and every data file of the packages, says that it is typed, and nothing else.

`tox -e wheel` installs one and uses it; this builds one and looks into it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("device_model", "dsl", "model_zoo", "porting", "sohu")
NOT_SHIPPED = {"device_model/chips/README.md"}
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return what a wheel holds that is built from a copy, so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    for folder in ("farm", "tests"):
        (copy / folder).mkdir()
        (copy / folder / "__init__.py").touch()
    for file in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / file, copy)
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(copy)]
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    (wheel,) = copy.glob("sohu-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_packages_and_nothing_else(names: set[str]) -> None:
    shipped = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == shipped - NOT_SHIPPED


def test_every_package_says_that_it_is_typed(names: set[str]) -> None:
    assert {name for name in names if name.endswith("py.typed")} == {
        f"{package}/py.typed" for package in PACKAGES
    }
