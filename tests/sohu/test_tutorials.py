# SPDX-License-Identifier: Apache-2.0
"""The tutorials happen as they are told: their files are written, their commands given, their answers compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sohu.at_hand import answer
from tests.sohu.told_pages import ROOT, commands, follow

DOCS = ROOT / "docs"
TUTORIALS = {
    "model": ("first-hour", "find-a-wrong-operation", "let-it-answer"),
    "schedule": ("collectives",),
    "text": ("text-of-your-own", "split-over-chips", "mesh", "design-question"),
}
"""Pages that go on in each other's folder, in order."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    return tmp_path


@pytest.mark.parametrize("first", TUTORIALS)
def test_tutorials_happen_as_they_are_told(first: str, folder: Path) -> None:
    done = {name: follow(DOCS / f"{name}.md", folder, answer) for name in TUTORIALS[first]}
    assert min(done.values()) > 0


def test_every_tutorial_of_the_contents_is_followed() -> None:
    contents = (DOCS / "README.md").read_text(encoding="utf-8")
    section = contents.partition("## Tutorials")[2].partition("\n## ")[0]
    followed = {name for names in TUTORIALS.values() for name in names}
    assert {*followed, "your-own-architecture"} == {
        line.partition("](")[2].partition(".md")[0]
        for line in section.splitlines()
        if line.startswith("* ")
    }
    assert all(commands(DOCS / f"{name}.md") for name in followed)
