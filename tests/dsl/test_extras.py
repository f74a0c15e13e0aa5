# SPDX-License-Identifier: Apache-2.0
"""Which extra brings a library: the table agrees with the project's metadata, and what is absent is named."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from dsl.diagnostics import Refused
from dsl.extras import EXTRAS, naming_extras, require

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
# What a requirement brings that is imported as well, by the requirement.
BROUGHT = {"numba": ("numba", "llvmlite"), "pygls": ("pygls", "lsprotocol")}


def _names(requirements: list[str]) -> set[str]:
    """Return the modules of requirements, without the project's own extras."""
    names = {re.split(r"[^\w.-]", r)[0].replace("-", "_") for r in requirements}
    return {module for name in names - {"sohu"} for module in BROUGHT.get(name, (name,))}


def test_the_table_is_that_of_the_project() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = {
        module: extra
        for extra, requirements in extras.items()
        if extra not in {"docs", "lint", "test"}
        for module in _names(requirements)
    }
    assert declared == dict(EXTRAS)


def test_the_core_brings_nothing_of_an_extra() -> None:
    assert _names(PROJECT["dependencies"]) & set(EXTRAS) == set()


def test_what_is_there_is_not_refused() -> None:
    require("numpy", "lark")


@pytest.mark.parametrize("module", sorted(EXTRAS))
def test_what_is_absent_is_refused_with_its_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for attempt in (lambda: require(module), lambda: __import__(module)):
        with pytest.raises(Refused) as caught, naming_extras():
            attempt()
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.code == "S517"
        assert diagnostic.message.startswith(f"{module} is not installed")
        assert diagnostic.help == f"pip install 'sohu[{EXTRAS[module]}]'"


def test_a_module_of_nobody_is_a_fault() -> None:
    with pytest.raises(ModuleNotFoundError), naming_extras():
        __import__("no_such_module_of_ours")
