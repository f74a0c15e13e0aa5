# SPDX-License-Identifier: Apache-2.0
"""`sohu env` says what a fault depends on, and nothing of who reports it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dsl.extras import EXTRAS
from sohu.commands import environment
from sohu.commands.cli import main


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, object]:
    home = tmp_path / "home" / "ann-example"
    (home / ".cache" / "sohu" / "gguf").mkdir(parents=True)
    (home / ".cache" / "sohu" / "gguf" / "x").write_bytes(bytes(100))
    (tmp_path / "ann-example" / "hub").mkdir(parents=True)
    for name in ("SOHU_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "ann-example" / "hub"))
    monkeypatch.setenv("SOHU_PATH", "/private/ann-example/texts")
    monkeypatch.setenv("LOGNAME", "ann-example")
    assert main(["env", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_package_is_told_of(told: dict[str, object]) -> None:
    assert set(told["packages"]) == {*EXTRAS, *environment.CORE}
    assert told["packages"]["numpy"]


def test_the_core_packages_are_those_of_the_project() -> None:
    import tomllib

    root = Path(__file__).parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert tuple(line.partition(">")[0] for line in project["dependencies"]) == environment.CORE


def test_caches_have_places_and_sizes(told: dict[str, object]) -> None:
    caches = {cache["name"]: cache for cache in told["caches"]}
    assert caches["gguf"] == {
        "name": "gguf", "place": "~/.cache/sohu/gguf", "files": 1, "bytes": 100,
    }  # fmt: skip
    assert caches["hub"]["place"].endswith("/USER/hub")


def test_nobody_is_named(told: dict[str, object]) -> None:
    assert "ann-example" not in json.dumps(told)
    assert "SOHU_PATH" in told["settings"]


def test_a_person_can_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["sohu"].strip()
    assert lines["memory"].strip().endswith("GiB")


def test_a_library_that_is_broken_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "device_model.kernels.dispatch", None)
    assert environment.environment().kernels.endswith(" cannot be imported")


def test_what_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_version", lambda name: None)
    found = environment.environment()
    assert set(found.packages.values()) == {None}
    assert found.kernels.startswith("cannot be compiled")
