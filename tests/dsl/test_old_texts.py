# SPDX-License-Identifier: Apache-2.0
"""What was written for an earlier state of the language is read, checked, and means what it meant.

`old/DATE/` holds texts with the blocks that they used, as the project had them on that day. `old/meaning.json` has what
the code of that day, not today's, counted for the bound ones. Texts are added, never edited; one that no longer passes
needs an entry in CHANGED that says why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsl.counting.footprint import footprint
from dsl.inference.inference import infer
from dsl.symbolic import text
from dsl.text.formatter import format_file
from dsl.text.parser import parse
from dsl.text.tree_builder import VERSIONS
from porting.planning.library import load_program, read_source
from sohu.api.checking import check_file

OLD = Path(__file__).with_name("old")
PATHS = sorted(OLD.rglob("*.sohu"))
WHOLE = [path for path in PATHS if path.parent.name in {"families", "ports"}]
MEANT = json.loads((OLD / "meaning.json").read_text(encoding="utf-8"))
CHANGED: dict[str, str] = {}
"""Texts that another version reads otherwise, with the reason; none so far."""


def name(path: Path) -> str:
    return path.relative_to(OLD).as_posix()


def test_there_are_texts_of_several_days_and_kinds() -> None:
    assert len({path.relative_to(OLD).parts[0] for path in WHOLE}) >= 5
    assert {name(path) for path in WHOLE if path.parent.name == "ports"} == set(MEANT)
    assert set(CHANGED) <= {name(path) for path in PATHS}


def test_old_texts_are_canonical_still() -> None:
    sources = [read_source(path, name(path)) for path in PATHS if name(path) not in CHANGED]
    assert [s.name for s in sources if format_file(parse(s)) != s.text] == []
    assert {parse(s).version for s in sources} <= set(VERSIONS)


@pytest.mark.parametrize("path", WHOLE, ids=name)
def test_an_old_text_passes_the_check(path: Path) -> None:
    said = [(d.code, d.message) for d in check_file(path).diagnostics]
    assert bool(said) == (name(path) in CHANGED), said


@pytest.mark.parametrize("port", MEANT)
def test_an_old_port_has_the_weights_and_the_state_that_it_had(port: str) -> None:
    program = load_program(OLD / port)
    graph = infer(program.family(), program.blocks, None).graph
    assert graph is not None
    counts = footprint(graph)
    meant = {key: MEANT[port][key] for key in ("parameters", "weights", "state")}
    assert {key: text(getattr(counts, key)) for key in meant} == meant
