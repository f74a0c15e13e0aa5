# SPDX-License-Identifier: Apache-2.0
"""`sohu list`: every name of a kind, without parsing a text."""

from __future__ import annotations

import json

import pytest

from device_model.chips.chip import device_ids
from device_model.numbers.catalogue import known_numerics
from dsl.codes import CODES
from dsl.ops import OPS
from porting.planning import library
from porting.planning.library import parsed_families, zoo_texts
from sohu.commands.cli import main
from sohu.commands.listing import KINDS, listed

WHOLE = {"ops": OPS, "devices": device_ids(), "numerics": known_numerics(), "codes": CODES}


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_is_the_same_as_text_and_json(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    assert all(entry["about"] for entry in entries)
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [entry["name"] for entry in entries]


@pytest.mark.parametrize("kind", WHOLE)
def test_nothing_of_a_table_is_left_out(kind: str) -> None:
    assert {entry.name for entry in listed(kind)} == set(WHOLE[kind])


def test_texts_are_the_zoos_and_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = {a.value for file in parsed_families() for f in file.families for a in f.architectures}  # fmt: skip
    monkeypatch.setattr(library, "parse", None)
    names = [entry.name for kind in ("ports", "families", "blocks") for entry in listed(kind)]
    assert sorted(names) == sorted(zoo_texts())
    shown = {name for entry in listed("families") for name in entry.about.split(", ")}
    assert shown == claimed


def test_another_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "portz"]) == 2
    assert "error[S111]" in capsys.readouterr().err
