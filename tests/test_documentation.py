"""What the README shows must exist."""

from __future__ import annotations

import re
from pathlib import Path

from sohu.commands.cli import _parser
from sohu.commands.table import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_shown_layer_is_the_familys() -> None:
    shown = re.search(r"```sohu\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    family = (ROOT / "model_zoo/families/llama.sohu").read_text(encoding="utf-8")
    assert shown.group(1) in family


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"^\| `(?:sohu )?(\w+)", README, re.MULTILINE))
    assert set(COMMANDS) <= listed
    assert _parser().prog == "sohu"


def test_every_local_link_leads_somewhere() -> None:
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in x]
    assert links
    assert [x for x in links if not (ROOT / x).exists()] == []
