# SPDX-License-Identifier: Apache-2.0
"""Every code that a text can show has a pair in `tests/errors`: the text, and what is said about it.

The pairs are read in review, since a message that nobody reads rots.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dsl.codes import CODES
from dsl.diagnostics import Refused, Severity, render_all
from dsl.source import Source
from dsl.text.parser import MAX_CHARACTERS, MAX_WORDS, parse
from porting.planning import library
from tests.conftest import TESTS, Golden
from tests.dsl.reporting import reported

PAIRS = sorted((TESTS / "errors").glob("*.sohu"))
# Faults of texts and configs; the other codes are about checkpoints, origins and devices.
OF_TEXTS = re.compile(r"S([123]\d\d|40\d)")
# Codes that no single text can show, and the test below that shows them.
WITHOUT_PAIR = {
    "S630": "tests/device_model/collectives/test_find.py",
    "S618": "tests/device_model/mesh/test_rank_plans.py",
    "S106": "test_a_file_beyond_the_limit_is_refused",
    "S108": "test_a_file_that_cannot_be_read_is_refused",
    "S109": "tests/sohu/commands/test_command_line.py",
    "S110": "tests/sohu/commands/test_faults.py",
    "S111": "tests/sohu/commands/test_parsing.py",
    "S112": "tests/sohu/commands/test_beginning.py",
    "S118": "tests/sohu/agents/test_server.py",
    "S119": "tests/sohu/agents/test_server.py",
    "S305": "tests/sohu/commands/test_costing.py",
    "S306": "tests/sohu/commands/test_costing.py",
    "S228": "test_an_architecture_belongs_to_one_family",
    "S229": "tests/porting/planning/test_shelves.py",
    "S404": "test_an_architecture_without_a_family_is_refused",
}


def code(path: Path) -> str:
    return path.stem.split("_")[0]


@pytest.mark.parametrize("path", PAIRS, ids=lambda p: p.stem)
def test_what_is_said(path: Path, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)
    found = reported(path.relative_to(TESTS))
    assert {d.code for d in found} == {code(path)}
    golden(render_all(found) + "\n", f"errors/{path.stem}.expect")


def test_every_code_has_a_pair() -> None:
    wanted = {c for c in CODES if OF_TEXTS.fullmatch(c)}
    assert {code(path) for path in PAIRS} == wanted - set(WITHOUT_PAIR)


@pytest.mark.parametrize(("missing", "test"), WITHOUT_PAIR.items())
def test_every_other_code_has_a_test(missing: str, test: str) -> None:
    place = TESTS.parent / test if test.endswith(".py") else Path(__file__)
    text = place.read_text(encoding="utf-8")
    assert (missing in text) if test.endswith(".py") else (f"def {test}(" in text)


def test_no_expectation_without_a_text() -> None:
    expected = {p.stem for p in (TESTS / "errors").glob("*.expect")}
    assert expected == {p.stem for p in PAIRS}


@pytest.mark.parametrize("path", PAIRS, ids=lambda p: p.stem)
def test_places_are_inside_of_their_files(path: Path) -> None:
    for diagnostic in reported(path):
        for span in filter(None, (diagnostic.span, *(x.span for x in diagnostic.labels))):
            assert 0 <= span.start <= span.end <= len(span.source.text)


def test_only_the_cap_on_paths_is_a_warning() -> None:
    warnings = {d.code for p in PAIRS for d in reported(p) if d.severity is Severity.WARNING}
    assert warnings == {"S219"}


def test_every_code_has_its_explanation() -> None:
    for name, row in CODES.items():
        assert re.fullmatch(r"S\d{3}", name)
        assert not row.title.endswith(".")
        assert row.explanation.endswith((".", "?"))


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        parse(Source("long.sohu", "#" * (MAX_CHARACTERS + 1)))
    assert [d.code for d in refused.value.diagnostics] == ["S106"]
    with pytest.raises(Refused) as refused:
        parse(Source("long.sohu", "x " * (MAX_WORDS + 1)))
    assert [d.code for d in refused.value.diagnostics] == ["S106"]
    path = tmp_path / "long.sohu"
    path.write_text("#" * (4 * MAX_CHARACTERS + 1))
    assert [d.code for d in reported(path)] == ["S106"]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.sohu"
    latin.write_bytes("# größer".encode("latin-1"))
    for path in (latin, tmp_path, tmp_path / "none.sohu"):
        with pytest.raises(Refused) as refused:
            library.load_program(path)
        assert [d.code for d in refused.value.diagnostics] == ["S108"]


def test_an_architecture_belongs_to_one_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "families").mkdir()
    for name in ("one", "two"):
        text = f'sohu 1.0\n\nfamily {name} for "TwinForCausalLM" {{\n}}\n'
        (tmp_path / "families" / f"{name}.sohu").write_text(text)
    monkeypatch.setattr(library, "ZOO", tmp_path)
    with pytest.raises(Refused) as refused:
        library.family_for("TwinForCausalLM")
    (found,) = refused.value.diagnostics
    assert found.code == "S228"
    assert found.span is not None
    assert found.span.text == '"TwinForCausalLM"'


def test_an_architecture_without_a_family_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        library.family_for("LlamaForCausalLm")
    (found,) = refused.value.diagnostics
    assert found.code == "S404"
    assert "LlamaForCausalLM" in found.help
