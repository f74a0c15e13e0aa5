# SPDX-License-Identifier: Apache-2.0
"""What the README shows must exist, and what the tour shows must happen."""

from __future__ import annotations

import doctest
import io
import json
import re
import tomllib
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from sohu.commands.cli import main
from sohu.commands.table import COMMANDS
from tests.house_map import STAIRS
from tests.test_architecture import modules

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.md"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_shown_layer_is_the_familys() -> None:
    shown = re.search(r"```sohu\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    family = (ROOT / "model_zoo/families/llama.sohu").read_text(encoding="utf-8")
    assert shown.group(1) in family


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"^\| `(?:sohu )?(\w+)", README, re.MULTILINE))
    assert set(COMMANDS) <= listed


PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "skills/**/*.md", "editors/**/*.md", "dsl/*.md")
    for path in ROOT.glob(pattern)
)


def test_every_local_link_leads_somewhere() -> None:
    links = {
        (path, target)
        for path in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        if "://" not in target
    }
    assert {path.name for path, _ in links} >= {"README.md", "SKILL.md", "CONTRIBUTING.md"}
    assert sorted(f"{p}: {x}" for p, x in links if not (p.parent / x).exists()) == []


def test_commands_of_the_pages_for_joiners_exist() -> None:
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for name in ("AGENTS.md", "CONTRIBUTING.md", "skills/port-a-model/SKILL.md"):
        page = (ROOT / name).read_text(encoding="utf-8")
        assert set(re.findall(r"^(?:\$ )?sohu (\w+)", page, re.MULTILINE)) <= set(COMMANDS)
        assert set(re.findall(r"\bmake ([a-z]+)\b", page)) - {"a", "verdict"} <= targets, name


def test_what_is_cited_and_packed_has_the_projects_version() -> None:
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for key in ("version", "license"):
        assert re.findall(rf"^{key}: (\S+)$", cited, re.MULTILINE) == [project[key]]


@pytest.mark.f32
def test_the_tour_happens_as_it_is_told(tmp_path: Path) -> None:
    def sohu(*words: object) -> object:
        with redirect_stdout(io.StringIO()) as printed:
            main([*map(str, words), "--json"])
        return json.loads(printed.getvalue())

    given = {"folder": tmp_path, "sohu": sohu}
    told = TOUR.read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(told, given, TOUR.name, str(TOUR), 0)
    assert len(test.examples) > 40
    problems: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=problems.append)
    assert "".join(problems) == ""


def test_the_tour_passes_every_room() -> None:
    told = TOUR.read_text(encoding="utf-8")
    rooms = {f"{m.package}/{m.room}" for m in modules() if m.room != "."}
    assert sorted(room for room in rooms if f"`{room}`" not in told) == []
    named = {room for stair in STAIRS.values() for room in stair}
    walked = re.findall(r"`(?:dsl|device_model|porting|sohu|farm)/(\w+)`", told)
    assert sorted(set(walked) - named) == []
