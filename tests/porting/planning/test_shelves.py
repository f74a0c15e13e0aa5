# SPDX-License-Identifier: Apache-2.0
"""Families of one's own: which one ports a model, what they may use, and what is said of shelves that are broken."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dsl.diagnostics import Diagnostic, Refused, Severity
from porting.config.reader import read_config
from porting.planning.library import ZOO, load_program
from porting.planning.shelves import PATH, Search, search
from sohu.commands.cli import main, port_main
from tests.checkpoints import tiny_llama

LLAMA = (ZOO / "families" / "llama.sohu").read_text()
CLAIMED = "LlamaForCausalLM"


def family(folder: Path, name: str, claims: str = CLAIMED) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = LLAMA.replace("family llama ", f"family {name} ")
    head, _, tail = text.partition(" for ")
    path = folder / f"{name}.sohu"
    path.write_text(f'{head} for "{claims}" {tail[tail.index("{") :]}')
    return path


def distribution(folder: Path, name: str, points: str) -> Path:
    """Lay down what pip would: a package of data, and the entry points that name it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sohu.families]\n{points}\n")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def chosen(found: Search) -> tuple[str, tuple[str, ...]]:
    assert found.chosen is not None
    return found.chosen.program.family().name.id, found.chosen.notes


def refused(*arguments: object) -> Diagnostic:
    with pytest.raises(Refused) as caught:
        search(*arguments)
    return caught.value.diagnostics[0]


def test_the_zoo_says_nothing() -> None:
    assert chosen(search(CLAIMED)) == ("llama", ())
    assert search("NobodysForCausalLM") == Search(None)


@pytest.mark.parametrize("inner", ["", "families"])
def test_a_folder_of_the_path_stands_before_the_zoo(
    inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family(tmp_path / "mine" / inner, "mine")
    monkeypatch.setenv(PATH, str(tmp_path / "mine"))
    name, (note,) = chosen(search(CLAIMED))
    assert name == "mine"
    assert "SOHU_PATH" in note
    assert "before that of the zoo" in note


def test_the_first_folder_of_the_path_wins_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        family(tmp_path / name, name, "MineForCausalLM")
    both = [str(tmp_path / name) for name in ("two", "one")]
    monkeypatch.setenv(PATH, os.pathsep.join(["", *both]))
    name, (note,) = chosen(search("MineForCausalLM"))
    assert name == "two"
    assert f"before that of SOHU_PATH, {both[1]}" in note


def test_a_folder_of_the_path_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATH, str(tmp_path / "nothere"))
    assert refused(CLAIMED).code == "S229"
    assert chosen(search(CLAIMED, family(tmp_path, "mine")))[0] == "mine"


def test_two_of_one_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        family(tmp_path, name)
    monkeypatch.setenv(PATH, str(tmp_path))
    assert refused(CLAIMED).code == "S228"


def test_a_file_ports_what_it_is_told_to(tmp_path: Path) -> None:
    mine = family(tmp_path, "mine", "MineForCausalLM")
    assert chosen(search("MineForCausalLM", mine)) == ("mine", (f"the family is `mine` of {mine}",))
    name, (note,) = chosen(search(CLAIMED, mine))
    assert name == "mine"
    assert note.endswith(f"which does not itself claim {CLAIMED}")
    assert refused(CLAIMED, tmp_path / "nothere.sohu").code == "S108"
    assert refused(CLAIMED, ZOO / "blocks" / "norm.sohu").code == "S226"


def test_a_text_uses_its_own_folder_then_its_shelf_then_the_zoo(tmp_path: Path) -> None:
    mine = family(tmp_path / "families", "mine")
    (tmp_path / "blocks").mkdir()
    norm = tmp_path / "blocks" / "norm.sohu"
    norm.write_text((ZOO / "blocks" / "norm.sohu").read_text())
    _, notes = chosen(search(CLAIMED, mine))
    assert notes[1:] == ("`blocks/norm.sohu` is the family's own, not the zoo's",)
    used = {file.span.source.name for file in load_program(mine).files}
    assert str(norm) in used
    assert "model_zoo/blocks/mlp.sohu" in used


def test_a_text_uses_nothing_outside(tmp_path: Path) -> None:
    mine = family(tmp_path / "mine", "mine")
    (tmp_path / "out.sohu").write_text((ZOO / "blocks" / "norm.sohu").read_text())
    (tmp_path / "mine" / "link.sohu").symlink_to("../out.sohu")
    for path in ("../out.sohu", str(tmp_path / "out.sohu"), "link.sohu"):
        text = mine.read_text().replace('use "blocks/norm.sohu"', f'use "{path}"')
        other = tmp_path / "mine" / "other.sohu"
        other.write_text(text)
        assert refused(CLAIMED, other).code == "S227"


def test_an_installed_distribution_brings_families_and_runs_no_code(site: Path) -> None:
    family(site / "acme_texts" / "inner" / "families", "acme", "AcmeForCausalLM")
    for package in ("acme_texts", "acme_texts/inner"):
        (site / package / "__init__.py").write_text("raise SystemExit('code was run')")
    distribution(site, "acme", "acme = acme_texts.inner")
    name, (note,) = chosen(search("AcmeForCausalLM"))
    assert name == "acme"
    assert "distribution acme" in note
    assert "acme_texts" not in sys.modules


BROKEN = {
    "not there": "acme = acme_nowhere",
    "an attribute": "acme = acme_texts:folder",
    "a way out": "acme = acme_texts...",
    "a module": "acme = acme_module",
    "nothing in the package": "acme = acme_texts.nothere",
}


@pytest.mark.parametrize("points", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_distribution_is_named_and_the_zoo_still_serves(points: str, site: Path) -> None:
    (site / "acme_texts").mkdir()
    (site / "acme_module.py").touch()
    distribution(site, "acme", points)
    result = search(CLAIMED)
    assert chosen(result) == ("llama", ())
    assert [(w.code, w.severity) for w in result.warnings] == [("S229", Severity.WARNING)]
    assert "distribution acme" in result.warnings[0].message


def test_a_distribution_with_a_broken_text_is_named(site: Path) -> None:
    family(site / "acme_texts", "acme").write_text(f'sohu 1.0 family acme for "{CLAIMED}" {{{{')
    distribution(site, "acme", "acme = acme_texts")
    result = search(CLAIMED)
    assert chosen(result) == ("llama", ())
    (warning,) = result.warnings
    assert warning.code == "S229"
    assert "distribution acme" in warning.message


def test_two_distributions_that_claim_one_architecture_are_refused(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("acme", "bolt"):
        family(site / f"{name}_texts", name)
        distribution(site, name, f"{name} = {name}_texts")
    wrong = refused(CLAIMED)
    assert wrong.code == "S228"
    assert "distribution acme and distribution bolt" in wrong.message
    family(tmp_path / "mine", "mine")
    monkeypatch.setenv(PATH, str(tmp_path / "mine"))
    assert chosen(search(CLAIMED))[0] == "mine"


def test_a_port_says_whose_family_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_llama(tmp_path / "model")
    mine = family(tmp_path / "mine", "mine")
    assert read_config(model).architecture == CLAIMED
    command = [str(model), "--plan", "--json", "--out", str(tmp_path / "port")]
    assert port_main([*command, "--family", str(mine)]) == 0
    assert f"the family is `mine` of {mine}" in capsys.readouterr().out
    monkeypatch.setenv(PATH, str(mine.parent))
    assert port_main(command) == 0
    assert "before that of the zoo" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "port" / "model.sohu")]) == 0
