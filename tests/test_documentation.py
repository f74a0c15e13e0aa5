"""What the README shows must exist, and what the tour shows must happen."""

from __future__ import annotations

import doctest
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from sohu.commands.cli import main
from sohu.commands.table import COMMANDS
from tests.test_architecture import STAIRS, modules

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


def test_every_local_link_leads_somewhere() -> None:
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in x]
    assert links
    assert [x for x in links if not (ROOT / x).exists()] == []


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
