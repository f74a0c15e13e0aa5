# SPDX-License-Identifier: Apache-2.0
"""The site builds without a warning, holds what there is, and no link of it is dead."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dsl.codes import CODES
from dsl.ops import AREAS, OPS
from handbook.dead_links import faults
from handbook.sources.contents import ROOT, pages
from porting.planning.library import ZOO
from sohu.commands.table import COMMANDS

BUILD = """
import sys
from pathlib import Path
from handbook.whole import make
wrong = make(Path(sys.argv[1]), Path(sys.argv[2]))
print(*wrong, *{"numba", "torch", "transformers"} & set(sys.modules), sep="\\n")
"""
SMALL = """
import sys
from pathlib import Path
from handbook.site import build
print(build(*map(Path, sys.argv[1:])))
"""


def python(code: str, *arguments: Path) -> str:
    """Return what a program says that runs in the checkout, in a process without pytest's filter of warnings."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a built site, of which nothing was said."""
    out = tmp_path_factory.mktemp("site")
    assert python(BUILD, out, tmp_path_factory.mktemp("work")).strip() == ""
    return out


def anchors(page: Path) -> set[str]:
    return set(re.findall(r'id="([^"]+)"', page.read_text(encoding="utf-8")))


def test_a_page_stands_for_everything_there_is(site: Path) -> None:
    reference = site / "reference"
    assert {code.lower() for code in CODES} <= anchors(reference / "diagnostics.html")
    assert {f"sohu-{name}" for name in COMMANDS} <= anchors(reference / "commands.html")
    operations = [anchors(reference / "operations" / f"{area}.html") for area in AREAS]
    assert {name.replace("_", "-") for name in OPS} <= set().union(*operations)
    files = {path.stem for path in (ZOO / "blocks").glob("*.sohu")} | {"index"}
    assert {path.stem for path in (reference / "blocks").glob("*.html")} == files
    assert {"sohu.port", "sohu.load", "sohu.Model.fit"} <= anchors(reference / "api.html")


def test_language_models_are_given_all_of_it(site: Path) -> None:
    short = (site / "llms.txt").read_text(encoding="utf-8")
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")
    linked = re.findall(r"^- \[.+?\]\((\S+?)\): ", short, re.MULTILINE)
    assert len(linked) > 50
    assert [link for link in linked if not (site / link).is_file()] == []
    assert len(re.findall(r"^<!-- \S+\.md -->$", whole, re.MULTILINE)) > len(pages())


def test_a_dead_reference_is_a_warning(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Title\n\n[words](nowhere.md) and [more](#no-such)\n")
    (source / "alone.md").write_text("# Not in the navigation\n")
    said = python(SMALL, source, tmp_path / "out", tmp_path / "memory")
    assert said.count("WARNING") == 3
    assert "nowhere.md" in said
    assert "no-such" in said
    assert "alone.md" in said


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ('<a href="other.html">x</a><a href="other.html#there">x</a><img src="a.svg">', ""),
        ('<a href="https://example.org/">x</a><p id="here"></p><a href="#here">x</a>', ""),
        ('<a href="nowhere.html">x</a>', "nowhere.html leads nowhere"),
        ('<a href="other.html#gone">x</a>', "other.html#gone has no such anchor"),
        ('<a href="#gone">x</a>', "#gone has no such anchor"),
        ('<script src="https://cdn.example.org/x.js"></script>', "fetches https://cdn"),
        ('<link rel="stylesheet" href="//fonts.example.org/f.css">', "fetches //fonts"),
        ('<img src="b.svg">', "b.svg leads nowhere"),
    ],
)
def test_what_is_wrong_with_links_is_seen(page: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "other.html").write_text('<p id="there"></p>')
    (tmp_path / "a.svg").write_text("<svg/>")
    lines = faults(tmp_path)
    assert len(lines) == bool(said)
    assert said in "".join(lines)


def test_a_style_sheet_from_elsewhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a { background: url('https://example.org/a.png') }")
    assert faults(tmp_path) == ["a.css: fetches url('https://example.org/a.png"]
